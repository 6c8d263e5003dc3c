//! What a checked assertion consists of, and its one normal form.

use std::fmt;

use super::dimension::{Dimension, Unit};
use super::registry::Metric;
use crate::diagnostic::Span;

/// A checked comparison: metrics exist, aggregates are legal, dimensions agree.
#[derive(Clone, Debug, PartialEq)]
pub struct Assertion {
    /// The left side.
    pub left: Expression,
    /// How the sides are compared.
    pub comparison: Comparison,
    /// The right side.
    pub right: Expression,
    /// What both sides are numbers of.
    pub dimension: Dimension,
    /// Both sides are shares, shown in percent.
    pub share: bool,
}

/// How two sides are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Comparison {
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
    /// `==`
    Equal,
    /// `!=`
    Different,
}

impl Comparison {
    /// As written in the normal form.
    pub fn symbol(self) -> &'static str {
        match self {
            Comparison::Less => "<",
            Comparison::AtMost => "<=",
            Comparison::Greater => ">",
            Comparison::AtLeast => ">=",
            Comparison::Equal => "==",
            Comparison::Different => "!=",
        }
    }

    /// Whether `left` stands so to `right`.
    pub fn holds(self, left: f64, right: f64) -> bool {
        match self {
            Comparison::Less => left < right,
            Comparison::AtMost => left <= right,
            Comparison::Greater => left > right,
            Comparison::AtLeast => left >= right,
            Comparison::Equal => left == right,
            Comparison::Different => left != right,
        }
    }
}

/// One side of a comparison, or a part of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Expression {
    /// A pure number.
    Number(f64),
    /// A number with a unit, as written.
    Quantity(f64, &'static Unit),
    /// A share in percent, as written: of the other operand of `+` or `-`, or of one.
    Percent(f64),
    /// Percentage points.
    Points(f64),
    /// Something measured.
    Measure(Measure),
    /// The same, in the baseline report.
    Baseline(Measure),
    /// `left + right` and the like.
    Binary(Operator, Box<Expression>, Box<Expression>),
    /// `max(…)` or `min(…)` of several.
    Extreme(Extreme, Vec<Expression>),
}

/// An arithmetic operator.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operator {
    /// `+`
    Add,
    /// `-`
    Subtract,
    /// `*`, also written `of`
    Multiply,
    /// `/`
    Divide,
}

/// The largest or the smallest of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Extreme {
    /// `max(…)`
    Max,
    /// `min(…)`
    Min,
}

/// Something measured: a metric under an aggregate, perhaps pinned to some cells.
#[derive(Clone, Debug)]
pub struct Measure {
    /// Ids that stand before the metric: `sglang.ttft.p95`.
    pub pins: Vec<(Dim, String)>,
    /// The metric.
    pub metric: &'static Metric,
    /// What is made of its values.
    pub aggregate: Aggregate,
    /// The conditions in braces: `{stage=c16, gpu=*}`.
    pub selector: Vec<Condition>,
    /// Where it was written.
    pub span: Span,
}

impl PartialEq for Measure {
    /// Where it was written does not matter.
    fn eq(&self, other: &Measure) -> bool {
        self.pins == other.pins
            && self.metric == other.metric
            && self.aggregate == other.aggregate
            && self.selector == other.selector
    }
}

/// What is made of a metric's values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Aggregate {
    /// The value itself: rates, counters, flows and derived metrics.
    Whole,
    /// `p95`
    Percentile(Percentile),
    /// `mean`
    Mean,
    /// `min`
    Min,
    /// `max`
    Max,
    /// `std`
    Std,
    /// `sum`
    Sum,
    /// `count`
    Count,
    /// `rate`
    Rate,
    /// `last`
    Last,
}

/// A percentile between 0 and 100, both excluded, in steps of 0.001.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Percentile(u32);

impl Percentile {
    /// The percentile `per_100k / 1000`, if it lies between 0 and 100.
    pub const fn new(per_100k: u32) -> Option<Percentile> {
        if per_100k > 0 && per_100k < 100_000 {
            Some(Percentile(per_100k))
        } else {
            None
        }
    }

    /// Reads what stands behind the `p`: `95`, `99.9`.
    pub fn read(text: &str) -> Option<Percentile> {
        let (whole, part) = text.split_once('.').unwrap_or((text, ""));
        let digits = |t: &str| t.bytes().all(|b| b.is_ascii_digit());
        if whole.is_empty() || whole.len() > 2 || part.len() > 3 || !digits(whole) || !digits(part)
        {
            return None;
        }
        Percentile::new(format!("{whole}{part:0<3}").parse().ok()?)
    }

    /// In hundred-thousandths of the whole: 95 000 for p95.
    pub fn per_100k(self) -> u32 {
        self.0
    }

