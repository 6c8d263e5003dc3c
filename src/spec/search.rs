//! A load that looks for the capacity, as it is written: between which levels, how long each is held, how finely it looks.

use std::rc::Rc;
use std::time::Duration;

use serde_json::{Value, json};

use super::decode::{Decode, Problems};
use super::macros::record;
use super::rules::EXTENTS;
use super::schema::Definitions;
use super::tree::{Map, Node};
use super::types::WarmupSpec;
use crate::diagnostic::Spanned;
use crate::units::{QuantityError, Rate, Share, parse_rate};

record! {
    /// Looks for the largest rate, or the most users, at which every SLO of level `fail` holds.
    pub struct SearchSpec {
        check: check;
        /// From the rate that must hold to the greatest that is tried (open loop), like `1/s..200/s`.
        pub rate: Option<Spanned<RangeSpec<Rate>>>,
        /// From the users that must be served to the most that are tried (closed loop), like `1..256`.
        pub users: Option<Spanned<RangeSpec<u32>>>,
        /// How long a level is held.
        pub duration ("for"): Option<Spanned<Duration>>,
        /// How many requests a level sends.
        pub requests: Option<Spanned<u64>>,
        /// How many requests each user sends.
        pub requests_per_user: Option<Spanned<u64>>,
        /// How far the answer may lie below the true capacity, as a share of it. Default: `5%`.
        pub resolution: Option<Spanned<Share>>,
        /// No level begins that cannot end in this time. Default: none.
        pub stop_after: Option<Spanned<Duration>>,
        /// What is sent before each level and not measured: a time, or `{ requests: N }`. Default: that of the run.
        pub warmup: Option<Spanned<WarmupSpec>>,
        /// How long nothing happens between levels.
        pub cooldown: Option<Spanned<Duration>>,
    }
}

/// From one level to another, both included.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RangeSpec<T> {
    /// The lower end.
    pub from: T,
    /// The upper end.
    pub to: T,
}

/// What can stand at the ends of a range.
trait Level: Sized + PartialOrd {
    const EXAMPLE: &'static str;
    const PATTERN: &'static str;

    fn read(text: &str) -> Result<Self, QuantityError>;

    fn is_nothing(&self) -> bool;
}

impl Level for Rate {
    const EXAMPLE: &'static str = "1/s..200/s";
    const PATTERN: &'static str =
        r"^\s*[0-9._]+[kM]?\s*/\s*(s|sec|m|min|h)\s*\.\.\s*[0-9._]+[kM]?\s*/\s*(s|sec|m|min|h)\s*$";

    fn read(text: &str) -> Result<Rate, QuantityError> {
        parse_rate(text)
    }

    fn is_nothing(&self) -> bool {
        self.per_second() == 0.0
    }
}

impl Level for u32 {
    const EXAMPLE: &'static str = "1..256";
    const PATTERN: &'static str = r"^\s*[0-9]+\s*\.\.\s*[0-9]+\s*$";

    fn read(text: &str) -> Result<u32, QuantityError> {
        text.trim().parse().map_err(|_| {
            let message = format!("`{}` is not a number of users", text.trim());
            QuantityError::new(message, "write it like `1..256`".to_owned())
        })
    }

    fn is_nothing(&self) -> bool {
        *self == 0
    }
}

impl<T: Level> Decode for RangeSpec<T> {
    fn decode(node: &Rc<Node>, problems: &mut Problems) -> Option<Self> {
        let what = format!("a range like `{}`", T::EXAMPLE);
        let text = problems.text(&what, node)?;
        let Some((from, to)) = text.split_once("..") else {
            problems.expected(&what, node);
            return None;
        };
        let from = problems.quantity(node, T::read(from));
        let to = problems.quantity(node, T::read(to));
        let (from, to) = (from?, to?);
        if from.is_nothing() {
            problems.error("S024", "a search begins above 0", node.span, "");
            return None;
        }
        if from > to {
            let message = "the range ends below its beginning";
            problems.error("S024", message, node.span, "");
            return None;
        }
        Some(RangeSpec { from, to })
    }

    fn schema(_definitions: &mut Definitions) -> Value {
        json!({ "type": "string", "pattern": T::PATTERN, "examples": [T::EXAMPLE] })
    }
}

/// The finest resolution: below it two levels of a minute cannot be told apart.
const FINEST: f64 = 0.01;

fn check(spec: &SearchSpec, map: &Map, problems: &mut Problems) {
    let why = "a search goes over users (closed loop) or rates (open loop)";
    let kind = problems.only_one_of(map, &["users", "rate"], why);
    if let (None, Some((first, _))) = (kind, map.entries.first()) {
        problems.error(
            "S011",
            "the range is missing",
            first.span,
            "`users` or `rate` must be given here",
        );
    }
    problems.only_one_of(map, EXTENTS, "a level ends in one way");
    for (key, value) in [
        ("requests", &spec.requests),
        ("requests_per_user", &spec.requests_per_user),
    ] {
        if let Some(value) = value {
            problems.at_least_one(key, value);
        }
    }
    if let Some(share) = &spec.resolution
        && !(FINEST..=1.0).contains(&share.value.fraction())
    {
        let message = "`resolution` lies between 1% and 100%";
        problems.error("S024", message, share.span, "");
    }
}
