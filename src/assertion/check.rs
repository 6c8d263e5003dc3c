//! Tree → assertion: aggregates mean something, dimensions agree, and bare numbers get their unit.

use super::codes;
use super::dimension::{Dimension, Unit};
use super::parser::{Node, Part, Place, Raw, RawAssertion, RawMeasure, Word};
use super::registry::Kind;
use super::syntax::{Aggregate, Assertion, Comparison, Expression, Measure, Operator, Percentile};
use crate::diagnostic::{Diagnostic, Severity};

/// What an expression is a number of.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Type {
    /// A bare number: a factor, or the canonical unit of what it is compared with.
    Bare,
    /// A `%` literal: a share of one, or of the other operand.
    Percent,
    /// `pp`
    Points,
    /// A literal like `8/s`, which stands for tokens or requests per time as well.
    PerTime,
    /// Anything with a dimension; `share` for what is written in percent.
    Value { dimension: Dimension, share: bool },
}

impl Type {
    const NUMBER: Type = Type::Value {
        dimension: Dimension::NONE,
        share: false,
    };

    fn name(self) -> &'static str {
        match self {
            Type::Bare => "a bare number",
            Type::Percent => "a percentage",
            Type::Points => "percentage points",
            Type::PerTime => "a rate per second",
            Type::Value { share: true, .. } => "a share",
            Type::Value { dimension, .. } => dimension.name(),
        }
    }

    fn dimension(self) -> Dimension {
        match self {
            Type::Value { dimension, .. } => dimension,
            Type::PerTime => Dimension::PER_TIME,
            Type::Bare | Type::Percent | Type::Points => Dimension::NONE,
        }
    }
}

struct Typed {
    part: Part,
    expression: Expression,
    kind: Type,
    /// It holds a `%` that takes the other operand of `+` or `-` as its base: `max(10%, 20ms)`.
    relative: bool,
}

impl Typed {
    fn new(part: Part, expression: Expression, kind: Type) -> Typed {
        Typed {
            part,
            expression,
            kind,
            relative: false,
        }
    }
}

struct Checker {
    place: Place,
    found: Vec<Diagnostic>,
    /// The measure that a bare `baseline` stands for.
    other_side: Option<Measure>,
}

type Checked<T> = Result<T, ()>;

pub(super) fn check(raw: RawAssertion, place: Place) -> (Option<Assertion>, Vec<Diagnostic>) {
    let mut checker = Checker {
        place,
        found: Vec::new(),
        other_side: None,
    };
    let assertion = checker.assertion(raw).ok();
    let wrong = checker.found.iter().any(|d| d.severity == Severity::Error);
    (assertion.filter(|_| !wrong), checker.found)
}

impl Checker {
    fn assertion(&mut self, raw: RawAssertion) -> Checked<Assertion> {
        let RawAssertion {
            left,
            comparison,
            operator,
            right,
        } = raw;
        let whole = left.part.to(right.part);
        if !measures_something(&left) && !measures_something(&right) {
            return self.fail(
                codes::CONSTANT,
                "nothing is measured here",
                whole,
                "",
                "one side needs a measure, like `P95 TTFT < 500ms`",
            );
        }
        let (left, right) = if is_bare_baseline(&left) {
            let right = self.typed(right)?;
            self.remember(&right.expression);
            (self.typed(left)?, right)
        } else {
            let left = self.typed(left)?;
            self.remember(&left.expression);
            let right = self.typed(right)?;
            (left, right)
        };
        self.absolute(&left)?;
        self.absolute(&right)?;
        let (left, right) = self.meet(left, right, "compared with")?;
        self.equality(&left, &right, comparison, operator)?;
        let kind = match left.kind {
            Type::Value { .. } => left.kind,
            _ => right.kind,
        };
        let (dimension, share) = match kind {
            Type::Value { dimension, share } => (dimension, share),
            other => (other.dimension(), other == Type::Percent),
        };
        let assertion = Assertion {
            left: left.expression,
            comparison,
            right: right.expression,
            dimension,
            share,
        };
        if is_compared_with_itself(&assertion) {
            return self.fail(
                codes::REFERENCE,
                "a measure is compared with itself",
                whole,
                "both sides are the same",
                "name another cell on one side, like `sglang.ttft.p95`, or compare with `baseline`",
            );
        }
        if share || dimension != Dimension::NONE {
            self.lint_bound(&assertion, whole);
        }
        Ok(assertion)
    }

    /// A bare `baseline` stands for the first measure of the other side.
    fn remember(&mut self, expression: &Expression) {
        if let Expression::Measure(measure) = expression {
            self.other_side = Some(measure.clone());
        }
    }

