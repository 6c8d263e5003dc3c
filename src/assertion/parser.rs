//! Text → tree, by recursive descent over the bytes of the text; phrases are matched in place, longest first.

use super::check;
use super::codes;
use super::dimension::{UNITS, Unit};
use super::registry::{self, Metric};
use super::syntax::{Assertion, Comparison, Condition, Dim, Extreme, Operator, Percentile, Test};
use crate::diagnostic::{Diagnostic, Span, did_you_mean};

/// What the words of an assertion may refer to.
#[derive(Clone, Copy, Debug, Default)]
pub struct Context<'a> {
    /// The ids that may stand before a metric, each with its registry.
    pub ids: &'a [(Dim, String)],
    /// The metric that `p(95) < 500` is of: the key over a list of short forms.
    pub scoped_metric: Option<&'a str>,
}

/// Reads an assertion. `at` is where the text stands in the user's file; diagnostics point into it.
///
/// The assertion is `None` exactly when a diagnostic is an error.
pub fn parse(text: &str, at: Span, context: Context) -> (Option<Assertion>, Vec<Diagnostic>) {
    let place = Place::new(text, at);
    let mut parser = Parser {
        text,
        at: 0,
        depth: 0,
        context,
        place,
    };
    match parser.comparison() {
        Err(error) => (None, vec![*error]),
        Ok(raw) => check::check(raw, place),
    }
}

/// Where an assertion stands, to turn its bytes into bytes of the user's file.
#[derive(Clone, Copy)]
pub(super) struct Place {
    at: Span,
    /// Bytes from the start of the span to the start of the text: 1 for a quoted scalar; `None` when escapes or folding make
    /// the two differ, and only the whole can be pointed at.
    shift: Option<usize>,
}

impl Place {
    fn new(text: &str, at: Span) -> Place {
        let written = at.end.saturating_sub(at.start);
        let shift = match written.checked_sub(text.len()) {
            Some(0) => Some(0),
            Some(2) => Some(1),
            _ => None,
        };
        Place { at, shift }
    }

    pub(super) fn span(self, part: Part) -> Span {
        match self.shift {
            Some(shift) => self.at.part(shift + part.0, shift + part.1),
            None => self.at,
        }
    }
}

/// A range of bytes of the assertion's text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Part(pub(super) usize, pub(super) usize);

impl Part {
    pub(super) fn to(self, other: Part) -> Part {
        Part(self.0.min(other.0), self.1.max(other.1))
    }
}

/// A comparison as written, before it is known to mean something.
pub(super) struct RawAssertion {
    pub(super) left: Raw,
    pub(super) comparison: Comparison,
    pub(super) operator: Part,
    pub(super) right: Raw,
}

/// An expression as written, and where.
pub(super) struct Raw {
    pub(super) part: Part,
    pub(super) node: Node,
}

pub(super) enum Node {
    Number(f64),
    Quantity(f64, &'static Unit),
    Percent(f64),
    Points(f64),
    Measure(RawMeasure),
    Baseline(Option<Box<Raw>>),
    Binary {
        operator: Operator,
        left: Box<Raw>,
        right: Box<Raw>,
    },
    Extreme(Extreme, Vec<Raw>),
}

pub(super) struct RawMeasure {
    pub(super) pins: Vec<(Dim, String)>,
    pub(super) metric: &'static Metric,
    pub(super) metric_part: Part,
    pub(super) aggregate: Option<(Word, Part)>,
    pub(super) selector: Vec<Condition>,
}

/// An aggregate as written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Word {
    Percentile(Percentile),
    Mean,
    Median,
    Min,
    Max,
    Std,
    Sum,
    Count,
    Rate,
    Last,
}

type Parsed<T> = Result<T, Box<Diagnostic>>;

const DEEPEST: usize = 40;
const LONGEST: usize = 4000;

struct Parser<'a> {
    text: &'a str,
    at: usize,
    depth: usize,
    context: Context<'a>,
    place: Place,
}

impl<'a> Parser<'a> {
    fn comparison(&mut self) -> Parsed<RawAssertion> {
        if self.text.len() > LONGEST {
            return Err(self.error(codes::SYNTAX, "the assertion is too long", Part(0, LONGEST)));
        }
        let left = self.sum()?;
        let (comparison, operator) = self.operator(&left)?;
        let right = self.sum()?;
        self.skip_spaces();
        if self.at < self.text.len() {
            return Err(self.trailing());
        }
        Ok(RawAssertion {
            left,
            comparison,
            operator,
            right,
        })
    }

