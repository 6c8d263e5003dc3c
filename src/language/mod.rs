//! Scenario files as a language: what the tool can tell a person who writes one.
//!
//! In: a code, or the texts of files as they are being written and a place in them. Out: the page of the code; what can stand at the
//! place, what stands there means, and where it is defined; the text in its canonical layout. Nothing here reads a file or sends
//! anything.

mod pages;
// A file that is being written, and those beside it.
mod outline;
mod documents;
// What can be said of a place in it.
mod guide;
mod names;
mod asserted;
mod complete;
mod point;
mod layout;

pub use complete::offers;
pub use documents::{Document, gather};
pub use guide::Guide;
pub use layout::layout;
pub use names::Definition;
pub use outline::{Entry, Step};
pub use pages::{Page, codes, page, title};
pub use point::{definition, hover};

/// Something that can be written at a place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offer {
    /// What is shown in the list.
    pub label: String,
    /// What kind of thing it is, in a few words.
    pub detail: String,
    /// What it means, as Markdown.
    pub about: String,
    /// What is written.
    pub insert: String,
    /// The byte from which on it replaces what is half written.
    pub start: usize,
    /// What an editor draws beside it.
    pub kind: OfferKind,
}

/// What kind of thing an offer is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OfferKind {
    /// A key of a map.
    Key,
    /// A word of the format.
    Word,
    /// A name that the scenario defines.
    Name,
    /// A metric.
    Metric,
    /// How a value may look.
    Example,
}

impl Offer {
    fn name(name: String, start: usize) -> Offer {
        Offer {
            insert: name.clone(),
            label: name,
            detail: "of this scenario".to_owned(),
            about: String::new(),
            start,
            kind: OfferKind::Name,
        }
    }
}