    fn typed(&mut self, raw: Raw) -> Checked<Typed> {
        let part = raw.part;
        let (expression, kind) = match raw.node {
            Node::Number(number) => (Expression::Number(number), Type::Bare),
            Node::Percent(number) => (Expression::Percent(number), Type::Percent),
            Node::Points(number) => (Expression::Points(number), Type::Points),
            Node::Quantity(number, unit) => {
                let kind = if unit.dimension == Dimension::PER_TIME {
                    Type::PerTime
                } else {
                    Type::Value {
                        dimension: unit.dimension,
                        share: false,
                    }
                };
                (Expression::Quantity(number, unit), kind)
            }
            Node::Measure(measure) => {
                let measure = self.measure(measure, part)?;
                let kind = type_of(&measure);
                (Expression::Measure(measure), kind)
            }
            Node::Baseline(inner) => {
                let measure = self.baseline(inner, part)?;
                let kind = type_of(&measure);
                (Expression::Baseline(measure), kind)
            }
            Node::Binary {
                operator,
                left,
                right,
            } => return self.binary(part, operator, *left, *right),
            Node::Extreme(extreme, parts) => {
                let mut typed: Vec<Typed> = Vec::new();
                for raw in parts {
                    typed.push(self.typed(raw)?);
                }
                return self.extreme(part, extreme, typed);
            }
        };
        Ok(Typed::new(part, expression, kind))
    }

    fn baseline(&mut self, inner: Option<Box<Raw>>, part: Part) -> Checked<Measure> {
        if let Some(inner) = inner {
            let inner_part = inner.part;
            let Node::Measure(measure) = inner.node else {
                return self.fail(
                    codes::SYNTAX,
                    "only a measure can stand in `baseline(…)`",
                    inner_part,
                    "",
                    "write `baseline(P95 TTFT)`",
                );
            };
            return self.measure(measure, inner_part);
        }
        match &self.other_side {
            Some(measure) => Ok(measure.clone()),
            None => self.fail(
                codes::SYNTAX,
                "`baseline` of what?",
                part,
                "the other side is not one plain measure",
                "write `baseline(P95 TTFT)`",
            ),
        }
    }

    fn extreme(
        &mut self,
        part: Part,
        extreme: super::syntax::Extreme,
        typed: Vec<Typed>,
    ) -> Checked<Typed> {
        let kind = typed
            .iter()
            .map(|t| t.kind)
            .find(|kind| matches!(kind, Type::Value { .. } | Type::PerTime))
            .unwrap_or(typed[0].kind);
        let mut parts = Vec::new();
        let mut relative = false;
        for one in typed {
            let one = self.adapt(one, kind)?;
            let has_dimension = matches!(kind, Type::Value { dimension, share: false } if dimension != Dimension::NONE);
            relative |= one.relative || (one.kind == Type::Percent && has_dimension);
            let fits =
                one.kind == kind || matches!((one.kind, kind), (Type::Percent, Type::Value { .. }));
            if !fits {
                return self.mismatch(one.part, one.kind, kind, "beside");
            }
            parts.push(one.expression);
        }
        Ok(Typed {
            part,
            expression: Expression::Extreme(extreme, parts),
            kind,
            relative,
        })
    }

    fn binary(&mut self, part: Part, operator: Operator, left: Raw, right: Raw) -> Checked<Typed> {
        let left = self.typed(left)?;
        let right = self.typed(right)?;
        self.absolute(&left)?;
        match operator {
            Operator::Add | Operator::Subtract => self.added(part, operator, left, right),
            Operator::Multiply | Operator::Divide => self.multiplied(part, operator, left, right),
        }
    }

    fn added(
        &mut self,
        part: Part,
        operator: Operator,
        left: Typed,
        right: Typed,
    ) -> Checked<Typed> {
        if let Type::Value { dimension, share } = left.kind
            && right.kind == Type::Percent
        {
            if share {
                let sign = if operator == Operator::Add { "+" } else { "-" };
                let points = match &right.expression {
                    Expression::Percent(number) => format!("{number}"),
                    _ => "1".to_owned(),
                };
                return self.fail(
                    codes::RELATIVE_SHARE,
                    format!("`{sign} {points}%` on a share can mean two things"),
                    right.part,
                    "points, or a share of the share?",
                    format!("write `{sign} {points}pp` (points) or `* 1.01`"),
                );
            }
            return Ok(operation(
                part,
                operator,
                left,
                right,
                Type::Value { dimension, share },
            ));
        }
        let (left, right) = if left.kind == Type::Bare && right.kind == Type::Bare {
            (left, right)
        } else {
            self.meet(left, right, "added to")?
        };
        let kind = match left.kind {
            Type::Value { .. } => left.kind,
            _ => right.kind,
        };
        Ok(operation(part, operator, left, right, kind))
    }