    fn operator(&mut self, left: &Raw) -> Parsed<(Comparison, Part)> {
        self.skip_spaces();
        let start = self.at;
        const SYMBOLS: [(&str, Comparison); 8] = [
            ("<=", Comparison::AtMost),
            (">=", Comparison::AtLeast),
            ("==", Comparison::Equal),
            ("!=", Comparison::Different),
            ("≤", Comparison::AtMost),
            ("≥", Comparison::AtLeast),
            ("<", Comparison::Less),
            (">", Comparison::Greater),
        ];
        const WORDS: [(&str, Comparison); 6] = [
            ("at most", Comparison::AtMost),
            ("at least", Comparison::AtLeast),
            ("under", Comparison::Less),
            ("below", Comparison::Less),
            ("over", Comparison::Greater),
            ("above", Comparison::Greater),
        ];
        for (symbol, comparison) in SYMBOLS {
            if self.eat(symbol) {
                return Ok((comparison, Part(start, self.at)));
            }
        }
        for (words, comparison) in WORDS {
            if self.eat_phrase(words) {
                return Ok((comparison, Part(start, self.at)));
            }
        }
        let here = self.here();
        if self.rest().starts_with('=') {
            return Err(self.error_with(
                codes::SYNTAX,
                "`=` is no comparison",
                Part(start, start + 1),
                "",
                match self.rest().as_bytes().get(1) {
                    Some(b'<') => "write `<=`",
                    Some(b'>') => "write `>=`",
                    _ => "write `==`",
                },
            ));
        }
        if start >= self.text.len() {
            return Err(self.error_with(
                codes::SYNTAX,
                "the comparison is missing",
                left.part,
                "compared with what?",
                "write a bound, like `P95 TTFT < 500ms`",
            ));
        }
        let word = self.word_at(start);
        if let Node::Measure(measure) = &left.node
            && measure.aggregate.is_none()
            && aggregate(word).is_some()
        {
            let metric = self.slice(measure.metric_part);
            return Err(self.error_with(
                codes::SYNTAX,
                format!("`{word}` stands behind its metric"),
                here,
                "",
                format!("write the aggregate first: `{word} {metric}`"),
            ));
        }
        Err(self.error_with(
            codes::SYNTAX,
            format!("expected a comparison, found `{}`", self.slice(here)),
            here,
            "",
            "a comparison is `<`, `<=`, `>`, `>=`, `==`, `!=`, `under`, `below`, `over`, `above`, `at most` or `at least`",
        ))
    }

    fn trailing(&mut self) -> Box<Diagnostic> {
        let here = self.here();
        let found = self.slice(here).to_owned();
        let help = match found.to_ascii_lowercase().as_str() {
            "and" | "or" | "&&" | "||" | "&" | "|" | "," | ";" => {
                "an SLO is one comparison: write two entries"
            }
            "<" | ">" | "<=" | ">=" | "==" => {
                "an SLO is one comparison: write two entries, one for each bound"
            }
            _ => "an SLO is one comparison, like `P95 TTFT < 500ms`",
        };
        self.error_with(
            codes::SYNTAX,
            format!("`{found}` cannot stand here"),
            here,
            "",
            help,
        )
    }

    fn sum(&mut self) -> Parsed<Raw> {
        self.deeper()?;
        let mut left = self.product()?;
        loop {
            self.skip_spaces();
            let operator = match self.rest().as_bytes().first() {
                Some(b'+') => Operator::Add,
                Some(b'-') => Operator::Subtract,
                _ => break,
            };
            self.at += 1;
            let right = self.product()?;
            left = binary(operator, left, right);
        }
        self.depth -= 1;
        Ok(left)
    }

    fn product(&mut self) -> Parsed<Raw> {
        let mut left = self.atom()?;
        loop {
            self.skip_spaces();
            let (operator, of) = if self.eat("*") || self.eat("×") {
                (Operator::Multiply, false)
            } else if self.eat("/") {
                (Operator::Divide, false)
            } else if self.eat_phrase("of") {
                (Operator::Multiply, true)
            } else {
                break;
            };
            if of && !matches!(left.node, Node::Percent(_)) {
                return Err(self.error_with(
                    codes::SYNTAX,
                    "only a percentage stands before `of`",
                    left.part,
                    "",
                    "write `110% of baseline`, or `1.1 * …`",
                ));
            }
            let right = self.atom()?;
            left = binary(operator, left, right);
        }
        Ok(left)
    }

    fn atom(&mut self) -> Parsed<Raw> {
        self.skip_spaces();
        let start = self.at;
        if self.eat("(") {
            let inner = self.sum()?;
            self.expect(")")?;
            return Ok(Raw {
                part: Part(start, self.at),
                node: inner.node,
            });
        }
        let Some(first) = self.rest().chars().next() else {
            let end = self.text.trim_end().len();
            let last = self.text[..end]
                .char_indices()
                .next_back()
                .map_or(0, |(at, _)| at);
            return Err(self.error_with(
                codes::SYNTAX,
                "something is missing at the end",
                Part(last, end),
                "",
                "write a measure or a bound, like `P95 TTFT < 500ms`",
            ));
        };
        if self.at_pinned_id() {
            return self.measure();
        }
        if first.is_ascii_digit()
            || (first == '.' && self.second().is_some_and(|c| c.is_ascii_digit()))
            || first == '$'
        {
            return self.quantity();
        }
        if first == '-' {
            return Err(self.error_with(
                codes::SYNTAX,
                "a negative number can be no bound",
                Part(start, start + 1),
                "",
                "no metric is ever negative",
            ));
        }
        if first == '#' && self.second().is_some_and(|c| c.is_ascii_digit()) {
            let here = self.here();
            let number = self.rest()[1..].split(' ').next().unwrap_or_default();
            return Err(self.error_with(
                codes::SYNTAX,
                "`#` begins no number",
                here,
                "",
                format!("write `{number}`"),
            ));
        }
        if !first.is_alphabetic() {
            let here = self.here();
            return Err(self.error_with(
                codes::SYNTAX,
                format!("`{}` cannot stand here", self.slice(here)),
                here,
                "",
                "expected a measure or a bound, like `P95 TTFT < 500ms`",
            ));
        }
        self.measured()
    }

