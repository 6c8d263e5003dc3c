//! Large files are read once: which of their rows were chosen is kept, by the digest of the file and of the selection.
//!
//! What is kept is never trusted further than that: another file, another filter, seed or tokenizer is another key, and a kept set
//! that cannot be read back whole is as good as none.

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};

use super::conversation::{Conversation, Turn};
use super::facts::DropReason;
use super::images::Named;
use super::select::{Candidate, Chosen, Selection};
use super::source::{PromptSource, Source};

/// Smaller files are read as fast as what is kept of them.
const LARGE: u64 = 16 << 20;
/// Kept sets; the oldest go first.
const KEPT: usize = 16;
/// Changes whenever the same file and selection give other rows.
const FORMAT: &str = "scenario prepared v2";

/// Where the rows of a source are kept.
#[derive(Debug)]
pub(super) struct Prepared {
    path: PathBuf,
}

/// The first line.
#[derive(Serialize, Deserialize)]
struct Header {
    format: String,
    read: u64,
    kept: u64,
    /// By the texts of their reasons.
    dropped: Vec<(String, u64)>,
    rows: usize,
}

/// A chosen row.
#[derive(Serialize, Deserialize)]
struct Row {
    key: u64,
    row: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    category: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    max_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    min_tokens: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ignore_eos: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expected_tokens: Option<(u32, u32)>,
    #[serde(skip_serializing_if = "Option::is_none")]
    conversation: Option<Said>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    images: Vec<Named>,
}

/// A conversation: what the model is told, and each turn with its answer.
#[derive(Serialize, Deserialize)]
struct Said {
    system: Option<Arc<str>>,
    turns: Vec<(Arc<str>, Option<Arc<str>>)>,
}

impl Prepared {
    /// Where the rows of this source are kept in `folder`; `None` for one that is not worth it, or cannot be read.
    pub(super) fn of(source: &PromptSource, folder: &Path) -> Option<Prepared> {
        let path = match &source.from {
            Source::File { path, .. }
            | Source::ShareGpt {
                path: Some(path), ..
            }
            | Source::Conversations { path, .. } => path,
            Source::Inline(_)
            | Source::ShareGpt { path: None, .. }
            | Source::Categories { .. }
            | Source::Synthetic { .. }
            | Source::Trace(_) => return None,
        };
        let file = File::open(path).ok()?;
        if file.metadata().ok()?.len() < LARGE {
            return None;
        }
        let mut digest = blake3::Hasher::new();
        digest.update_reader(file).ok()?;
        let selection = selection(source, path);
        let key = blake3::hash(format!("{FORMAT}\n{}\n{selection}", digest.finalize()).as_bytes());
        Some(Prepared {
            path: folder.join(format!("{}.jsonl", key.to_hex())),
        })
    }

    /// Puts the kept rows into an empty selection; `false`, and nothing is in it, where there are none.
    pub(super) fn read(&self, selection: &mut Selection) -> bool {
        let Some((header, rows)) = self.rows() else {
            return false;
        };
        let dropped: Option<Vec<(DropReason, u64)>> = header
            .dropped
            .iter()
            .map(|(reason, count)| Some((DropReason::named(reason)?, *count)))
            .collect();
        let Some(dropped) = dropped else {
            return false;
        };
        selection.restore(header.read, header.kept, dropped, rows);
        true
    }

    fn rows(&self) -> Option<(Header, Vec<Chosen>)> {
        let reader = BufReader::with_capacity(1 << 18, File::open(&self.path).ok()?);
        let mut lines = reader.lines();
        let header: Header = serde_json::from_str(&lines.next()?.ok()?).ok()?;
        let rows: Option<Vec<Chosen>> = lines
            .map(|line| {
                let row: Row = serde_json::from_str(&line.ok()?).ok()?;
                Some(row.into_chosen())
            })
            .collect();
        let rows = rows.filter(|rows| header.format == FORMAT && rows.len() == header.rows)?;
        Some((header, rows))
    }

    /// Keeps the rows of a selection. That it cannot is no mistake: the file is read again the next time.
    pub(super) fn write(&self, selection: &Selection) {
        let _ = self.try_to_write(selection);
    }

    fn try_to_write(&self, selection: &Selection) -> std::io::Result<()> {
        let Some(folder) = self.path.parent() else {
            return Ok(());
        };
        std::fs::create_dir_all(folder)?;
        let mut part = tempfile::NamedTempFile::new_in(folder)?;
        let mut out = BufWriter::with_capacity(1 << 18, part.as_file_mut());
        let header = Header {
            format: FORMAT.to_owned(),
            read: selection.read,
            kept: selection.kept,
            dropped: selection
                .dropped()
                .into_iter()
                .map(|(reason, count)| (reason.to_string(), count))
                .collect(),
            rows: selection.held(),
        };
        serde_json::to_writer(&mut out, &header)?;
        out.write_all(b"\n")?;
        for chosen in selection.chosen() {
            serde_json::to_writer(&mut out, &Row::of(chosen))?;
            out.write_all(b"\n")?;
        }
        out.flush()?;
        drop(out);
        part.persist(&self.path).map_err(|error| error.error)?;
        tidy(folder)
    }
}

/// Takes the oldest sets away where there are too many.
fn tidy(folder: &Path) -> std::io::Result<()> {
    let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        kept.push((entry.metadata()?.modified()?, entry.path()));
    }
    kept.sort();
    let spare = kept.len().saturating_sub(KEPT);
    for (_, path) in kept.into_iter().take(spare) {
        std::fs::remove_file(path)?;
    }
    Ok(())
}

