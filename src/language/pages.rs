//! The page of each code: what it means, a file that is wrong, and the same file put right. They are the files in
//! `docs/diagnostics`, and a test holds that each says what the tool does.

use crate::{assertion, plan, spec};

/// What is known of a code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Page {
    /// The code, like `S031`.
    pub code: &'static str,
    /// What it means, in a line.
    pub title: &'static str,
    /// The whole page, as Markdown.
    pub text: &'static str,
}

/// Every code that a diagnostic can have, with what it means in a line, in their order.
pub fn codes() -> Vec<(&'static str, &'static str)> {
    let mut codes: Vec<(&str, &str)> = [spec::CODES, assertion::CODES, plan::codes::CODES]
        .into_iter()
        .flatten()
        .copied()
        .collect();
    // Errors before lints, as they matter.
    codes.sort_by_key(|(code, _)| (code.starts_with('L'), *code));
    codes
}

/// What a code means, in a line; its case does not matter.
pub fn title(code: &str) -> Option<&'static str> {
    codes()
        .into_iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(code))
        .map(|(_, title)| title)
}

/// The page of a code; its case does not matter.
pub fn page(code: &str) -> Option<Page> {
    let (code, text) = PAGES
        .iter()
        .find(|(known, _)| known.eq_ignore_ascii_case(code))?;
    Some(Page {
        code,
        title: title(code)?,
        text,
    })
}

macro_rules! pages {
    ($($code:literal,)*) => {
        &[$(($code, include_str!(concat!("../../docs/diagnostics/", $code, ".md")))),*]
    };
}

/// A line for each file of `docs/diagnostics`.
#[rustfmt::skip]
const PAGES: &[(&str, &str)] = pages![
    "S100",
    "S101",
    "S102",
    "S103",
    "S104",
    "S105",
    "S106",
    "S107",
    "S108",
    "S109",
    "L003",
    "L010",
    "L030",
    "L031",
    "L032",
    "L033",
    "L034",
    "L036",
    "L037",
    "L038",
    "L039",
    "L040",
    "L041",
    "L042",
    "L043",
    "L044",
    "L150",
    "L151",
    "L152",
    "S001",
    "S002",
    "S003",
    "S004",
    "S005",
    "S006",
    "S007",
    "S008",
    "S009",
    "S010",
    "S011",
    "S012",
    "S013",
    "S014",
    "S015",
    "S016",
    "S017",
    "S018",
    "S020",
    "S021",
    "S022",
    "S023",
    "S024",
    "S025",
    "S026",
    "S027",
    "S030",
    "S031",
    "S032",
    "S033",
    "S034",
    "S035",
    "S036",
    "S037",
    "S038",
    "S039",
    "S040",
    "S041",
    "S042",
    "S043",
    "S044",
    "S045",
    "S046",
    "S048",
    "S049",
    "S050",
    "S051",
    "S052",
    "S053",
    "S054",
    "S056",
    "S057",
    "S058",
    "S059",
    "S060",
    "S061",
    "S062",
    "S063",
    "S064",
    "S065",
    "S066",
    "S067",
    "S068",
    "S069",
    "S070",
    "S071",
    "S072",
    "S073",
    "S074",
    "S075",
    "S076",
    "S077",
    "S078",
    "S079",
    "S085",
    "S150",
    "S151",
    "S152",
    "S153",
    "S154",
    "S155",
    "S156",
    "S157",
    "S158",
    "S159",
    "S160",
    "S161",
];