    /// Whether an id of the scenario and a dot stand here; ids may begin with a digit.
    fn at_pinned_id(&self) -> bool {
        let id = id_prefix(self.rest());
        !id.is_empty()
            && self.rest()[id.len()..].starts_with('.')
            && self.context.ids.iter().any(|(_, known)| known == id)
    }

    /// An atom that begins with a letter: a baseline, an extreme, an aggregate or a metric.
    fn measured(&mut self) -> Parsed<Raw> {
        let start = self.at;
        if self.eat_phrase("baseline") {
            return self.baseline(start);
        }
        if self.longest_phrase().is_some() {
            return self.measure();
        }
        let word = self.word_at(start);
        if let Some(extreme) = extreme(word)
            && self.text[start + word.len()..]
                .trim_start()
                .starts_with('(')
        {
            self.at += word.len();
            return self.extreme(extreme, Part(start, start + word.len()));
        }
        if word.eq_ignore_ascii_case("p") && self.text[start + 1..].trim_start().starts_with('(') {
            return self.percentile_call(start);
        }
        match aggregate(word) {
            Some(Ok(aggregate)) => {
                self.at += word.len();
                self.aggregated((aggregate, Part(start, self.at)))
            }
            Some(Err(())) => Err(self.error_with(
                codes::PERCENTILE,
                format!("`{word}` is no percentile"),
                Part(start, start + word.len()),
                "",
                "a percentile lies between 0 and 100, like `p95` or `p99.9`; `min` and `max` are the ends",
            )),
            None => self.measure(),
        }
    }

    fn baseline(&mut self, start: usize) -> Parsed<Raw> {
        let inner = if self.eat("(") {
            self.deeper()?;
            let inner = self.measured_operand()?;
            self.depth -= 1;
            self.expect(")")?;
            Some(Box::new(inner))
        } else {
            None
        };
        Ok(Raw {
            part: Part(start, self.at),
            node: Node::Baseline(inner),
        })
    }

    fn measured_operand(&mut self) -> Parsed<Raw> {
        let inner = self.atom()?;
        if matches!(inner.node, Node::Measure(_)) {
            return Ok(inner);
        }
        Err(self.error_with(
            codes::SYNTAX,
            "only a measure can stand in `baseline(…)`",
            inner.part,
            "",
            "write `baseline(P95 TTFT)`",
        ))
    }

    /// What follows `max` or `min` and a parenthesis: one metric makes it an aggregate, several operands an extreme.
    fn extreme(&mut self, extreme: Extreme, word: Part) -> Parsed<Raw> {
        self.expect("(")?;
        let mut parts = vec![self.sum()?];
        self.skip_spaces();
        while self.eat(",") {
            parts.push(self.sum()?);
            self.skip_spaces();
        }
        self.expect(")")?;
        let part = Part(word.0, self.at);
        if parts.len() > 1 {
            return Ok(Raw {
                part,
                node: Node::Extreme(extreme, parts),
            });
        }
        let aggregate = match extreme {
            Extreme::Max => Word::Max,
            Extreme::Min => Word::Min,
        };
        let only = parts.remove(0);
        match only.node {
            Node::Measure(mut measure) if measure.aggregate.is_none() => {
                measure.aggregate = Some((aggregate, word));
                Ok(Raw {
                    part,
                    node: Node::Measure(measure),
                })
            }
            _ => Err(self.error_with(
                codes::SYNTAX,
                format!("`{}` of one operand is only for a metric", self.slice(word)),
                only.part,
                "",
                "write `max(ttft)` for the largest value, or `max(10%, 20ms)` for the larger of two",
            )),
        }
    }

    /// `p(95, ttft)`, or `p(95)` under a metric key.
    fn percentile_call(&mut self, start: usize) -> Parsed<Raw> {
        self.at += 1;
        self.expect("(")?;
        self.skip_spaces();
        let number = self.digits();
        let percentile = Percentile::read(self.slice(number)).ok_or_else(|| {
            self.error_with(
                codes::PERCENTILE,
                format!("`{}` is no percentile", self.slice(number)),
                Part(number.0, number.1.max(number.0 + 1).min(self.text.len())),
                "",
                "a percentile lies between 0 and 100, like `p(95, ttft)`",
            )
        })?;
        self.skip_spaces();
        if self.eat(",") {
            self.skip_spaces();
            let mut raw = self.measure()?;
            self.expect(")")?;
            raw.part = Part(start, self.at);
            let aggregate = (Word::Percentile(percentile), Part(start, number.1));
            return self.with_aggregate(raw, aggregate);
        }
        self.expect(")")?;
        self.aggregated((Word::Percentile(percentile), Part(start, self.at)))
    }

