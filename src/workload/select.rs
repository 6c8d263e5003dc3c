//! Which rows of a source become prompts, and in which order they are asked.
//!
//! Each row has a key: its number, or, shuffled, a seeded hash of its number. The rows with the smallest keys, in the order of
//! their keys, are at once a uniform sample and a uniform permutation, so a heap as large as the sample is all that is held.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BinaryHeap};
use std::sync::Arc;

use crate::seed::Seed;

use super::conversation::Conversation;
use super::error::{RowProblem, WorkloadError};
use super::facts::DropReason;
use super::images::Named;
use super::prompt::estimated_tokens;
use super::source::{Filter, PromptSource};
use super::tokenizer::Tokenizer;

/// How many bad rows an error quotes.
const TOLD: usize = 5;

/// What a row offers, before it is chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Candidate {
    pub(super) id: Option<String>,
    pub(super) text: String,
    pub(super) category: Option<String>,
    pub(super) max_tokens: Option<u32>,
    pub(super) min_tokens: Option<u32>,
    pub(super) ignore_eos: Option<bool>,
    pub(super) expected_tokens: Option<(u32, u32)>,
    pub(super) conversation: Option<Conversation>,
    /// Images beside what is said.
    pub(super) images: Vec<Named>,
}

/// Why a row offers nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Unfit {
    /// Of no use, and counted.
    Dropped(DropReason),
    /// Wrong: the set cannot be loaded.
    Bad(String),
}

/// A chosen row; ordered by its key.
#[derive(Clone, Debug)]
pub(super) struct Chosen {
    pub(super) key: u64,
    /// Its number in the source, from 1.
    pub(super) row: u64,
    pub(super) candidate: Candidate,
}

/// Takes rows in, keeps those that are wanted, and counts the rest.
#[derive(Debug)]
pub(super) struct Selection {
    filter: Filter,
    matches: Option<regex::Regex>,
    tokenizer: Option<Arc<Tokenizer>>,
    category: Option<String>,
    shuffled: Option<Seed>,
    capacity: usize,
    chosen: BinaryHeap<Chosen>,
    pub(super) read: u64,
    pub(super) kept: u64,
    pub(super) bad: u64,
    pub(super) problems: Vec<RowProblem>,
    dropped: BTreeMap<DropReason, u64>,
}

impl Selection {
    /// # Errors
    /// The filter's regular expression is none.
    pub(super) fn new(source: &PromptSource, filter: Filter) -> Result<Selection, WorkloadError> {
        let matches = filter.matches.as_deref().map(regex::Regex::new).transpose();
        Ok(Selection {
            matches: matches.map_err(|error| WorkloadError::Impossible {
                id: source.id.clone(),
                message: format!("`matches` is no regular expression: {error}"),
            })?,
            filter,
            tokenizer: source.tokenizer.clone(),
            category: source.category.clone(),
            shuffled: source.shuffle.then(|| order_seed(source)),
            capacity: source.limit.map_or(usize::MAX, with_warmup),
            chosen: BinaryHeap::new(),
            read: 0,
            kept: 0,
            bad: 0,
            problems: Vec::new(),
            dropped: BTreeMap::new(),
        })
    }

    /// Takes the next row in; `place` says where it is, should it be wrong.
    pub(super) fn take(
        &mut self,
        row: Result<Candidate, Unfit>,
        place: impl FnOnce(u64) -> String,
    ) {
        self.read += 1;
        match row.and_then(|candidate| self.filtered(candidate)) {
            Ok(candidate) => self.keep(candidate),
            Err(Unfit::Dropped(reason)) => *self.dropped.entry(reason).or_default() += 1,
            Err(Unfit::Bad(message)) => {
                self.bad += 1;
                if self.problems.len() < TOLD {
                    let place = place(self.read);
                    self.problems.push(RowProblem { place, message });
                }
            }
        }
    }