    /// As a fraction: 0.95 for p95.
    pub fn fraction(self) -> f64 {
        f64::from(self.0) / 1e5
    }

    /// The nearest rank among `n` values, from 1, in integers: ⌈p·n⌉, at least 1.
    pub fn rank(self, n: u64) -> u64 {
        ((u128::from(n) * u128::from(self.0)).div_ceil(100_000) as u64).max(1)
    }

    /// Samples below which it cannot be judged: 20 for p95, 100 for p99.
    pub fn fewest(self) -> u64 {
        let tail = self.0.min(100_000 - self.0);
        100_000u64.div_ceil(u64::from(tail))
    }

    /// Samples that the distribution-free one-sided 95 % bound needs: 29 for p90, 59 for p95, 299 for p99, 2995 for p99.9.
    pub fn enough(self) -> u64 {
        self.enough_for(0.95)
    }

    /// Samples that the distribution-free one-sided bound needs at a confidence above 0 and below 1: `ln(1 − confidence) ÷ ln q`.
    pub fn enough_for(self, confidence: f64) -> u64 {
        let q = f64::from(self.0.max(100_000 - self.0)) / 1e5;
        (libm::log(1.0 - confidence) / libm::log(q)).ceil() as u64
    }
}

impl fmt::Display for Percentile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (whole, part) = (self.0 / 1000, self.0 % 1000);
        if part == 0 {
            write!(f, "p{whole}")
        } else {
            write!(f, "p{whole}.{}", format!("{part:03}").trim_end_matches('0'))
        }
    }
}

impl fmt::Display for Aggregate {
    /// The name behind a path; empty for the value itself.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Aggregate::Whole => Ok(()),
            Aggregate::Percentile(percentile) => write!(f, "{percentile}"),
            Aggregate::Mean => f.write_str("mean"),
            Aggregate::Min => f.write_str("min"),
            Aggregate::Max => f.write_str("max"),
            Aggregate::Std => f.write_str("std"),
            Aggregate::Sum => f.write_str("sum"),
            Aggregate::Count => f.write_str("count"),
            Aggregate::Rate => f.write_str("rate"),
            Aggregate::Last => f.write_str("last"),
        }
    }
}

/// A dimension of the matrix, or of what is inside a cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(missing_docs, reason = "the names are the dimensions'")]
pub enum Dim {
    Backend,
    Model,
    Prompts,
    Load,
    Stage,
    Users,
    Rate,
    Category,
    Turn,
    Cache,
    Gpu,
    Repeat,
    Tag(String),
}

impl Dim {
    /// Every dimension that has a fixed name, in the order of documents.
    pub const NAMES: [&str; 12] = [
        "backend", "model", "prompts", "load", "stage", "users", "rate", "category", "turn",
        "cache", "gpu", "repeat",
    ];

    /// The dimension with this name.
    pub fn find(name: &str) -> Option<Dim> {
        Some(match name {
            "backend" => Dim::Backend,
            "model" => Dim::Model,
            "prompts" => Dim::Prompts,
            "load" => Dim::Load,
            "stage" => Dim::Stage,
            "users" => Dim::Users,
            "rate" => Dim::Rate,
            "category" => Dim::Category,
            "turn" => Dim::Turn,
            "cache" => Dim::Cache,
            "gpu" => Dim::Gpu,
            "repeat" => Dim::Repeat,
            other => Dim::Tag(
                other
                    .strip_prefix("tag.")
                    .filter(|tag| !tag.is_empty())?
                    .to_owned(),
            ),
        })
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Dim::Backend => "backend",
            Dim::Model => "model",
            Dim::Prompts => "prompts",
            Dim::Load => "load",
            Dim::Stage => "stage",
            Dim::Users => "users",
            Dim::Rate => "rate",
            Dim::Category => "category",
            Dim::Turn => "turn",
            Dim::Cache => "cache",
            Dim::Gpu => "gpu",
            Dim::Repeat => "repeat",
            Dim::Tag(name) => return write!(f, "tag.{name}"),
        })
    }
}

/// One condition of a selector: `stage=c16`, `users<=50`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// What is looked at.
    pub dim: Dim,
    /// How it is compared.
    pub test: Test,
    /// With what.
    pub value: String,
}

/// How a condition compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Test {
    /// `=`
    Is,
    /// `!=`
    IsNot,
    /// `=~`: alternatives with `|`, `*` for anything
    Like,
    /// `<`
    Less,
    /// `<=`
    AtMost,
    /// `>`
    Greater,
    /// `>=`
    AtLeast,
}

impl Test {
    /// As written.
    pub fn symbol(self) -> &'static str {
        match self {
            Test::Is => "=",
            Test::IsNot => "!=",
            Test::Like => "=~",
            Test::Less => "<",
            Test::AtMost => "<=",
            Test::Greater => ">",
            Test::AtLeast => ">=",
        }
    }
}