    /// What follows an aggregate: a metric in parentheses, a phrase, or nothing when a metric key says what it is of.
    fn aggregated(&mut self, aggregate: (Word, Part)) -> Parsed<Raw> {
        let start = aggregate.1.0;
        self.skip_spaces();
        if self.eat("(") {
            self.skip_spaces();
            let mut raw = self.measure()?;
            self.expect(")")?;
            raw.part = Part(start, self.at);
            return self.with_aggregate(raw, aggregate);
        }
        let next = self.rest().chars().next();
        let starts_measure = next.is_some_and(char::is_alphabetic) && !self.at_operator_word()
            || self.at_pinned_id();
        if starts_measure {
            let mut raw = self.measure()?;
            raw.part = Part(start, self.at);
            return self.with_aggregate(raw, aggregate);
        }
        let Some(metric) = self.context.scoped_metric.and_then(registry::find) else {
            return Err(self.error_with(
                codes::NO_METRIC,
                format!("`{}` of what?", self.slice(aggregate.1)),
                aggregate.1,
                "no metric is named",
                "write the metric behind it, like `P95 TTFT < 500ms`",
            ));
        };
        let selector = self.selector()?;
        Ok(Raw {
            part: Part(start, self.at),
            node: Node::Measure(RawMeasure {
                pins: Vec::new(),
                metric,
                metric_part: aggregate.1,
                aggregate: Some(aggregate),
                selector,
            }),
        })
    }

    fn with_aggregate(&self, raw: Raw, aggregate: (Word, Part)) -> Parsed<Raw> {
        let Node::Measure(mut measure) = raw.node else {
            return Ok(raw);
        };
        if let Some((_, second)) = measure.aggregate {
            return Err(self.error_with(
                codes::AGGREGATE,
                "two aggregates on one metric",
                second,
                "the second one",
                "keep one of them",
            ));
        }
        measure.aggregate = Some(aggregate);
        Ok(Raw {
            part: raw.part,
            node: Node::Measure(measure),
        })
    }

    /// `{ id "." } metric [sel] [ "." agg ]`, where the metric is a name or a phrase.
    fn measure(&mut self) -> Parsed<Raw> {
        self.deeper()?;
        let start = self.at;
        let pins = self.pins()?;
        let metric_start = self.at;
        let Some((metric, length)) = self.longest_phrase() else {
            return Err(self.unknown_metric(!pins.is_empty()));
        };
        self.at += length;
        let metric_part = Part(metric_start, self.at);
        let before_spaces = self.at;
        self.skip_spaces();
        let selector = self.selector()?;
        if selector.is_empty() {
            self.at = before_spaces;
        }
        let aggregate = self.path_aggregate()?;
        self.depth -= 1;
        Ok(Raw {
            part: Part(start, self.at),
            node: Node::Measure(RawMeasure {
                pins,
                metric,
                metric_part,
                aggregate,
                selector,
            }),
        })
    }

    fn pins(&mut self) -> Parsed<Vec<(Dim, String)>> {
        let mut pins: Vec<(Dim, String)> = Vec::new();
        while self.at_pinned_id() {
            let id = id_prefix(self.rest()).to_owned();
            let part = Part(self.at, self.at + id.len());
            let registries: Vec<&Dim> = self
                .context
                .ids
                .iter()
                .filter(|(_, known)| *known == id)
                .map(|(dim, _)| dim)
                .collect();
            if let [first, second, ..] = registries.as_slice() {
                return Err(self.error_with(
                    codes::ID,
                    format!("`{id}` is the id of a {first} and of a {second}"),
                    part,
                    "which one is meant?",
                    format!("say it in braces: `ttft{{{first}={id}}}`"),
                ));
            }
            let dim = registries[0].clone();
            if pins.iter().any(|(pinned, _)| *pinned == dim) {
                return Err(self.error_with(
                    codes::ID,
                    format!("a second {dim} before one metric"),
                    part,
                    "",
                    format!("a measure is taken over one {dim}"),
                ));
            }
            pins.push((dim, id.clone()));
            self.at = part.1 + 1;
        }
        Ok(pins)
    }

    fn unknown_metric(&self, pinned: bool) -> Box<Diagnostic> {
        let word = self.word_at(self.at);
        let part = Part(self.at, self.at + word.len());
        if let Some((id, rest)) = word.split_once('.')
            && !pinned
            && registry::metrics().iter().any(|metric| {
                let name = metric.name;
                rest.len() >= name.len()
                    && rest.is_char_boundary(name.len())
                    && rest[..name.len()].eq_ignore_ascii_case(name)
            })
        {
            let part = Part(part.0, part.0 + id.len());
            let ids = self.context.ids.iter().map(|(_, id)| id.as_str());
            return match did_you_mean(id, ids.clone()) {
                Some(near) => self.error_with(
                    codes::ID,
                    format!("unknown id `{id}`"),
                    part,
                    format!("did you mean `{near}`?"),
                    ids_help(self.context),
                ),
                None => self.error_with(
                    codes::ID,
                    format!("unknown id `{id}`"),
                    part,
                    "",
                    ids_help(self.context),
                ),
            };
        }
        if word.is_empty() {
            let here = self.here();
            return self.error_with(
                codes::METRIC,
                "a metric is missing",
                here,
                "expected a metric here",
                "metrics: ttft, e2e, tpot, itl, error rate, output_tps, …  (scenario help metrics)",
            );
        }
        if word.contains('-') && registry::find(word.split('-').next().unwrap_or("")).is_some() {
            return self.error_with(
                codes::METRIC,
                format!("unknown metric `{word}`"),
                part,
                "",
                "a minus needs spaces around it",
            );
        }
        if let Some(Ok(_)) = aggregate(word) {
            return self.error_with(
                codes::SYNTAX,
                format!("`{word}` is an aggregate, and there is one before it"),
                part,
                "",
                "a metric has one aggregate: `P95 TTFT`, `max TTFT`",
            );
        }
        let label = nearest_metric(self.rest())
            .or_else(|| nearest_metric(word))
            .map(|(near, metric)| match metric.aliases.first() {
                Some(alias) if !alias.eq_ignore_ascii_case(near) => {
                    format!("did you mean `{}` ({alias})?", in_case_of(word, near))
                }
                _ => format!("did you mean `{}`?", in_case_of(word, near)),
            })
            .unwrap_or_default();
        self.error_with(
            codes::METRIC,
            format!("unknown metric `{word}`"),
            part,
            label,
            "metrics of kind trend: ttft, e2e, tpot, send_lag, …; others: itl, error_rate, output_tps, goodput, gpu.power, …  (scenario help metrics)",
        )
    }

