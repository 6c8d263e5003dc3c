//! A loaded prompt set.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::seed::Seed;
use crate::units::Moment;

use super::categories::read_categories;
use super::context::{Beyond, Context};
use super::error::WorkloadError;
use super::facts::{DropReason, Facts, Spread};
use super::file::{read_conversations, read_file, read_sharegpt, read_sharegpt_stream};
use super::images;
use super::lengths::LengthDistribution;
use super::prefix::Prefixes;
use super::prepared::Prepared;
use super::prompt::{Prompt, SEAM};
use super::prose::Prose;
use super::select::{Candidate, Chosen, Selection, Unfit, measured_part};
use super::source::{Filter, InlinePrompt, PrefixCache, PromptSource, SharedPrefix, Source};
use super::synthetic::Synthesizer;
use super::trace::{ReplayOptions, Trace, TracePrompts};
use super::words::{self, Use};

/// The prompts of the default set `chat`.
const EMBEDDED: &str = include_str!("embedded/chat.json");

/// How many prompts of an endless set are looked at for its facts.
const SAMPLED: u64 = 1000;

/// A loaded prompt set.
///
/// Cloning it, and taking a prompt out of it, copies pointers only.
#[derive(Clone, Debug, PartialEq)]
pub struct Workload {
    prompts: Prompts,
    categories: Arc<[Arc<str>]>,
    digest: Arc<str>,
    facts: Arc<Facts>,
    /// Mixed into unique first words.
    salt: u64,
}

#[derive(Clone, Debug, PartialEq)]
enum Prompts {
    Listed(Listed),
    Synthetic(Arc<Synthesizer>),
    Trace(Arc<TracePrompts>),
}

/// A trace that is about to be played.
#[derive(Clone, Debug, PartialEq)]
pub struct Replay {
    /// The prompts in the order in which they are played; each further lap or repeat has texts of its own.
    pub workload: Workload,
    /// When each of them leaves, from the start.
    pub times: Arc<[Moment]>,
    /// How long it takes.
    pub duration: Duration,
}

/// Prompts in the order in which they are asked: `measured` of them, then those kept for warm-up.
#[derive(Clone, Debug, PartialEq)]
struct Listed {
    all: Arc<[Entry]>,
    measured: usize,
    /// The prompts kept for warm-up, with a unique first word where the text is also a measured one.
    warmup: Arc<[Prompt]>,
    /// What stands before each of them.
    led_by: Option<Arc<Leading>>,
}

/// Prefixes that are put before prompts; the digest of the set tells them apart.
#[derive(Clone, Debug)]
struct Leading {
    prefixes: Prefixes,
    prose: Prose,
}

impl PartialEq for Leading {
    fn eq(&self, other: &Leading) -> bool {
        self.prefixes.identity() == other.prefixes.identity()
    }
}

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    /// Its number in the source.
    row: u64,
    prompt: Prompt,
}

impl Workload {
    /// Loads a prompt set.
    ///
    /// # Errors
    /// See [`WorkloadError`].
    pub fn load(source: &PromptSource) -> Result<Workload, WorkloadError> {
        Workload::load_by(source, None)
    }

    /// The same, where what was chosen from a large file is kept in the folder `kept` and found there the next time.
    ///
    /// # Errors
    /// See [`WorkloadError`].
    pub fn load_kept(source: &PromptSource, kept: &Path) -> Result<Workload, WorkloadError> {
        Workload::load_by(source, Prepared::of(source, kept))
    }