    /// Refuses a `%` without anything to take it of.
    fn absolute(&mut self, one: &Typed) -> Checked<()> {
        if !one.relative {
            return Ok(());
        }
        self.fail(
            codes::DIMENSION,
            "a percentage of what?",
            one.part,
            "this `%` has no base",
            "write `baseline + max(10%, 20ms)`: the `%` is then of the other operand of `+`",
        )
    }

    fn multiplied(
        &mut self,
        part: Part,
        operator: Operator,
        left: Typed,
        right: Typed,
    ) -> Checked<Typed> {
        self.absolute(&right)?;
        let kind = match (left.kind, operator, right.kind) {
            (Type::Points, ..) | (.., Type::Points) => {
                return self.fail(
                    codes::DIMENSION,
                    "percentage points can only be added",
                    part,
                    "",
                    "write a factor, like `1.1 * …`",
                );
            }
            (Type::Bare, _, Type::Bare) => Type::Bare,
            (Type::Percent, _, Type::Bare) | (Type::Bare, Operator::Multiply, Type::Percent) => {
                Type::Percent
            }
            (Type::Bare | Type::Percent, Operator::Multiply, other) => other,
            (other, _, Type::Bare | Type::Percent) => other,
            (left, operator, right) => {
                let dimension = match operator {
                    Operator::Multiply => left.dimension() * right.dimension(),
                    _ => left.dimension() / right.dimension(),
                };
                Type::Value {
                    dimension,
                    share: false,
                }
            }
        };
        Ok(operation(part, operator, left, right, kind))
    }

    /// Makes two operands numbers of the same thing, or says why they are not.
    fn meet(&mut self, left: Typed, right: Typed, verb: &str) -> Checked<(Typed, Typed)> {
        let left = self.adapt(left, right.kind)?;
        let right = self.adapt(right, left.kind)?;
        let same = match (left.kind, right.kind) {
            (
                Type::Value {
                    dimension: a,
                    share: x,
                },
                Type::Value {
                    dimension: b,
                    share: y,
                },
            ) => a == b && (x == y || a == Dimension::NONE),
            (Type::Bare, Type::Bare) | (Type::Percent, Type::Percent) => true,
            (
                Type::Value {
                    dimension: Dimension::NONE,
                    ..
                },
                Type::Bare | Type::Percent | Type::Points,
            )
            | (
                Type::Bare | Type::Percent | Type::Points,
                Type::Value {
                    dimension: Dimension::NONE,
                    ..
                },
            ) => true,
            (Type::PerTime, Type::PerTime) => true,
            (Type::PerTime, Type::Value { dimension, .. })
            | (Type::Value { dimension, .. }, Type::PerTime) => dimension.is_count_per_time(),
            _ => false,
        };
        if same {
            return Ok((left, right));
        }
        // The literal is more likely to be wrong than the measure.
        if is_literal(&left.expression) {
            self.mismatch(left.part, left.kind, right.kind, verb)
        } else {
            self.mismatch(right.part, right.kind, left.kind, verb)
        }
    }

    /// Gives a bare number the canonical unit of what it stands beside.
    fn adapt(&mut self, one: Typed, beside: Type) -> Checked<Typed> {
        let (Type::Bare, Expression::Number(number)) = (one.kind, &one.expression) else {
            return Ok(one);
        };
        let number = *number;
        match beside {
            Type::Value { share: true, .. } => self.bare_share(one.part, number),
            Type::Value {
                dimension,
                share: false,
            } if dimension != Dimension::NONE => {
                let Some(unit) = dimension.canonical() else {
                    return Ok(Typed::new(one.part, one.expression, beside));
                };
                if ![Dimension::TOKEN, Dimension::REQUEST].contains(&dimension) {
                    self.lint(
                        codes::BARE_NUMBER,
                        format!("`{number}` has no unit; it is read as {}", dimension.name()),
                        one.part,
                        format!("write `{number}{}`", unit.text),
                    );
                }
                Ok(Typed::new(
                    one.part,
                    Expression::Quantity(number, unit),
                    beside,
                ))
            }
            Type::PerTime => {
                let unit = Unit::find("/s").expect("`/s` is a unit");
                Ok(Typed::new(
                    one.part,
                    Expression::Quantity(number, unit),
                    beside,
                ))
            }
            Type::Value { .. } | Type::Bare | Type::Percent | Type::Points => Ok(one),
        }
    }