    /// The metric whose name or alias stands here, and its length in the text; the longest wins.
    fn longest_phrase(&self) -> Option<(&'static Metric, usize)> {
        registry::metrics()
            .iter()
            .flat_map(|metric| {
                std::iter::once(&metric.name)
                    .chain(metric.aliases)
                    .map(move |name| (metric, *name))
            })
            .filter_map(|(metric, name)| Some((metric, phrase_length(self.rest(), name)?)))
            .max_by_key(|(_, length)| *length)
    }

    /// `.p95` behind a metric.
    fn path_aggregate(&mut self) -> Parsed<Option<(Word, Part)>> {
        if !self.rest().starts_with('.') {
            return Ok(None);
        }
        self.at += 1;
        let start = self.at;
        let word = self.word_at(start);
        self.at += word.len();
        let part = Part(
            start,
            self.at.max(start + 1).min(self.text.len().max(start)),
        );
        match aggregate(word) {
            Some(Ok(aggregate)) => Ok(Some((aggregate, part))),
            Some(Err(())) => Err(self.error_with(
                codes::PERCENTILE,
                format!("`{word}` is no percentile"),
                part,
                "",
                "a percentile lies between 0 and 100, like `p95` or `p99.9`",
            )),
            None => {
                let near = did_you_mean(word, AGGREGATES.iter().map(|(name, _)| *name));
                Err(self.error_with(
                    codes::AGGREGATE,
                    format!("`{word}` is no aggregate"),
                    part,
                    near.map(|near| format!("did you mean `{near}`?"))
                        .unwrap_or_default(),
                    "aggregates: pN, mean, med, min, max, std, sum, count, rate, last",
                ))
            }
        }
    }

    fn selector(&mut self) -> Parsed<Vec<Condition>> {
        let mut conditions = Vec::new();
        let open = self.at;
        if !self.eat("{") {
            return Ok(conditions);
        }
        loop {
            self.skip_spaces();
            if self.eat("}") {
                break;
            }
            conditions.push(self.condition(open)?);
            self.skip_spaces();
            if self.eat("}") {
                break;
            }
            if !self.eat(",") {
                let here = self.here();
                return Err(self.error_with(
                    codes::SELECTOR,
                    "a `,` or `}` is missing",
                    if here.0 < here.1 {
                        here
                    } else {
                        Part(open, open + 1)
                    },
                    "",
                    "write `{stage=c16, backend=vllm}`",
                ));
            }
        }
        if conditions.is_empty() {
            return Err(self.error_with(
                codes::SELECTOR,
                "the braces are empty",
                Part(open, self.at),
                "",
                "write `{stage=c16}`, or leave them out",
            ));
        }
        Ok(conditions)
    }

    fn condition(&mut self, open: usize) -> Parsed<Condition> {
        let start = self.at;
        let name_length = self
            .rest()
            .find(|c: char| !(c.is_alphanumeric() || "_.-".contains(c)))
            .unwrap_or(self.rest().len());
        let name = &self.rest()[..name_length];
        let part = Part(start, start + name_length);
        let Some(dim) = Dim::find(name) else {
            let near = did_you_mean(name, Dim::NAMES);
            return Err(self.error_with(
                codes::SELECTOR,
                format!("unknown dimension `{name}`"),
                if name.is_empty() {
                    Part(open, open + 1)
                } else {
                    part
                },
                near.map(|near| format!("did you mean `{near}`?"))
                    .unwrap_or_default(),
                format!("dimensions: {}, tag.NAME", Dim::NAMES.join(", ")),
            ));
        };
        self.at += name_length;
        self.skip_spaces();
        const TESTS: [(&str, Test); 10] = [
            ("=~", Test::Like),
            ("!=", Test::IsNot),
            ("<=", Test::AtMost),
            (">=", Test::AtLeast),
            ("==", Test::Is),
            ("≤", Test::AtMost),
            ("≥", Test::AtLeast),
            ("=", Test::Is),
            ("<", Test::Less),
            (">", Test::Greater),
        ];
        let Some(test) = TESTS
            .iter()
            .find(|(symbol, _)| self.eat(symbol))
            .map(|(_, test)| *test)
        else {
            return Err(self.error_with(
                codes::SELECTOR,
                format!("`{dim}` is compared with nothing"),
                part,
                "",
                format!("write `{dim}=…`; also `!=`, `=~`, and for numbers `<`, `<=`, `>`, `>=`"),
            ));
        };
        self.skip_spaces();
        let value_start = self.at;
        let value = self.condition_value(open)?;
        let value_part = Part(value_start, self.at);
        let ordered = matches!(
            test,
            Test::Less | Test::AtMost | Test::Greater | Test::AtLeast
        );
        if value.is_empty() || (ordered && value.trim_end_matches("/s").parse::<f64>().is_err()) {
            return Err(self.error_with(
                codes::SELECTOR,
                format!(
                    "`{dim} {}` needs a {}",
                    test.symbol(),
                    if ordered { "number" } else { "value" }
                ),
                if value.is_empty() { part } else { value_part },
                "",
                format!(
                    "write `{dim}{}{}`",
                    test.symbol(),
                    if ordered { "50" } else { "c16" }
                ),
            ));
        }
        Ok(Condition { dim, test, value })
    }