    fn load_by(
        source: &PromptSource,
        prepared: Option<Prepared>,
    ) -> Result<Workload, WorkloadError> {
        let mut selection = Selection::new(source, filter(&source.from))?;
        if prepared
            .as_ref()
            .is_some_and(|prepared| prepared.read(&mut selection))
        {
            return Workload::selected(source, selection, file_of(&source.from));
        }
        let path = match &source.from {
            Source::Inline(prompts) => {
                take_inline(prompts, &mut selection);
                Path::new("inline")
            }
            Source::File { path, fields, .. } => {
                read_file(path, fields, &mut selection)?;
                path
            }
            Source::ShareGpt {
                path: Some(path), ..
            } => {
                read_sharegpt(path, &mut selection)?;
                path
            }
            Source::ShareGpt { path: None, .. } => {
                let path = Path::new("embedded/chat.json");
                read_sharegpt_stream(EMBEDDED.as_bytes(), &mut selection)
                    .map_err(|stopped| stopped.at(path))?;
                path
            }
            Source::Conversations { path, turns, .. } => {
                read_conversations(path, turns, &mut selection)?;
                path
            }
            Source::Categories { path, only } => {
                read_categories(path, only, &mut selection)?;
                path
            }
            Source::Synthetic {
                input_tokens,
                output_tokens,
                shared_prefix,
            } => {
                let made = Synthesizer::new(
                    set_seed(source).stream("synthetic"),
                    input_tokens.clone(),
                    output_tokens.clone(),
                    *shared_prefix,
                    Prose::new(source.tokenizer.clone()),
                    source.limit,
                );
                if let Some((asked, has)) = made.first_inexact() {
                    return Err(WorkloadError::Impossible {
                        id: source.id.clone(),
                        message: format!(
                            "this tokenizer makes {has} tokens of a text that should have {asked}"
                        ),
                    });
                }
                return Ok(Workload::synthetic(made));
            }
            Source::Trace(file) => {
                let prompts = TracePrompts::new(
                    Trace::read(file)?,
                    set_seed(source).stream("trace"),
                    Prose::new(source.tokenizer.clone()),
                );
                return Ok(Workload::trace(prompts));
            }
        };
        if let Some(prepared) = prepared.filter(|_| selection.bad == 0) {
            prepared.write(&selection);
        }
        Workload::selected(source, selection, path)
    }

    /// The trace as these options play it; `None` if the set is no trace.
    pub fn replay(&self, options: &ReplayOptions) -> Option<Replay> {
        let Prompts::Trace(trace) = &self.prompts else {
            return None;
        };
        let (prompts, times, duration) = trace.replay(options);
        Some(Replay {
            workload: Workload {
                prompts: Prompts::Trace(prompts.into()),
                ..self.clone()
            },
            times: times.into(),
            duration,
        })
    }

    /// The same prompts with their shared prefixes in this state; `None` if they share none.
    pub fn with_cache(&self, cache: PrefixCache) -> Option<Workload> {
        match &self.prompts {
            Prompts::Synthetic(made) => {
                made.shared_prefix()?;
                Some(Workload::synthetic(made.with_cache(cache)))
            }
            Prompts::Listed(listed) => {
                let leading = listed.led_by.as_ref()?;
                let prefixes = leading.prefixes.with_cache(cache);
                let prose = leading.prose.clone();
                Some(self.behind(listed, Leading { prefixes, prose }))
            }
            Prompts::Trace(_) => None,
        }
    }

    /// The listed prompts of `source` behind prefixes that groups of them share, in the words that synthetic prompts are made of;
    /// `None` for prompts that are made, which bring their own.
    pub fn sharing(&self, shape: SharedPrefix, source: &PromptSource) -> Option<Workload> {
        let Prompts::Listed(listed) = &self.prompts else {
            return None;
        };
        let leading = Leading {
            prefixes: Prefixes::new(set_seed(source).stream("shared prefix"), shape),
            prose: Prose::new(source.tokenizer.clone()),
        };
        let longer = self.longer_by(&leading);
        Some(longer.behind(listed, leading))
    }

    /// The prompts that fit a context; the others are left out and counted, or cut, and those that are made are made shorter. `None`
    /// where nothing is left.
    pub fn within(&self, context: &Context, clip: bool) -> Option<Workload> {
        let (made, left_out) = match &self.prompts {
            Prompts::Synthetic(made) => {
                let room = room_of(made, context);
                return (room >= made.least()).then(|| Workload::synthetic(made.capped(room)));
            }
            Prompts::Trace(trace) => {
                let (prompts, left_out) = trace.within(context, clip);
                if prompts.trace().rows.is_empty() {
                    return None;
                }
                (Workload::trace(prompts), left_out)
            }
            Prompts::Listed(listed) => {
                let before = listed.tokens_before(context);
                let fit = |entry: &Entry| {
                    let prompt = context.fit(&entry.prompt, before, clip)?;
                    let row = entry.row;
                    Some(Entry { row, prompt })
                };
                let (measured, warmup) = listed.all.split_at(listed.measured);
                let mut entries: Vec<Entry> = measured.iter().filter_map(fit).collect();
                let measured = entries.len();
                if measured == 0 {
                    return None;
                }
                entries.extend(warmup.iter().filter_map(fit));
                let left_out = (listed.all.len() - entries.len()) as u64;
                let facts = (*self.facts).clone();
                let fitted = Workload::listed(entries, measured, self.salt, facts);
                (fitted.led_as(listed), left_out)
            }
        };
        let mut facts = (*made.facts).clone();
        if left_out > 0 {
            facts.dropped.push((DropReason::OverContext, left_out));
        }
        Some(Workload {
            facts: facts.into(),
            ..made
        })
    }