impl Condition {
    /// Whether something with this value meets the condition. Numbers are compared as numbers where both are.
    pub fn admits(&self, value: &str) -> bool {
        let numbers = || Some((number_in(value)?, number_in(&self.value)?));
        match self.test {
            Test::Is => {
                self.value == "*" || value == self.value || numbers().is_some_and(|(a, b)| a == b)
            }
            Test::IsNot => value != self.value && numbers().is_none_or(|(a, b)| a != b),
            Test::Like => self.value.split('|').any(|pattern| like(pattern, value)),
            Test::Less => numbers().is_some_and(|(a, b)| a < b),
            Test::AtMost => numbers().is_some_and(|(a, b)| a <= b),
            Test::Greater => numbers().is_some_and(|(a, b)| a > b),
            Test::AtLeast => numbers().is_some_and(|(a, b)| a >= b),
        }
    }
}

/// A number, with or without `/s` behind it.
fn number_in(text: &str) -> Option<f64> {
    let number: f64 = text.trim().trim_end_matches("/s").trim().parse().ok()?;
    number.is_finite().then_some(number)
}

fn like(pattern: &str, value: &str) -> bool {
    let parts: Vec<&str> = pattern
        .trim()
        .split('*')
        .map(|part| part.trim_end_matches('.'))
        .collect();
    let (first, last) = (parts[0], parts[parts.len() - 1]);
    if parts.len() == 1 {
        return value == first;
    }
    let Some(mut rest) = value.strip_prefix(first) else {
        return false;
    };
    for part in &parts[1..parts.len() - 1] {
        match rest.find(part) {
            Some(at) => rest = &rest[at + part.len()..],
            None => return false,
        }
    }
    rest.ends_with(last)
}

impl Assertion {
    /// The one normal form: `ttft.p95 < 500ms`.
    pub fn normal(&self) -> String {
        format!("{} {} {}", self.left, self.comparison.symbol(), self.right)
    }

    /// Its measures in order of appearance; those of a baseline are not among them.
    pub fn measures(&self) -> Vec<&Measure> {
        let mut found = self.left.measures();
        self.right.collect(&mut found);
        found
    }

    /// Whether it needs a baseline report.
    pub fn needs_baseline(&self) -> bool {
        self.left.has_baseline() || self.right.has_baseline()
    }

    /// The same with numbers in base units in place of `baseline(…)`.
    ///
    /// # Errors
    /// What `value` says of a measure that the baseline does not tell.
    pub fn with_baseline<E>(
        &self,
        mut value: impl FnMut(&Measure) -> Result<f64, E>,
    ) -> Result<Assertion, E> {
        Ok(Assertion {
            left: self.left.with_baseline(&mut value)?,
            right: self.right.with_baseline(&mut value)?,
            ..self.clone()
        })
    }

    /// The aggregate of its first measure as written in names: `p95`; empty when there is none.
    pub fn aggregate_name(&self) -> String {
        self.measures()
            .first()
            .map(|measure| measure.aggregate.to_string())
            .unwrap_or_default()
    }
}

impl Expression {
    /// Its measures in order of appearance; those of a baseline are not among them.
    pub fn measures(&self) -> Vec<&Measure> {
        let mut found = Vec::new();
        self.collect(&mut found);
        found
    }

