//! Every stable code of a diagnostic, with its explanation in a line. A code is never used again for another thing.

/// Code and explanation, in order: `S` is an error, `L` a lint. S001–S009 are about the text, S010–S029 about values; S030–S043
/// belong to assertions and S044–S099 to the plan, which keep their own tables; S100–S119 are about files, profiles and expressions.
pub const CODES: &[(&str, &str)] = &[
    ("S001", "the text is not valid YAML"),
    ("S002", "a tab is used where YAML wants spaces"),
    (
        "S003",
        "the file nests too deeply, or its aliases stand for too much",
    ),
    ("S004", "a key stands twice in the same map"),
    (
        "S005",
        "a comma inside `{ … }` ends a value that was meant to go on",
    ),
    (
        "S006",
        "`${{` opens a map when it is not quoted inside `{ … }` or `[ … ]`",
    ),
    ("S007", "YAML tags like `!name` are not used in scenarios"),
    ("S008", "a file holds exactly one scenario"),
    (
        "S009",
        "a key is not a plain text, or `<<` does not name a map",
    ),
    ("S010", "a key that is not known here"),
    ("S011", "a key that must be given is missing"),
    ("S012", "a variable that is not defined"),
    ("S013", "a value of another type than is wanted"),
    ("S014", "a word that is not one of the choices"),
    ("S015", "a quantity without its unit, or with a wrong one"),
    (
        "S016",
        "an id that is not lower-case letters, digits and dashes",
    ),
    ("S017", "an id that is the name of a metric"),
    ("S018", "keys that exclude each other"),
    ("S020", "a secret that stands in the file"),
    ("S021", "the file requires another version of the tool"),
    ("S022", "a version of the format that is not known"),
    ("S023", "an address that is not an `http` or `https` URL"),
    ("S024", "a number that is out of range"),
    ("S025", "a map or list with nothing in it"),
    ("S026", "a condition that cannot be read"),
    ("S027", "a value of `--set` that has no place in the file"),
    ("S044", "a stage that the load does not have"),
    ("S100", "a file that another one names cannot be read"),
    (
        "S101",
        "files name each other in a circle, or in too long a chain",
    ),
    ("S102", "a library adds an entry that is there already"),
    ("S103", "a library says more than entries"),
    ("S104", "`null` takes away what is not there"),
    (
        "S105",
        "a profile that is not there, inherits in a circle, or says what is read before it",
    ),
    ("S106", "an expression that cannot be read"),
    ("S107", "an expression that cannot be computed"),
    (
        "S108",
        "a variable, a secret or a cell where it cannot be used",
    ),
    ("S109", "a variable without a value"),
    (
        "L010",
        "a word that other readers of YAML take for something else",
    ),
];

/// What a code means, in a line.
pub fn explain(code: &str) -> Option<&'static str> {
    CODES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(code))
        .map(|(_, explanation)| *explanation)
}