    /// How many of its prompts do not fit a context.
    pub fn beyond(&self, context: &Context) -> Beyond {
        Beyond::Prompts(match &self.prompts {
            Prompts::Synthetic(made) => {
                let room = room_of(made, context);
                if made.longest() <= room {
                    return Beyond::Prompts(0);
                }
                let whole = made.limit.filter(|&limit| limit <= SAMPLED);
                let looked_at = 0..whole.unwrap_or(SAMPLED);
                let lengths = looked_at.map(|ordinal| made.input_length(ordinal));
                return Beyond::Made {
                    prompts: lengths.filter(|&length| length > room).count() as u64,
                    of_first: whole.is_none().then_some(SAMPLED),
                };
            }
            Prompts::Trace(trace) => trace.within(context, false).1,
            Prompts::Listed(listed) => {
                let measured = &listed.all[..listed.measured];
                let before = listed.tokens_before(context);
                let fits = |entry: &Entry| context.fit(&entry.prompt, before, false).is_some();
                measured.iter().filter(|entry| !fits(entry)).count() as u64
            }
        })
    }

    /// These listed prompts behind the prefixes that those have.
    fn led_as(self, those: &Listed) -> Workload {
        match (&self.prompts, &those.led_by) {
            (Prompts::Listed(listed), Some(leading)) => {
                let leading = Leading::clone(leading);
                self.longer_by(&leading).behind(listed, leading)
            }
            _ => self,
        }
    }

    /// The same set, where each prompt is told as long as it is behind such a prefix.
    fn longer_by(&self, leading: &Leading) -> Workload {
        let tokens = u64::from(leading.prefixes.shape.tokens);
        let characters = leading.of("measured", 0, Use::Measured).chars().count() + SEAM.len();
        Workload {
            facts: Arc::new(Facts {
                tokens: self.facts.tokens.greater_by(tokens),
                characters: self.facts.characters.greater_by(characters as u64),
                ..(*self.facts).clone()
            }),
            ..self.clone()
        }
    }

    fn behind(&self, listed: &Listed, leading: Leading) -> Workload {
        // The prompts themselves, whatever stood before them.
        let mut in_file_order: Vec<&Entry> = listed.all.iter().collect();
        in_file_order.sort_by_key(|entry| entry.row);
        let own = digest_of(&in_file_order);
        let identity = format!("{own} {}", leading.prefixes.identity());
        Workload {
            digest: blake3::hash(identity.as_bytes()).to_hex().as_str().into(),
            prompts: Prompts::Listed(Listed {
                led_by: Some(leading.into()),
                ..listed.clone()
            }),
            ..self.clone()
        }
    }

    /// How many prefixes its prompts share.
    pub fn prefix_groups(&self) -> Option<u32> {
        match &self.prompts {
            Prompts::Synthetic(made) => made.shared_prefix().map(|prefix| prefix.groups),
            Prompts::Listed(listed) => {
                let leading = listed.led_by.as_ref()?;
                Some(leading.prefixes.shape.groups)
            }
            Prompts::Trace(_) => None,
        }
    }

    /// Whether it holds conversations, which are sent turn by turn.
    pub fn is_conversations(&self) -> bool {
        self.facts.turns.max > 0
    }

    /// Whether some conversation of it begins with what the model is told beforehand.
    pub fn has_system_messages(&self) -> bool {
        let Prompts::Listed(listed) = &self.prompts else {
            return false;
        };
        let mut conversations = listed
            .all
            .iter()
            .filter_map(|entry| entry.prompt.conversation.as_ref());
        conversations.any(|conversation| conversation.system.is_some())
    }

    /// The longest answer that a prompt of the set asks for by itself, where the set decides on the length of every answer.
    pub fn longest_answer(&self) -> Option<u32> {
        match &self.prompts {
            Prompts::Listed(_) => None,
            Prompts::Synthetic(made) => made.output_tokens.as_ref().map(LengthDistribution::most),
            Prompts::Trace(trace) => Some(trace.longest_answer()),
        }
    }