    /// Rows held at this moment: never more than `limit` and its warm-up.
    pub(super) fn held(&self) -> usize {
        self.chosen.len()
    }

    pub(super) fn dropped(&self) -> Vec<(DropReason, u64)> {
        self.dropped
            .iter()
            .map(|(reason, count)| (*reason, *count))
            .collect()
    }

    /// The chosen rows in no order.
    pub(super) fn chosen(&self) -> impl Iterator<Item = &Chosen> {
        self.chosen.iter()
    }

    /// Takes in what another selection of the same kind has chosen.
    pub(super) fn restore(
        &mut self,
        read: u64,
        kept: u64,
        dropped: Vec<(DropReason, u64)>,
        chosen: Vec<Chosen>,
    ) {
        self.read = read;
        self.kept = kept;
        self.dropped = dropped.into_iter().collect();
        self.chosen = chosen.into();
    }

    /// The chosen rows in the order in which they are asked.
    pub(super) fn into_chosen(self) -> Vec<Chosen> {
        self.chosen.into_sorted_vec()
    }

    fn filtered(&self, mut candidate: Candidate) -> Result<Candidate, Unfit> {
        let filter = &self.filter;
        let length = candidate.text.chars().count();
        if filter.min_chars.is_some_and(|least| length < least) {
            return Err(Unfit::Dropped(DropReason::TooShort));
        }
        if filter.max_chars.is_some_and(|most| length > most) {
            return Err(Unfit::Dropped(DropReason::TooLong));
        }
        if let Some(wanted) = &self.matches
            && !wanted.is_match(&candidate.text)
        {
            return Err(Unfit::Dropped(DropReason::NoMatch));
        }
        if filter.counts_tokens() {
            let tokens = match &self.tokenizer {
                Some(tokenizer) => tokenizer.count(&candidate.text),
                None => estimated_tokens(length),
            };
            if filter.min_tokens.is_some_and(|least| tokens < least) {
                return Err(Unfit::Dropped(DropReason::TooShort));
            }
            if filter.max_tokens.is_some_and(|most| tokens > most) {
                return Err(Unfit::Dropped(DropReason::TooLong));
            }
        }
        if candidate.category.is_none() {
            candidate.category.clone_from(&self.category);
        }
        Ok(candidate)
    }

    fn keep(&mut self, candidate: Candidate) {
        self.kept += 1;
        let row = self.read;
        let key = self
            .shuffled
            .as_ref()
            .map_or(row, |seed| seed.at(row).hash());
        self.chosen.push(Chosen {
            key,
            row,
            candidate,
        });
        if self.chosen.len() > self.capacity {
            self.chosen.pop();
        }
    }
}

/// The branch of the seed that orders a set; the same for every backend and model.
fn order_seed(source: &PromptSource) -> Seed {
    Seed::new(source.seed)
        .stream("prompts")
        .stream(&source.id)
        .stream("order")
}

fn with_warmup(limit: u64) -> usize {
    usize::try_from(limit.saturating_add(limit.div_ceil(10))).unwrap_or(usize::MAX)
}

/// How many of `available` prompts are measured; the rest is kept for warm-up.
///
/// With more prompts than `limit`, warm-up draws beyond it. Without, it gets the last tenth, unless the set is so small that
/// a tenth of it says nothing.
pub(super) fn measured_part(available: usize, limit: Option<u64>) -> usize {
    match limit.and_then(|limit| usize::try_from(limit).ok()) {
        Some(limit) if limit < available => limit,
        _ if available < 20 => available,
        _ => available - available.div_ceil(10),
    }
}

impl Ord for Chosen {
    fn cmp(&self, other: &Chosen) -> Ordering {
        (self.key, self.row).cmp(&(other.key, other.row))
    }
}

impl PartialOrd for Chosen {
    fn partial_cmp(&self, other: &Chosen) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Chosen {
    fn eq(&self, other: &Chosen) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Chosen {}