    fn bare_share(&mut self, part: Part, number: f64) -> Checked<Typed> {
        if number > 1.0 {
            return self.fail(
                codes::SHARE,
                format!("a share is never above 1, and `{number}` has no percent sign"),
                part,
                format!("did you mean `{number}%`?"),
                "write a share in percent",
            );
        }
        let percent = (number * 1e11).round() / 1e9;
        self.lint(
            codes::BARE_NUMBER,
            format!("`{number}` has no unit; it is read as a fraction"),
            part,
            format!("write `{percent}%`"),
        );
        Ok(Typed::new(
            part,
            Expression::Percent(percent),
            Type::Percent,
        ))
    }

    fn equality(
        &mut self,
        left: &Typed,
        right: &Typed,
        comparison: Comparison,
        operator: Part,
    ) -> Checked<()> {
        if !matches!(comparison, Comparison::Equal | Comparison::Different) {
            return Ok(());
        }
        let counts = |typed: &Typed| {
            let assertion = Assertion {
                left: typed.expression.clone(),
                comparison,
                right: Expression::Number(0.0),
                dimension: Dimension::NONE,
                share: false,
            };
            assertion.measures().iter().all(|measure| {
                measure.aggregate == Aggregate::Count
                    || (measure.metric.kind == Kind::Counter
                        && measure.aggregate == Aggregate::Whole)
            })
        };
        if counts(left) && counts(right) {
            return Ok(());
        }
        self.fail(
            codes::EQUALITY,
            format!("`{}` is only for counts", comparison.symbol()),
            operator,
            "",
            "a measured value is never exactly equal to a bound: write `<=` or `>=`",
        )
    }

    fn measure(&mut self, raw: RawMeasure, part: Part) -> Checked<Measure> {
        let aggregate = self.aggregate(&raw)?;
        Ok(Measure {
            pins: raw.pins,
            metric: raw.metric,
            aggregate,
            selector: raw.selector,
            span: self.place.span(part),
        })
    }

    fn aggregate(&mut self, raw: &RawMeasure) -> Checked<Aggregate> {
        let kind = raw.metric.kind;
        let Some((word, part)) = raw.aggregate else {
            if matches!(kind, Kind::Trend | Kind::Gap | Kind::Gauge) {
                let name = raw.metric.name;
                let example = if kind == Kind::Gauge { "mean" } else { "p95" };
                return self.fail(
                    codes::AGGREGATE,
                    format!("`{name}` has many values: which one is meant?"),
                    raw.metric_part,
                    "an aggregate is missing",
                    format!(
                        "write `{example} {name}`; aggregates of kind {}: {}",
                        kind.name(),
                        kind.legal()
                    ),
                );
            }
            return Ok(Aggregate::Whole);
        };
        let legal = match (kind, word) {
            (Kind::Trend | Kind::Gap | Kind::Flow | Kind::Gauge, Word::Percentile(p)) => {
                Some(Aggregate::Percentile(p))
            }
            (Kind::Trend | Kind::Gap | Kind::Flow | Kind::Gauge, Word::Median) => {
                Percentile::new(50_000).map(Aggregate::Percentile)
            }
            (Kind::Trend | Kind::Gap | Kind::Gauge, Word::Mean) => Some(Aggregate::Mean),
            (Kind::Trend | Kind::Gap | Kind::Gauge | Kind::Flow, Word::Min) => Some(Aggregate::Min),
            (Kind::Trend | Kind::Gap | Kind::Gauge, Word::Max) => Some(Aggregate::Max),
            (Kind::Trend | Kind::Gap, Word::Std) => Some(Aggregate::Std),
            (Kind::Trend, Word::Sum) => Some(Aggregate::Sum),
            (Kind::Trend | Kind::Gap | Kind::Rate, Word::Count) => Some(Aggregate::Count),
            (Kind::Rate, Word::Rate) | (Kind::Counter, Word::Count) | (Kind::Flow, Word::Mean) => {
                Some(Aggregate::Whole)
            }
            (Kind::Counter, Word::Rate) => Some(Aggregate::Rate),
            (Kind::Gauge, Word::Last) => Some(Aggregate::Last),
            _ => None,
        };
        match legal {
            Some(aggregate) => Ok(aggregate),
            None => self.fail(
                codes::AGGREGATE,
                format!(
                    "this aggregate means nothing on `{}`, a {}",
                    raw.metric.name,
                    kind.name()
                ),
                part,
                "",
                format!("aggregates of kind {}: {}", kind.name(), kind.legal()),
            ),
        }
    }