    /// The number of measured prompts; `None` for a set that never ends.
    pub fn measured(&self) -> Option<u64> {
        match &self.prompts {
            Prompts::Listed(listed) => Some(listed.measured as u64),
            Prompts::Synthetic(made) => made.limit,
            Prompts::Trace(_) => None,
        }
    }

    /// The categories of the set, in the order of the file.
    pub fn categories(&self) -> &[Arc<str>] {
        &self.categories
    }

    /// blake3 of the loaded prompts in the order of the source, as hex: the identity of the data set.
    ///
    /// It does not depend on ids, nor on the order in which prompts are asked; a set made from a seed includes the seed.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whether images are shown with any of its prompts.
    pub fn shows_images(&self) -> bool {
        match &self.prompts {
            Prompts::Listed(listed) => listed.all.iter().any(|entry| {
                let mut turns = entry.prompt.conversation.iter().flat_map(|all| &all.turns);
                entry.prompt.images.is_some() || turns.any(|turn| turn.images.is_some())
            }),
            Prompts::Synthetic(_) | Prompts::Trace(_) => false,
        }
    }

    /// What the set turned out to hold.
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Measured prompts whose text repeats that of an earlier one.
    pub fn prompt_repeats(&self) -> u64 {
        self.facts.duplicates
    }

    /// The measured prompt for this ordinal; past the end of the set prompts repeat.
    pub fn prompt(&self, ordinal: u64) -> Prompt {
        match &self.prompts {
            Prompts::Listed(listed) => {
                let index = ordinal % listed.measured as u64;
                let prompt = &listed.all[index as usize].prompt;
                listed.led(prompt, "measured", index, Use::Measured)
            }
            Prompts::Synthetic(made) => made.prompt(ordinal),
            Prompts::Trace(trace) => trace.prompt(ordinal),
        }
    }

    /// Every prompt once, in the order of the source, those kept for warm-up too; `None` for a set that never ends.
    pub fn rows(&self) -> Option<Vec<Prompt>> {
        match &self.prompts {
            Prompts::Listed(listed) => {
                let mut rows: Vec<&Entry> = listed.all.iter().collect();
                rows.sort_by_key(|entry| entry.row);
                Some(rows.into_iter().map(|entry| entry.prompt.clone()).collect())
            }
            Prompts::Synthetic(made) => Some(
                (0..made.limit?)
                    .map(|ordinal| made.prompt(ordinal))
                    .collect(),
            ),
            Prompts::Trace(trace) => {
                let rows = 0..trace.trace().rows.len() as u64;
                Some(rows.map(|ordinal| trace.prompt(ordinal)).collect())
            }
        }
    }

    /// The warm-up prompt for this ordinal; never one that the measured part uses.
    ///
    /// Where the prompts kept for warm-up are used up, they come again behind a unique first word.
    pub fn warmup_prompt(&self, ordinal: u64) -> Prompt {
        match &self.prompts {
            Prompts::Listed(listed) => {
                let prompt = listed.warmup_prompt(ordinal, self.salt);
                listed.led(&prompt, "warmup", ordinal, Use::Warmup)
            }
            Prompts::Synthetic(made) => made.warmup_prompt(ordinal),
            Prompts::Trace(trace) => trace.warmup_prompt(ordinal),
        }
    }

    /// The part of the set in one category, as a set of its own; `None` if there is no such category.
    ///
    /// Measured and warm-up prompts are divided anew, as if the set had held this category alone.
    pub fn expand(&self, category: &str) -> Option<Workload> {
        let Prompts::Listed(listed) = &self.prompts else {
            return None;
        };
        let part: Vec<Entry> = listed
            .all
            .iter()
            .filter(|entry| entry.prompt.category.as_deref() == Some(category))
            .cloned()
            .collect();
        if part.is_empty() {
            return None;
        }
        let facts = Facts {
            kept: part.len() as u64,
            ..(*self.facts).clone()
        };
        let measured = measured_part(part.len(), None);
        Some(Workload::listed(part, measured, self.salt, facts))
    }