    fn condition_value(&mut self, open: usize) -> Parsed<String> {
        for quote in ['"', '\''] {
            if self.rest().starts_with(quote) {
                let inner = &self.rest()[1..];
                let Some(end) = inner.find(quote) else {
                    return Err(self.error_with(
                        codes::SELECTOR,
                        "a quote is not closed",
                        Part(self.at, self.at + 1),
                        "",
                        "close it",
                    ));
                };
                let value = inner[..end].to_owned();
                self.at += end + 2;
                return Ok(value);
            }
        }
        let Some(end) = self.rest().find([',', '}']) else {
            return Err(self.error_with(
                codes::SELECTOR,
                "the braces are not closed",
                Part(open, open + 1),
                "",
                "write `{stage=c16}`",
            ));
        };
        let value = self.rest()[..end].trim_end().to_owned();
        self.at += value.len();
        Ok(value)
    }

    fn quantity(&mut self) -> Parsed<Raw> {
        let start = self.at;
        let dollar = self.eat("$");
        let digits = self.digits();
        let number: f64 = match self.slice(digits).replace('_', "").parse() {
            Ok(number) => number,
            Err(_) => {
                return Err(self.error(
                    codes::SYNTAX,
                    "this is no number",
                    Part(start, digits.1.max(start + 1)),
                ));
            }
        };
        let raw = |parser: &Parser, node| Raw {
            part: Part(start, parser.at),
            node,
        };
        if dollar {
            let unit = Unit::find("$").expect("dollars are a unit");
            return Ok(raw(self, Node::Quantity(number, unit)));
        }
        let before_spaces = self.at;
        self.skip_spaces();
        if self.eat("%") {
            return Ok(raw(self, Node::Percent(number)));
        }
        if self.eat_phrase("pp") {
            return Ok(raw(self, Node::Points(number)));
        }
        if let Some((unit, length)) = self.unit() {
            self.at += length;
            return Ok(raw(self, Node::Quantity(number, unit)));
        }
        if self
            .rest()
            .starts_with(|c: char| c.is_alphabetic() || c == '°' || c == '$')
            && !self.at_operator_word()
        {
            return Err(self.unknown_unit(number));
        }
        self.at = before_spaces;
        Ok(raw(self, Node::Number(number)))
    }

    /// The unit that stands here, and its length in the text; the longest wins. Long words for tokens and requests are units, too.
    fn unit(&self) -> Option<(&'static Unit, usize)> {
        const WORDS: [(&str, &str); 8] = [
            ("μs", "us"),
            ("tokens", "tok"),
            ("requests", "req"),
            ("tokens/s", "tok/s"),
            ("requests/s", "req/s"),
            ("kB", "KB"),
            ("tok/sec", "tok/s"),
            ("req/sec", "req/s"),
        ];
        let written = UNITS.iter().map(|unit| (unit.text, unit)).chain(
            WORDS
                .iter()
                .filter_map(|(word, text)| Some((*word, Unit::find(text)?))),
        );
        written
            .filter(|(word, _)| {
                self.rest().strip_prefix(*word).is_some_and(|after| {
                    !after.starts_with(|c: char| c.is_alphanumeric() || c == '_' || c == '(')
                })
            })
            .max_by_key(|(word, _)| word.len())
            .map(|(word, unit)| (unit, word.len()))
    }

    fn unknown_unit(&self, number: f64) -> Box<Diagnostic> {
        let length = self
            .rest()
            .find(|c: char| !(c.is_alphanumeric() || "/°$".contains(c)))
            .unwrap_or(self.rest().len());
        let word = &self.rest()[..length];
        let part = Part(self.at, self.at + length);
        if matches!(word, "st" | "nd" | "rd" | "th") {
            return self.error_with(
                codes::UNIT,
                format!("`{word}` is no unit"),
                part,
                "",
                format!("write `P{number}` for the percentile"),
            );
        }
        if let Some(written) = self.written_out(word, number) {
            return self.error_with(
                codes::UNIT,
                format!("`{word}` is no unit"),
                part,
                format!("did you mean `{written}`?"),
                "numbers are written out, with `_` between their digits if you like: 100_000",
            );
        }
        let meant = match word.to_ascii_lowercase().as_str() {
            "sec" | "secs" | "second" | "seconds" => Some("s"),
            "msec" | "msecs" | "millis" | "millisecond" | "milliseconds" => Some("ms"),
            "usec" | "micros" | "microseconds" => Some("us"),
            "min" | "mins" | "minute" | "minutes" => Some("m"),
            "hour" | "hours" | "hr" => Some("h"),
            "percent" => Some("%"),
            "c" | "celsius" => Some("°C"),
            "watt" | "watts" => Some("W"),
            "joule" | "joules" => Some("J"),
            "tps" | "t/s" | "tokens/sec" | "toks/s" => Some("tok/s"),
            "rps" | "qps" | "r/s" => Some("req/s"),
            lower => UNITS
                .iter()
                .find(|unit| unit.text.to_lowercase() == lower)
                .map(|unit| unit.text)
                .or_else(|| {
                    did_you_mean(
                        word,
                        UNITS
                            .iter()
                            .map(|unit| unit.text)
                            .filter(|text| text.len() > 1),
                    )
                }),
        };
        self.error_with(
            codes::UNIT,
            format!("unknown unit `{word}`"),
            part,
            meant.map(|meant| format!("did you mean `{number}{meant}`?")).unwrap_or_default(),
            "units: ns us ms s m h, %, pp, tok req, B KiB MiB GiB KB MB GB, W J °C MHz $, tok/s req/s tok/J J/tok /s /min",
        )
    }