    pub(super) fn collect<'a>(&'a self, found: &mut Vec<&'a Measure>) {
        match self {
            Expression::Measure(measure) => found.push(measure),
            Expression::Binary(_, left, right) => {
                left.collect(found);
                right.collect(found);
            }
            Expression::Extreme(_, parts) => parts.iter().for_each(|part| part.collect(found)),
            Expression::Number(_)
            | Expression::Quantity(..)
            | Expression::Percent(_)
            | Expression::Points(_)
            | Expression::Baseline(_) => {}
        }
    }

    fn with_baseline<E>(
        &self,
        value: &mut impl FnMut(&Measure) -> Result<f64, E>,
    ) -> Result<Expression, E> {
        Ok(match self {
            Expression::Baseline(measure) => Expression::Number(value(measure)?),
            Expression::Binary(operator, left, right) => Expression::Binary(
                *operator,
                Box::new(left.with_baseline(value)?),
                Box::new(right.with_baseline(value)?),
            ),
            Expression::Extreme(extreme, parts) => Expression::Extreme(
                *extreme,
                parts
                    .iter()
                    .map(|part| part.with_baseline(value))
                    .collect::<Result<_, E>>()?,
            ),
            Expression::Number(_)
            | Expression::Quantity(..)
            | Expression::Percent(_)
            | Expression::Points(_)
            | Expression::Measure(_) => self.clone(),
        })
    }

    fn has_baseline(&self) -> bool {
        match self {
            Expression::Baseline(_) => true,
            Expression::Binary(_, left, right) => left.has_baseline() || right.has_baseline(),
            Expression::Extreme(_, parts) => parts.iter().any(Expression::has_baseline),
            Expression::Number(_)
            | Expression::Quantity(..)
            | Expression::Percent(_)
            | Expression::Points(_)
            | Expression::Measure(_) => false,
        }
    }

    fn binds(&self) -> u8 {
        match self {
            Expression::Binary(Operator::Add | Operator::Subtract, ..) => 1,
            Expression::Binary(Operator::Multiply | Operator::Divide, ..) => 2,
            _ => 3,
        }
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Expression::Number(number) => write!(f, "{number}"),
            Expression::Quantity(number, unit) => write!(f, "{number}{}", unit.text),
            Expression::Percent(number) => write!(f, "{number}%"),
            Expression::Points(number) => write!(f, "{number}pp"),
            Expression::Measure(measure) => write!(f, "{measure}"),
            Expression::Baseline(measure) => write!(f, "baseline({measure})"),
            Expression::Binary(operator, left, right) => {
                let symbol = match operator {
                    Operator::Add => "+",
                    Operator::Subtract => "-",
                    Operator::Multiply => "*",
                    Operator::Divide => "/",
                };
                write_operand(f, left, left.binds() < self.binds())?;
                write!(f, " {symbol} ")?;
                write_operand(f, right, right.binds() <= self.binds())
            }
            Expression::Extreme(extreme, parts) => {
                f.write_str(match extreme {
                    Extreme::Max => "max(",
                    Extreme::Min => "min(",
                })?;
                for (i, part) in parts.iter().enumerate() {
                    if i > 0 {
                        f.write_str(", ")?;
                    }
                    write!(f, "{part}")?;
                }
                f.write_str(")")
            }
        }
    }
}

fn write_operand(
    f: &mut fmt::Formatter<'_>,
    operand: &Expression,
    parentheses: bool,
) -> fmt::Result {
    if parentheses {
        write!(f, "({operand})")
    } else {
        write!(f, "{operand}")
    }
}

impl fmt::Display for Measure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (_, id) in &self.pins {
            write!(f, "{id}.")?;
        }
        f.write_str(self.metric.name)?;
        if !self.selector.is_empty() {
            f.write_str("{")?;
            for (i, condition) in self.selector.iter().enumerate() {
                let comma = if i > 0 { ", " } else { "" };
                write!(f, "{comma}{}{}", condition.dim, condition.test.symbol())?;
                if plain_value(&condition.value) {
                    write!(f, "{}", condition.value)?;
                } else {
                    write!(f, "\"{}\"", condition.value)?;
                }
            }
            f.write_str("}")?;
        }
        if self.aggregate != Aggregate::Whole {
            write!(f, ".{}", self.aggregate)?;
        }
        Ok(())
    }
}

fn plain_value(value: &str) -> bool {
    !value.is_empty()
        && value
            .chars()
            .all(|c| c.is_alphanumeric() || "-_.*/".contains(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn p(text: &str) -> Percentile {
        Percentile::read(text).unwrap()
    }

    #[test]
    fn ranks_are_counted_in_integers() {
        assert_eq!(p("99.9").rank(1000), 999); // 0.999 * 1000 is 999.0000000000001 in floating point
        assert_eq!(p("95").rank(100), 95);
        assert_eq!(p("95").rank(20), 19);
        assert_eq!(p("50").rank(4), 2);
        assert_eq!(p("1").rank(3), 1);
    }

    #[test]
    fn sample_sizes_are_those_of_the_documents() {
        let enough = ["90", "95", "99", "99.9"].map(|q| p(q).enough());
        assert_eq!(enough, [29, 59, 299, 2995]);
        let fewest = ["50", "95", "99", "5"].map(|q| p(q).fewest());
        assert_eq!(fewest, [2, 20, 100, 20]);
    }

    #[test]
    fn percentiles_read_and_write() {
        for text in ["p95", "p99.9", "p99.999", "p0.5", "p50"] {
            assert_eq!(Percentile::read(&text[1..]).unwrap().to_string(), text);
        }
        for bad in ["0", "100", "99.9999", "", ".", "-1", "1e1"] {
            assert!(Percentile::read(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn conditions_compare_numbers_as_numbers() {
        let met = |test, value: &str, with: &str| {
            Condition {
                dim: Dim::Users,
                test,
                value: value.to_owned(),
            }
            .admits(with)
        };
        assert!(met(Test::AtMost, "50", "8"));
        assert!(!met(Test::AtMost, "50", "100"));
        assert!(met(Test::Like, "c1*|steady", "c16"));
        assert!(met(Test::Like, "c.*", "c16"));
        assert!(!met(Test::Like, "c1", "c16"));
        assert!(met(Test::Is, "*", "3"));
    }
}