    fn selected(
        source: &PromptSource,
        mut selection: Selection,
        path: &Path,
    ) -> Result<Workload, WorkloadError> {
        if selection.bad > 0 {
            return Err(WorkloadError::Rows {
                path: path.to_path_buf(),
                noun: "prompt",
                bad: selection.bad,
                first: std::mem::take(&mut selection.problems),
            });
        }
        let facts = Facts {
            read: selection.read,
            kept: selection.kept,
            dropped: selection.dropped(),
            ..Facts::default()
        };
        if selection.held() == 0 {
            return Err(WorkloadError::Empty {
                id: source.id.clone(),
                read: facts.read,
                filtered: facts.read - facts.kept,
                dropped: facts.dropped,
            });
        }
        let folder = path.parent().unwrap_or(Path::new(""));
        let entries = entries(selection.into_chosen(), folder)?;
        let measured = measured_part(entries.len(), source.limit);
        let salt = set_seed(source).stream("first words").hash();
        Ok(Workload::listed(entries, measured, salt, facts))
    }

    /// A set of these prompts; `facts` already says what became of the source's rows.
    fn listed(entries: Vec<Entry>, measured: usize, salt: u64, facts: Facts) -> Workload {
        let mut in_file_order: Vec<&Entry> = entries.iter().collect();
        in_file_order.sort_by_key(|entry| entry.row);
        let digest = digest_of(&in_file_order);
        let categories = categories_of(&in_file_order);
        let facts = Facts {
            duplicates: repeats(&entries[..measured]),
            measured: Some(measured as u64),
            warmup: (entries.len() - measured) as u64,
            characters: Spread::of(characters(&entries[..measured]).collect()),
            tokens: Spread::of(tokens(&entries[..measured]).collect()),
            turns: Spread::of(turns(&entries[..measured]).collect()),
            categories: counted(&categories, &entries[..measured]),
            ..facts
        };
        Workload {
            categories: categories.into(),
            digest: digest.into(),
            facts: facts.into(),
            salt,
            prompts: Prompts::Listed(Listed {
                warmup: warmup_part(&entries, measured, salt),
                all: entries.into(),
                measured,
                led_by: None,
            }),
        }
    }

    fn trace(prompts: TracePrompts) -> Workload {
        let trace = prompts.trace();
        let kept = trace.rows.len() as u64;
        let facts = Facts {
            read: kept + trace.without_answer,
            kept,
            dropped: match trace.without_answer {
                0 => Vec::new(),
                rows => vec![(DropReason::NoTokens, rows)],
            },
            tokens: trace.input_lengths(),
            counted: true,
            ..Facts::default()
        };
        Workload {
            categories: Vec::new().into(),
            digest: blake3::hash(prompts.identity().as_bytes())
                .to_hex()
                .as_str()
                .into(),
            facts: facts.into(),
            salt: 0,
            prompts: Prompts::Trace(prompts.into()),
        }
    }

    fn synthetic(made: Synthesizer) -> Workload {
        let looked_at = made.limit.map_or(SAMPLED, |limit| limit.min(SAMPLED));
        let lengths = || (0..looked_at).map(|ordinal| u64::from(made.input_length(ordinal)));
        let facts = Facts {
            measured: made.limit,
            counted: made.prose.tokenizer().is_some(),
            tokens: Spread::of(lengths().collect()),
            characters: match made.prose.tokenizer() {
                None => Spread::of(lengths().map(|tokens| tokens * 4).collect()),
                Some(_) => Spread::of(
                    (0..looked_at)
                        .map(|ordinal| made.prompt(ordinal).text.chars().count() as u64)
                        .collect(),
                ),
            },
            ..Facts::default()
        };
        Workload {
            categories: Vec::new().into(),
            digest: blake3::hash(made.identity().as_bytes())
                .to_hex()
                .as_str()
                .into(),
            facts: facts.into(),
            salt: 0,
            prompts: Prompts::Synthetic(Arc::new(made)),
        }
    }
}

impl Leading {
    fn of(&self, part: &str, ordinal: u64, usage: Use) -> String {
        let mut text = String::new();
        self.prefixes
            .append(&mut text, &self.prose, part, ordinal, usage);
        text
    }
}

impl Listed {
    /// The prompt behind its prefix, where there is one.
    fn led(&self, prompt: &Prompt, part: &str, ordinal: u64, usage: Use) -> Prompt {
        match &self.led_by {
            None => prompt.clone(),
            Some(leading) => {
                let prefix = leading.of(part, ordinal, usage);
                prompt.led_by(&prefix, leading.prefixes.shape.tokens)
            }
        }
    }