    /// What `100k tok/s` means: `100000`. Before what is no unit `M` may be one of its own.
    fn written_out(&self, word: &str, number: f64) -> Option<String> {
        let mut letters = word.chars();
        let factor = match letters.next()? {
            'k' | 'K' => 1e3,
            'M' => 1e6,
            _ => return None,
        };
        let unit = letters.as_str();
        let next = self.rest()[word.len()..].trim_start();
        let before_unit = UNITS.iter().any(|unit| next.starts_with(unit.text));
        let whole = (number * factor * 1e6).round() / 1e6;
        match unit {
            "" if factor < 1e6 || before_unit => Some(whole.to_string()),
            "tok" | "tok/s" | "req" | "req/s" => Some(format!("{whole} {unit}")),
            _ => None,
        }
    }

    fn at_operator_word(&self) -> bool {
        [
            "of", "under", "below", "over", "above", "at most", "at least", "and", "or",
        ]
        .iter()
        .any(|words| phrase_length(self.rest(), words).is_some())
    }

    /// Moves over digits, `_` and one decimal point.
    fn digits(&mut self) -> Part {
        let start = self.at;
        let mut point = false;
        for (i, c) in self.rest().char_indices() {
            let next_is_digit = || self.rest()[i + 1..].starts_with(|c: char| c.is_ascii_digit());
            match c {
                '0'..='9' => {}
                '_' if i > 0 && next_is_digit() => {}
                '.' if !point && next_is_digit() => point = true,
                _ => {
                    self.at = start + i;
                    return Part(start, self.at);
                }
            }
        }
        self.at = self.text.len();
        Part(start, self.at)
    }

    // ---- the text ----

    fn rest(&self) -> &'a str {
        &self.text[self.at..]
    }

    fn second(&self) -> Option<char> {
        self.rest().chars().nth(1)
    }

    fn slice(&self, part: Part) -> &'a str {
        self.text.get(part.0..part.1).unwrap_or("")
    }

    fn skip_spaces(&mut self) {
        self.at += self.rest().len() - self.rest().trim_start().len();
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = self.rest().starts_with(symbol);
        if found {
            self.at += symbol.len();
        }
        found
    }

    fn eat_phrase(&mut self, words: &str) -> bool {
        match phrase_length(self.rest(), words) {
            Some(length) => {
                self.at += length;
                true
            }
            None => false,
        }
    }

    fn expect(&mut self, symbol: &str) -> Parsed<()> {
        self.skip_spaces();
        if self.eat(symbol) {
            return Ok(());
        }
        let here = self.here();
        let found = match self.slice(here) {
            "" => "the end".to_owned(),
            found => format!("`{found}`"),
        };
        Err(self.error(
            codes::SYNTAX,
            format!("expected `{symbol}`, found {found}"),
            here,
        ))
    }

    /// The word or sign that stands here, for messages.
    fn here(&self) -> Part {
        let spaces = self.rest().len() - self.rest().trim_start().len();
        let start = self.at + spaces;
        let word = self.word_at(start);
        let length = match word.len() {
            0 => {
                let rest = &self.text[start..];
                match rest.chars().next() {
                    Some(c)
                        if rest[c.len_utf8()..].starts_with('=')
                            || rest[c.len_utf8()..].starts_with(c) && !c.is_alphanumeric() =>
                    {
                        c.len_utf8() + 1.min(rest.len() - c.len_utf8())
                    }
                    Some(c) => c.len_utf8(),
                    None => 0,
                }
            }
            length => length,
        };
        let end = start + length;
        Part(
            start,
            if self.text.is_char_boundary(end) {
                end
            } else {
                self.text.len()
            },
        )
    }

    /// Letters, digits, `_`, `-` and inner dots from `start` on.
    fn word_at(&self, start: usize) -> &'a str {
        let rest = &self.text[start..];
        let mut end = 0;
        for (i, c) in rest.char_indices() {
            let inner_dot =
                c == '.' && i > 0 && rest[i + 1..].starts_with(|c: char| c.is_alphanumeric());
            if !(c.is_alphanumeric() || c == '_' || (c == '-' && i > 0) || inner_dot) {
                break;
            }
            end = i + c.len_utf8();
        }
        &rest[..end]
    }

    /// The part, grown until it cuts no character.
    fn whole_characters(&self, part: Part) -> Part {
        let length = self.text.len();
        let start = (0..=part.0.min(length))
            .rev()
            .find(|at| self.text.is_char_boundary(*at));
        let end = (part.1.min(length)..=length).find(|at| self.text.is_char_boundary(*at));
        Part(start.unwrap_or(0), end.unwrap_or(length))
    }

    fn deeper(&mut self) -> Parsed<()> {
        self.depth += 1;
        if self.depth > DEEPEST {
            let here = self.here();
            return Err(self.error(codes::SYNTAX, "the expression is nested too deeply", here));
        }
        Ok(())
    }

    fn error(&self, code: &'static str, message: impl Into<String>, part: Part) -> Box<Diagnostic> {
        Box::new(
            Diagnostic::error(code, message).at(self.place.span(self.whole_characters(part)), ""),
        )
    }

    fn error_with(
        &self,
        code: &'static str,
        message: impl Into<String>,
        part: Part,
        label: impl Into<String>,
        help: impl Into<String>,
    ) -> Box<Diagnostic> {
        Box::new(
            Diagnostic::error(code, message)
                .at(self.place.span(self.whole_characters(part)), label)
                .help(help),
        )
    }
}