/// What decides which rows are chosen, apart from the file's bytes; its ending tells how it is read.
fn selection(source: &PromptSource, path: &Path) -> String {
    let ending = path.extension().map(|ending| ending.to_ascii_lowercase());
    let rows = match &source.from {
        Source::File { fields, filter, .. } => format!("file {fields:?} {filter:?}"),
        Source::ShareGpt { filter, .. } => format!("sharegpt {filter:?}"),
        Source::Conversations { filter, turns, .. } => {
            format!("conversations {filter:?} {turns:?}")
        }
        other => format!("{other:?}"),
    };
    let tokenizer = source
        .tokenizer
        .as_ref()
        .map(|tokenizer| tokenizer.digest());
    format!(
        "{ending:?} {rows} {:?} {:?} {} {} {:?} {tokenizer:?}",
        source.id, source.limit, source.seed, source.shuffle, source.category
    )
}

impl Row {
    fn of(chosen: &Chosen) -> Row {
        let Candidate {
            id,
            text,
            category,
            max_tokens,
            min_tokens,
            ignore_eos,
            expected_tokens,
            conversation,
            images,
        } = chosen.candidate.clone();
        Row {
            key: chosen.key,
            row: chosen.row,
            id,
            text,
            category,
            max_tokens,
            min_tokens,
            ignore_eos,
            expected_tokens,
            images,
            conversation: conversation.map(|conversation| Said {
                system: conversation.system,
                turns: conversation
                    .turns
                    .into_iter()
                    .map(|turn| (turn.said, turn.answer))
                    .collect(),
            }),
        }
    }

    fn into_chosen(self) -> Chosen {
        Chosen {
            key: self.key,
            row: self.row,
            candidate: Candidate {
                id: self.id,
                text: self.text,
                category: self.category,
                max_tokens: self.max_tokens,
                min_tokens: self.min_tokens,
                ignore_eos: self.ignore_eos,
                expected_tokens: self.expected_tokens,
                images: self.images,
                conversation: self.conversation.map(|said| Conversation {
                    system: said.system,
                    turns: said
                        .turns
                        .into_iter()
                        .map(|(said, answer)| Turn {
                            said,
                            answer,
                            images: None,
                        })
                        .collect(),
                }),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::source::Filter;
    use super::super::{TurnFilter, Workload};
    use super::*;

    /// A file of some size with conversations of two turns.
    fn large(folder: &Path) -> PathBuf {
        let path = folder.join("large.jsonl");
        let mut out = BufWriter::new(File::create(&path).unwrap());
        let filler = "and so on ".repeat(3000);
        for number in 0..600 {
            writeln!(
                out,
                r#"{{"id":"c{number}","conversations":[{{"from":"human","value":"Question number {number} of the file."}},{{"from":"gpt","value":"{filler}"}},{{"from":"human","value":"And then?"}}]}}"#
            )
            .unwrap();
        }
        writeln!(
            out,
            r#"{{"conversations":[{{"from":"gpt","value":"Hm."}},{{"from":"human","value":"Yes?"}}]}}"#
        )
        .unwrap();
        out.flush().unwrap();
        path
    }

    fn source(from: Source, seed: u64) -> PromptSource {
        PromptSource {
            id: "set".to_owned(),
            from,
            limit: Some(100),
            seed,
            shuffle: true,
            category: None,
            tokenizer: None,
        }
    }

    #[test]
    fn a_kept_set_is_the_set_and_another_selection_is_another_one() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("prepared");
        let path = large(folder.path());
        let first_turns = Source::ShareGpt {
            path: Some(path.clone()),
            filter: Filter::default(),
        };
        let whole = Source::Conversations {
            path: path.clone(),
            filter: Filter::default(),
            turns: TurnFilter {
                min_turns: 2,
                max_turns: 2,
                recorded: true,
            },
        };
        let kept = || std::fs::read_dir(&cache).map_or(0, Iterator::count);
        for from in [first_turns.clone(), whole] {
            let source = source(from, 1);
            let read = Workload::load(&source).unwrap();
            let before = kept();
            assert_eq!(Workload::load_kept(&source, &cache).unwrap(), read);
            assert_eq!(kept(), before + 1);
            assert_eq!(Workload::load_kept(&source, &cache).unwrap(), read);
            assert_eq!(kept(), before + 1);
            assert_eq!(read.facts().read, 601);
            assert_eq!(read.facts().dropped, [(DropReason::NotHumanFirst, 1)]);
        }
        let other = source(first_turns.clone(), 2);
        Workload::load_kept(&other, &cache).unwrap();
        assert_eq!(kept(), 3);
        // Another file of the same name.
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .open(&path)
            .unwrap();
        writeln!(
            file,
            r#"{{"conversations":[{{"from":"human","value":"One more?"}}]}}"#
        )
        .unwrap();
        let more = Workload::load_kept(&source(first_turns, 1), &cache).unwrap();
        assert_eq!(more.facts().read, 602);
    }

    #[test]
    fn a_kept_set_that_is_not_whole_is_as_good_as_none() {
        let folder = tempfile::tempdir().unwrap();
        let cache = folder.path().join("prepared");
        let source = source(
            Source::ShareGpt {
                path: Some(large(folder.path())),
                filter: Filter::default(),
            },
            1,
        );
        let read = Workload::load_kept(&source, &cache).unwrap();
        let kept = std::fs::read_dir(&cache)
            .unwrap()
            .next()
            .unwrap()
            .unwrap()
            .path();
        let text = std::fs::read(&kept).unwrap();
        for broken in [&text[..text.len() / 2], &text[..10], b""] {
            std::fs::write(&kept, broken).unwrap();
            assert_eq!(Workload::load_kept(&source, &cache).unwrap(), read);
            assert_eq!(std::fs::read(&kept).unwrap(), text);
        }
    }
}