    /// Tokens that stand before each prompt: its prefix, and what parts the two.
    fn tokens_before(&self, context: &Context) -> u32 {
        match &self.led_by {
            None => 0,
            Some(leading) => {
                let prefix = leading.prefixes.shape.tokens;
                prefix.saturating_add(context.count_within(SEAM))
            }
        }
    }

    fn warmup_prompt(&self, ordinal: u64, salt: u64) -> Prompt {
        let kept = self.warmup.len() as u64;
        if ordinal < kept {
            return self.warmup[ordinal as usize].clone();
        }
        let base = match kept {
            0 => &self.all[(ordinal % self.measured as u64) as usize].prompt,
            _ => &self.all[self.measured + (ordinal % kept) as usize].prompt,
        };
        marked(base, ordinal, salt)
    }
}

/// The tokens that a prompt may have beside the longest answer and what the engine puts around it.
fn room_of(made: &Synthesizer, context: &Context) -> u32 {
    let longest = made.output_tokens.as_ref().map(LengthDistribution::most);
    let room = context.tokens.saturating_sub(context.answer_of(longest));
    room.saturating_sub(context.around())
}

/// The branch of the seed that belongs to a set; the same for every backend and model.
fn set_seed(source: &PromptSource) -> Seed {
    Seed::new(source.seed).stream("prompts").stream(&source.id)
}

fn filter(from: &Source) -> Filter {
    match from {
        Source::File { filter, .. }
        | Source::ShareGpt { filter, .. }
        | Source::Conversations { filter, .. } => filter.clone(),
        Source::Inline(_)
        | Source::Categories { .. }
        | Source::Synthetic { .. }
        | Source::Trace(_) => Filter::default(),
    }
}

/// The file that rows are read from; images are named from its folder.
fn file_of(from: &Source) -> &Path {
    match from {
        Source::File { path, .. }
        | Source::ShareGpt {
            path: Some(path), ..
        }
        | Source::Conversations { path, .. }
        | Source::Categories { path, .. } => path,
        Source::Inline(_)
        | Source::ShareGpt { path: None, .. }
        | Source::Synthetic { .. }
        | Source::Trace(_) => Path::new(""),
    }
}

fn take_inline(prompts: &[InlinePrompt], selection: &mut Selection) {
    for prompt in prompts {
        let row = match prompt.text.trim() {
            "" => Err(Unfit::Bad("has an empty prompt".to_owned())),
            _ => Ok(Candidate {
                text: prompt.text.clone(),
                category: prompt.category.clone(),
                ..Candidate::default()
            }),
        };
        selection.take(row, |number| format!("prompt {number}"));
    }
}

/// The prompts of the chosen rows. An id that comes again gets a number behind it, in the order of the source.
///
/// # Errors
/// An image beside a prompt cannot be read.
fn entries(chosen: Vec<Chosen>, folder: &Path) -> Result<Vec<Entry>, WorkloadError> {
    let mut ids = unique_ids(&chosen);
    chosen
        .into_iter()
        .map(|Chosen { row, candidate, .. }| {
            let id = ids.remove(&row).unwrap_or_default();
            let mut shown: BTreeMap<usize, Vec<String>> = BTreeMap::new();
            for named in &candidate.images {
                let url = images::url_of(&named.image, folder)?;
                shown.entry(named.turn).or_default().push(url);
            }
            let in_turn = |turn| images::parts_of(shown.get(&turn)?);
            Ok(Entry {
                row,
                prompt: Prompt {
                    category: candidate.category.map(Arc::from),
                    max_tokens: candidate.max_tokens,
                    min_tokens: candidate.min_tokens,
                    ignore_eos: candidate.ignore_eos,
                    expected_tokens: candidate.expected_tokens,
                    conversation: candidate
                        .conversation
                        .map(|conversation| Arc::new(conversation.showing(in_turn))),
                    ..Prompt::new(id, candidate.text).showing(in_turn(0))
                },
            })
        })
        .collect()
}