    fn lint_bound(&mut self, assertion: &Assertion, part: Part) {
        if !matches!(assertion.left, Expression::Measure(_)) {
            return;
        }
        let zero = matches!(assertion.right, Expression::Percent(n) | Expression::Quantity(n, _) if n == 0.0);
        let over_one =
            assertion.share && matches!(assertion.right, Expression::Percent(n) if n >= 100.0);
        let above_one =
            assertion.share && matches!(assertion.right, Expression::Percent(n) if n > 100.0);
        match assertion.comparison {
            Comparison::Less if zero => {
                self.lint(codes::IMPOSSIBLE, "nothing is below 0", part, "write `<=`")
            }
            Comparison::AtLeast if zero => self.lint(
                codes::ALWAYS,
                "everything is at least 0",
                part,
                "write a bound above 0",
            ),
            Comparison::Greater if over_one => self.lint(
                codes::IMPOSSIBLE,
                "no share is above 100%",
                part,
                "write `>=`",
            ),
            Comparison::AtMost if over_one => self.lint(
                codes::ALWAYS,
                "every share is at most 100%",
                part,
                "write a bound below 100%",
            ),
            Comparison::Less if above_one => self.lint(
                codes::ALWAYS,
                "every share is below this",
                part,
                "write a bound below 100%",
            ),
            Comparison::AtLeast if above_one => self.lint(
                codes::IMPOSSIBLE,
                "no share is above 100%",
                part,
                "write a bound of at most 100%",
            ),
            _ => {}
        }
    }

    fn lint(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        part: Part,
        help: impl Into<String>,
    ) {
        self.found.push(
            Diagnostic::warning(code, message)
                .at(self.place.span(part), "")
                .help(help),
        );
    }

    fn mismatch<T>(&mut self, part: Part, one: Type, other: Type, verb: &str) -> Checked<T> {
        let help = match other.dimension().canonical() {
            Some(unit) => format!("write it in `{}`", unit.text),
            None if matches!(other, Type::Value { share: true, .. }) => {
                "write it in percent, like `1%`".to_owned()
            }
            None => "both sides must be numbers of the same thing".to_owned(),
        };
        self.fail(
            codes::DIMENSION,
            format!("{} cannot be {verb} {}", one.name(), other.name()),
            part,
            format!("this is {}", one.name()),
            help,
        )
    }

    fn fail<T>(
        &mut self,
        code: &'static str,
        message: impl Into<String>,
        part: Part,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Checked<T> {
        self.found.push(
            Diagnostic::error(code, message)
                .at(self.place.span(part), label)
                .help(help),
        );
        Err(())
    }
}

fn operation(part: Part, operator: Operator, left: Typed, right: Typed, kind: Type) -> Typed {
    let expression = Expression::Binary(
        operator,
        Box::new(left.expression),
        Box::new(right.expression),
    );
    Typed::new(part, expression, kind)
}

fn type_of(measure: &Measure) -> Type {
    let dimension = measure.metric.dimension_of(measure.aggregate);
    let share = measure.metric.share_of(measure.aggregate);
    if dimension == Dimension::NONE && !share {
        return Type::NUMBER;
    }
    Type::Value { dimension, share }
}

fn is_literal(expression: &Expression) -> bool {
    matches!(
        expression,
        Expression::Number(_)
            | Expression::Quantity(..)
            | Expression::Percent(_)
            | Expression::Points(_)
    )
}

fn is_bare_baseline(raw: &Raw) -> bool {
    match &raw.node {
        Node::Baseline(None) => true,
        Node::Binary { left, right, .. } => is_bare_baseline(left) || is_bare_baseline(right),
        _ => false,
    }
}

fn measures_something(raw: &Raw) -> bool {
    match &raw.node {
        Node::Measure(_) => true,
        Node::Baseline(_)
        | Node::Number(_)
        | Node::Quantity(..)
        | Node::Percent(_)
        | Node::Points(_) => false,
        Node::Binary { left, right, .. } => measures_something(left) || measures_something(right),
        Node::Extreme(_, parts) => parts.iter().any(measures_something),
    }
}

/// Whether one measure stands on both sides, and no other.
fn is_compared_with_itself(assertion: &Assertion) -> bool {
    let measures = assertion.measures();
    let of = |side: &Expression| {
        let mut found = Vec::new();
        side.collect(&mut found);
        !found.is_empty()
    };
    of(&assertion.left)
        && of(&assertion.right)
        && measures.windows(2).all(|pair| pair[0] == pair[1])
}
