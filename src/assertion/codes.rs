//! The codes of what can be wrong with an assertion, for `scenario explain`.

/// Each code and what it means, in one line.
pub const CODES: &[(&str, &str)] = &[
    (
        SYNTAX,
        "the text is not one comparison, like `P95 TTFT < 500ms`",
    ),
    (
        METRIC,
        "the metric does not exist; `scenario help metrics` lists all",
    ),
    (UNIT, "the unit does not exist, or cannot stand here"),
    (
        AGGREGATE,
        "the aggregate means nothing on this kind of metric, or one is missing",
    ),
    (
        DIMENSION,
        "two sides that are numbers of different things were compared or added",
    ),
    (
        SHARE,
        "a share was compared with a number above 1; `1%` or `0.01` is meant",
    ),
    (
        RELATIVE_SHARE,
        "`± 1%` on a share can mean two things: write `+ 1pp` (points) or `* 1.01`",
    ),
    (
        EQUALITY,
        "`==` and `!=` are for counts; a measured value is never exactly equal to a bound",
    ),
    (
        NO_METRIC,
        "an aggregate stands alone, and no metric key says what it is of",
    ),
    (
        ID,
        "an id in an assertion or a `where` does not exist, or exists in several registries",
    ),
    (
        SELECTOR,
        "a condition in braces or in a `where` has a dimension, comparison or value that cannot be met",
    ),
    (
        PERCENTILE,
        "a percentile lies between 0 and 100, with at most three decimals",
    ),
    (CONSTANT, "nothing in the assertion is measured"),
    (
        REFERENCE,
        "a reference that no combination of the matrix can match",
    ),
    (
        BARE_NUMBER,
        "a bare number stands for the canonical unit; write the unit",
    ),
    (IMPOSSIBLE, "the bound can never be met"),
    (ALWAYS, "the bound is always met"),
];

pub(super) const SYNTAX: &str = "S030";
pub(super) const METRIC: &str = "S031";
pub(super) const UNIT: &str = "S032";
pub(super) const AGGREGATE: &str = "S033";
pub(super) const DIMENSION: &str = "S034";
pub(super) const SHARE: &str = "S035";
pub(super) const RELATIVE_SHARE: &str = "S036";
pub(super) const EQUALITY: &str = "S037";
pub(super) const NO_METRIC: &str = "S038";
pub(crate) const ID: &str = "S039";
pub(crate) const SELECTOR: &str = "S040";
pub(super) const PERCENTILE: &str = "S041";
pub(super) const CONSTANT: &str = "S042";
pub(crate) const REFERENCE: &str = "S043";
pub(super) const BARE_NUMBER: &str = "L030";
pub(super) const IMPOSSIBLE: &str = "L031";
pub(crate) const ALWAYS: &str = "L032";
