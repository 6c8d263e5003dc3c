//! The stable codes of this stage's diagnostics, each with its explanation in a line.

/// Code and explanation, in order: `S` is an error, `L` a lint.
pub const CODES: &[(&str, &str)] = &[
    (
        "S045",
        "the matrix names something that the scenario does not define",
    ),
    ("S046", "no combination is left to run"),
    ("S048", "two levels of a load are the same"),
    ("S049", "a load mixes rates and users"),
    ("S050", "requests for each user in a load that has none"),
    (
        "S051",
        "a load that begins without a rate or a number of users",
    ),
    ("S052", "an exponential ramp that touches zero"),
    ("S053", "a counted stage that nobody sends"),
    ("S054", "fewer than 3 requests for each user of a level"),
    ("S056", "a backend without an address"),
    ("S057", "a preset that the simulator does not have"),
    ("S058", "a prompt set that cannot be loaded"),
    ("S059", "the plan needs more than the run's budget"),
    (
        "S060",
        "the plan asks more of a backend than its limit allows",
    ),
    ("S061", "a selection that matches no cell"),
    (
        "S062",
        "something that the format knows and this version cannot run yet",
    ),
    (
        "S063",
        "a model served under a name at a backend that does not exist",
    ),
    ("S064", "goodput over a metric that a request does not have"),
    (
        "S065",
        "a goodput rule for a dimension that requests do not have",
    ),
    (
        "S066",
        "answer lengths that vary on prompts that are not synthetic",
    ),
    ("S067", "a load without any measured stage"),
    ("S068", "a level that takes no time"),
    (
        "S069",
        "a batch over an endless prompt set without a number of requests",
    ),
    ("S070", "a closed-loop ramp that is counted, not timed"),
    (
        "S071",
        "an environment variable for a header that is not set",
    ),
    ("S150", "a distribution of lengths that has no lengths"),
    ("S151", "a tokenizer that cannot be loaded"),
    ("S152", "a trace without a tokenizer for its lengths"),
    ("S153", "a part of a trace with nothing in it"),
    ("S155", "a data set that cannot be fetched"),
    (
        "S156",
        "states of the prefix cache, and nothing to be cached",
    ),
    ("S154", "a load that plays something that is no trace"),
    ("S157", "conversations, and a load that sends batches"),
    (
        "S159",
        "engine arguments as an axis, and no engine that is started with them",
    ),
    ("S160", "lengths as axes that no prompt set can have"),
    ("S161", "prompts that do not fit the model's context"),
    (
        "S158",
        "conversations for an API that takes a text, without a chat template for them",
    ),
    (
        "S072",
        "a launched engine of a kind whose command is not known",
    ),
    ("S073", "a launched engine that is not told its port"),
    (
        "S074",
        "a request that cannot be put in the words of the backend's API",
    ),
    ("S075", "arguments of an adapter that have no names"),
    (
        "S076",
        "engines with and without a server in one scenario, which does not say that it is meant",
    ),
    (
        "S077",
        "backends that a strict comparison does not treat alike",
    ),
    (
        "S078",
        "a benchmark of an engine's own whose results cannot be read",
    ),
    ("S079", "a search for a capacity that nothing bounds"),
    ("S085", "a plot that is not drawn"),
    ("L003", "a percentile with too few samples to be sure of it"),
    ("L033", "an override that applies nowhere"),
    ("L034", "an SLO that judges what another one judges already"),
    ("L036", "an exclusion that excludes nothing"),
    ("L037", "a key that has no effect in this load"),
    ("L038", "the load alone takes longer than the run may"),
    ("L039", "the prompts of a set are used more than once"),
    (
        "L040",
        "answers may take more tokens than a backend's limit allows",
    ),
    (
        "L041",
        "an expectation that this version does not judge yet",
    ),
    ("L042", "an SLO that has no say in a search"),
    ("L043", "`separated` without two sides or without repeats"),
    ("L044", "an SLO on a baseline that is not there"),
    (
        "L150",
        "a tokenizer that is not at hand: lengths are estimated",
    ),
    ("L152", "prompts are left out or cut to fit the context"),
    (
        "L151",
        "a data set that is not at hand: a check does not fetch it",
    ),
];

/// What a code of this stage means, in a line.
pub fn explain(code: &str) -> Option<&'static str> {
    CODES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(code))
        .map(|(_, explanation)| *explanation)
}