/// An id for each row number.
fn unique_ids(chosen: &[Chosen]) -> HashMap<u64, String> {
    let mut rows: Vec<&Chosen> = chosen.iter().collect();
    rows.sort_by_key(|chosen| chosen.row);
    let mut seen: HashMap<String, u64> = HashMap::new();
    let mut ids = HashMap::new();
    for chosen in rows {
        let wanted = match &chosen.candidate.id {
            Some(id) => id.clone(),
            None => chosen.row.to_string(),
        };
        let mut id = wanted.clone();
        while seen.contains_key(&id) {
            let times = seen.entry(wanted.clone()).or_insert(0);
            *times += 1;
            id = format!("{wanted}#{times}");
        }
        seen.insert(id.clone(), 1);
        ids.insert(chosen.row, id);
    }
    ids
}

fn digest_of(entries: &[&Entry]) -> String {
    let mut hasher = blake3::Hasher::new();
    hasher.update(b"scenario prompts v1");
    let mut content = Vec::new();
    for Entry { prompt, .. } in entries {
        content.clear();
        // A tuple is an array in JSON; writing into memory cannot fail.
        let written = serde_json::to_writer(
            &mut content,
            &(
                &*prompt.text,
                prompt.category.as_deref(),
                prompt.max_tokens,
                prompt.min_tokens,
                prompt.ignore_eos,
            ),
        );
        debug_assert!(written.is_ok());
        hasher.update(&content);
        if let Some(conversation) = &prompt.conversation {
            let turns = conversation.turns.iter();
            let turns: Vec<_> = turns
                .map(|turn| (&*turn.said, turn.answer.as_deref()))
                .collect();
            let whole = serde_json::json!([conversation.system.as_deref(), turns]);
            hasher.update(whole.to_string().as_bytes());
            for (number, turn) in conversation.turns.iter().enumerate().skip(1) {
                if let Some(images) = &turn.images {
                    hasher.update(format!("\n{number}{images}").as_bytes());
                }
            }
        }
        if let Some(images) = &prompt.images {
            hasher.update(images.as_bytes());
        }
        hasher.update(b"\n");
    }
    hasher.finalize().to_hex().to_string()
}

fn categories_of(entries: &[&Entry]) -> Vec<Arc<str>> {
    let mut seen = HashSet::new();
    entries
        .iter()
        .filter_map(|entry| entry.prompt.category.clone())
        .filter(|category| seen.insert(category.clone()))
        .collect()
}

fn counted(categories: &[Arc<str>], entries: &[Entry]) -> Vec<(Arc<str>, u64)> {
    let mut counts: HashMap<&str, u64> = HashMap::new();
    for category in entries
        .iter()
        .filter_map(|entry| entry.prompt.category.as_deref())
    {
        *counts.entry(category).or_default() += 1;
    }
    categories
        .iter()
        .map(|category| {
            (
                category.clone(),
                counts.get(&**category).copied().unwrap_or(0),
            )
        })
        .collect()
}

fn repeats(entries: &[Entry]) -> u64 {
    // The same question about another picture is another prompt.
    let asked: HashSet<&str> = entries.iter().map(|entry| &*entry.prompt.json).collect();
    (entries.len() - asked.len()) as u64
}

fn characters(entries: &[Entry]) -> impl Iterator<Item = u64> + '_ {
    entries
        .iter()
        .map(|entry| entry.prompt.text.chars().count() as u64)
}

fn tokens(entries: &[Entry]) -> impl Iterator<Item = u64> + '_ {
    entries
        .iter()
        .filter_map(|entry| entry.prompt.tokens.map(u64::from))
}

fn turns(entries: &[Entry]) -> impl Iterator<Item = u64> + '_ {
    let conversations = entries
        .iter()
        .filter_map(|entry| entry.prompt.conversation.as_ref());
    conversations.map(|conversation| conversation.turns.len() as u64)
}

fn warmup_part(entries: &[Entry], measured: usize, salt: u64) -> Arc<[Prompt]> {
    let mut asked: HashSet<&str> = entries[..measured]
        .iter()
        .map(|entry| &*entry.prompt.text)
        .collect();
    (0..)
        .zip(&entries[measured..])
        .map(|(ordinal, entry)| match asked.insert(&entry.prompt.text) {
            true => entry.prompt.clone(),
            false => marked(&entry.prompt, ordinal, salt),
        })
        .collect()
}

/// The prompt as the warm-up request number `ordinal` sends it when its text is also sent elsewhere.
fn marked(prompt: &Prompt, ordinal: u64, salt: u64) -> Prompt {
    let id = format!("{}+warmup-{ordinal}", prompt.id);
    prompt.behind(&words::unique(salt, ordinal, Use::Warmup), id)
}