fn binary(operator: Operator, left: Raw, right: Raw) -> Raw {
    Raw {
        part: left.part.to(right.part),
        node: Node::Binary {
            operator,
            left: Box::new(left),
            right: Box::new(right),
        },
    }
}

fn extreme(word: &str) -> Option<Extreme> {
    match word.to_ascii_lowercase().as_str() {
        "max" => Some(Extreme::Max),
        "min" => Some(Extreme::Min),
        _ => None,
    }
}

const AGGREGATES: [(&str, Word); 11] = [
    ("mean", Word::Mean),
    ("avg", Word::Mean),
    ("med", Word::Median),
    ("median", Word::Median),
    ("min", Word::Min),
    ("max", Word::Max),
    ("std", Word::Std),
    ("sum", Word::Sum),
    ("count", Word::Count),
    ("rate", Word::Rate),
    ("last", Word::Last),
];

/// The aggregate that a word is; an error for `p` and a number that is no percentile.
pub(super) fn aggregate(word: &str) -> Option<Result<Word, ()>> {
    let lower = word.to_ascii_lowercase();
    if let Some(number) = lower.strip_prefix('p')
        && number.starts_with(|c: char| c.is_ascii_digit())
        && number.chars().all(|c| c.is_ascii_digit() || c == '.')
    {
        return Some(Percentile::read(number).map(Word::Percentile).ok_or(()));
    }
    AGGREGATES
        .iter()
        .find(|(name, _)| *name == lower)
        .map(|(_, word)| Ok(*word))
}

fn id_prefix(text: &str) -> &str {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '_'))
        .unwrap_or(text.len());
    &text[..end]
}

/// The length of `phrase` at the start of `text`: case does not matter, a space stands for spaces, `_` or `-`, and the phrase
/// ends where a word ends.
fn phrase_length(text: &str, phrase: &str) -> Option<usize> {
    let mut rest = text;
    for c in phrase.chars() {
        let next = rest.chars().next()?;
        if c == ' ' || c == '_' {
            if next == '_' || next == '-' {
                rest = &rest[1..];
            } else {
                let trimmed = rest.trim_start();
                if trimmed.len() == rest.len() {
                    return None;
                }
                rest = trimmed;
            }
        } else if next.eq_ignore_ascii_case(&c) {
            rest = &rest[next.len_utf8()..];
        } else {
            return None;
        }
    }
    let mut after = rest.chars();
    let ends = match after.next() {
        None => true,
        Some('-') => !after.next().is_some_and(char::is_alphanumeric),
        Some(c) => !(c.is_alphanumeric() || c == '_'),
    };
    ends.then_some(text.len() - rest.len())
}

/// The metric whose name or alias is nearest to as many words as it has at the start of `text`.
fn nearest_metric(text: &str) -> Option<(&'static str, &'static Metric)> {
    let words: Vec<&str> = text.split_whitespace().take(5).collect();
    let mut best: Option<(usize, &'static str, &'static Metric)> = None;
    for metric in registry::metrics() {
        for name in std::iter::once(&metric.name).chain(metric.aliases) {
            let count = name.split(' ').count();
            if count > words.len() {
                continue;
            }
            let written = words[..count].join(" ").to_lowercase();
            let distance = strsim::damerau_levenshtein(&written, name);
            let limit = (name.chars().count() / 3).max(1);
            if distance <= limit && best.is_none_or(|(least, ..)| distance < least) {
                best = Some((distance, name, metric));
            }
        }
    }
    best.map(|(_, name, metric)| (name, metric))
}

/// `TTFT` when the user wrote in capitals.
fn in_case_of(word: &str, name: &str) -> String {
    if word.chars().any(char::is_uppercase) && !word.chars().any(char::is_lowercase) {
        name.to_uppercase()
    } else {
        name.to_owned()
    }
}

fn ids_help(context: Context) -> String {
    let mut ids: Vec<&str> = context.ids.iter().map(|(_, id)| id.as_str()).collect();
    ids.sort_unstable();
    ids.dedup();
    match ids.as_slice() {
        [] => "the scenario names no ids".to_owned(),
        ids => format!("ids of this scenario: {}", ids.join(", ")),
    }
}
