//! Large files are read once: which of their rows were chosen is kept, by the digest of the file and of the selection.
//!
//! What is kept is never trusted further than that: another file, another filter, seed or tokenizer is another key, and a kept set
//! that cannot be read back whole is as good as none. A file that nobody has touched since it was digested is not digested again.

use std::fs::{File, Metadata};
use std::io::{BufReader, BufWriter, Read, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use prost::Message;

use super::conversation::{Conversation, Turn};
use super::facts::DropReason;
use super::images::Named;
use super::select::{Candidate, Chosen, Selection};
use super::source::{PromptSource, Source};

/// Smaller files are read as fast as what is kept of them.
const LARGE: u64 = 16 << 20;
/// Kept sets, and files whose digest is known; the oldest go first.
const KEPT: usize = 16;
/// Changes whenever the same file and selection give other rows, or they are written otherwise.
const FORMAT: &str = "scenario prepared v3";
/// A file that was written later than this before it was digested may have been written once more at the same time.
const SETTLED: Duration = Duration::from_secs(2);

/// Where the rows of a source are kept.
#[derive(Debug)]
pub(super) struct Prepared {
    path: PathBuf,
}

/// What comes first.
#[derive(Clone, PartialEq, Message)]
struct Header {
    #[prost(string, tag = "1")]
    format: String,
    #[prost(uint64, tag = "2")]
    read: u64,
    #[prost(uint64, tag = "3")]
    kept: u64,
    #[prost(message, repeated, tag = "4")]
    dropped: Vec<Dropped>,
    #[prost(uint64, tag = "5")]
    rows: u64,
}

/// Rows that were not chosen.
#[derive(Clone, PartialEq, Message)]
struct Dropped {
    /// The text of the reason.
    #[prost(string, tag = "1")]
    reason: String,
    #[prost(uint64, tag = "2")]
    count: u64,
}

/// A chosen row.
#[derive(Clone, PartialEq, Message)]
struct Row {
    #[prost(fixed64, tag = "1")]
    key: u64,
    #[prost(uint64, tag = "2")]
    row: u64,
    #[prost(string, optional, tag = "3")]
    id: Option<String>,
    #[prost(string, tag = "4")]
    text: String,
    #[prost(string, optional, tag = "5")]
    category: Option<String>,
    #[prost(uint32, optional, tag = "6")]
    max_tokens: Option<u32>,
    #[prost(uint32, optional, tag = "7")]
    min_tokens: Option<u32>,
    #[prost(bool, optional, tag = "8")]
    ignore_eos: Option<bool>,
    /// Least and most.
    #[prost(uint32, repeated, tag = "9")]
    expected_tokens: Vec<u32>,
    #[prost(message, optional, tag = "10")]
    conversation: Option<Said>,
    #[prost(message, repeated, tag = "11")]
    images: Vec<Shown>,
}

/// An image as it is named.
#[derive(Clone, PartialEq, Message)]
struct Shown {
    #[prost(uint64, tag = "1")]
    turn: u64,
    #[prost(string, tag = "2")]
    image: String,
}

/// A conversation: what the model is told, and each turn with its answer.
#[derive(Clone, PartialEq, Message)]
struct Said {
    #[prost(string, optional, tag = "1")]
    system: Option<String>,
    #[prost(message, repeated, tag = "2")]
    turns: Vec<SaidTurn>,
}

/// A turn of a conversation.
#[derive(Clone, PartialEq, Message)]
struct SaidTurn {
    #[prost(string, tag = "1")]
    said: String,
    #[prost(string, optional, tag = "2")]
    answer: Option<String>,
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
        let about = file.metadata().ok()?;
        if about.len() < LARGE {
            return None;
        }
        let digest = digest(file, &about, &folder.join("digests"))?;
        let selection = selection(source, path);
        let key = blake3::hash(format!("{FORMAT}\n{digest}\n{selection}").as_bytes());
        Some(Prepared {
            path: folder.join(key.to_hex().as_str()),
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
            .map(|dropped| Some((DropReason::named(&dropped.reason)?, dropped.count)))
            .collect();
        let Some(dropped) = dropped else {
            return false;
        };
        selection.restore(header.read, header.kept, dropped, rows);
        true
    }

    fn rows(&self) -> Option<(Header, Vec<Chosen>)> {
        let mut reader = BufReader::with_capacity(1 << 18, File::open(&self.path).ok()?);
        let mut buffer = Vec::new();
        let header: Header = next(&mut reader, &mut buffer)?;
        if header.format != FORMAT {
            return None;
        }
        let mut rows = Vec::new();
        for _ in 0..header.rows {
            let row: Row = next(&mut reader, &mut buffer)?;
            rows.push(row.into_chosen());
        }
        // Nothing stands behind the last one.
        (reader.read(&mut [0]).ok()? == 0).then_some((header, rows))
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
                .map(|(reason, count)| Dropped {
                    reason: reason.to_string(),
                    count,
                })
                .collect(),
            rows: selection.held() as u64,
        };
        let mut buffer = Vec::new();
        put(&mut out, &header, &mut buffer)?;
        for chosen in selection.chosen() {
            put(&mut out, &Row::of(chosen), &mut buffer)?;
        }
        out.flush()?;
        drop(out);
        part.persist(&self.path).map_err(|error| error.error)?;
        tidy(folder)
    }
}

/// A message behind its length.
fn put(out: &mut impl Write, message: &impl Message, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    buffer.clear();
    message
        .encode(buffer)
        .map_err(|error| std::io::Error::other(error.to_string()))?;
    let length = u32::try_from(buffer.len()).map_err(std::io::Error::other)?;
    out.write_all(&length.to_le_bytes())?;
    out.write_all(buffer)
}

/// The next message; `None` where there is no whole one.
fn next<M: Message + Default>(from: &mut impl Read, buffer: &mut Vec<u8>) -> Option<M> {
    let mut length = [0; 4];
    from.read_exact(&mut length).ok()?;
    let length = u64::from(u32::from_le_bytes(length));
    buffer.clear();
    let read = from.take(length).read_to_end(buffer).ok()?;
    (read as u64 == length).then(|| M::decode(&buffer[..]).ok())?
}

/// The digest of a file, as hex; one that has not been touched since it was digested is known in `folder`.
fn digest(file: File, about: &Metadata, folder: &Path) -> Option<String> {
    let known = identity(about).map(|identity| folder.join(identity));
    if let Some(digest) = known.as_ref().and_then(|path| read_digest(path)) {
        return Some(digest);
    }
    let mut hasher = blake3::Hasher::new();
    hasher.update_reader(file).ok()?;
    let digest = hasher.finalize().to_hex().to_string();
    if let Some(path) = known.filter(|_| is_settled(about)) {
        let keep = || -> std::io::Result<()> {
            std::fs::create_dir_all(folder)?;
            let mut part = tempfile::NamedTempFile::new_in(folder)?;
            part.write_all(digest.as_bytes())?;
            part.persist(&path).map_err(|error| error.error)?;
            tidy(folder)
        };
        // That it cannot be kept costs time, and nothing else.
        let _ = keep();
    }
    Some(digest)
}

fn read_digest(path: &Path) -> Option<String> {
    let digest = std::fs::read_to_string(path).ok()?;
    (digest.len() == 2 * blake3::OUT_LEN).then_some(digest)
}

/// What changes whenever the file does: where it lies, its size, and when it and what is said of it were last changed.
#[cfg(unix)]
fn identity(about: &Metadata) -> Option<String> {
    use std::os::unix::fs::MetadataExt;
    let told = format!(
        "{} {} {} {}.{} {}.{}",
        about.dev(),
        about.ino(),
        about.size(),
        about.mtime(),
        about.mtime_nsec(),
        about.ctime(),
        about.ctime_nsec()
    );
    Some(blake3::hash(told.as_bytes()).to_hex().to_string())
}

#[cfg(not(unix))]
fn identity(_: &Metadata) -> Option<String> {
    None
}

/// Whether a further change would show in the file's times.
#[cfg(unix)]
fn is_settled(about: &Metadata) -> bool {
    use std::os::unix::fs::MetadataExt;
    let seconds = about.mtime().max(about.ctime()).max(0);
    let changed = SystemTime::UNIX_EPOCH + Duration::from_secs(seconds as u64);
    changed.elapsed().is_ok_and(|age| age > SETTLED)
}

#[cfg(not(unix))]
fn is_settled(_: &Metadata) -> bool {
    false
}

/// Takes the oldest files away where there are too many.
fn tidy(folder: &Path) -> std::io::Result<()> {
    let mut kept: Vec<(SystemTime, PathBuf)> = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let about = entry.metadata()?;
        if about.is_file() {
            kept.push((about.modified()?, entry.path()));
        }
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
            expected_tokens: expected_tokens.map_or(Vec::new(), |(least, most)| vec![least, most]),
            images: images
                .into_iter()
                .map(|Named { turn, image }| Shown {
                    turn: turn as u64,
                    image,
                })
                .collect(),
            conversation: conversation.map(|conversation| Said {
                system: conversation.system.map(|text| text.to_string()),
                turns: conversation
                    .turns
                    .into_iter()
                    .map(|turn| SaidTurn {
                        said: turn.said.to_string(),
                        answer: turn.answer.map(|text| text.to_string()),
                    })
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
                expected_tokens: match self.expected_tokens[..] {
                    [least, most] => Some((least, most)),
                    _ => None,
                },
                images: self
                    .images
                    .into_iter()
                    .map(|Shown { turn, image }| Named {
                        turn: turn as usize,
                        image,
                    })
                    .collect(),
                conversation: self.conversation.map(|said| Conversation {
                    system: said.system.map(Arc::from),
                    turns: said
                        .turns
                        .into_iter()
                        .map(|turn| Turn {
                            said: turn.said.into(),
                            answer: turn.answer.map(Arc::from),
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
    fn a_file_that_nobody_touched_is_not_digested_again() {
        let folder = tempfile::tempdir().unwrap();
        let digests = folder.path().join("digests");
        let path = folder.path().join("file");
        std::fs::write(&path, "one").unwrap();
        let digest = || {
            let file = File::open(&path).unwrap();
            let about = file.metadata().unwrap();
            super::digest(file, &about, &digests).unwrap()
        };
        let long_ago = SystemTime::now() - Duration::from_secs(3600);
        let one = digest();
        // It was written just now, and may be written again.
        assert!(!digests.exists());
        let about = File::open(&path).unwrap().metadata().unwrap();
        assert!(!is_settled(&about));
        // What is known of it wins, and is known no more when it is another file, though as old and as long.
        let known = digests.join(identity(&about).unwrap());
        std::fs::create_dir_all(&digests).unwrap();
        std::fs::write(&known, "f".repeat(64)).unwrap();
        assert_eq!(digest(), "f".repeat(64));
        std::fs::write(&path, "two").unwrap();
        File::options()
            .write(true)
            .open(&path)
            .unwrap()
            .set_modified(long_ago)
            .unwrap();
        assert_ne!(digest(), "f".repeat(64));
        assert_ne!(digest(), one);
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
        let longer = [&text[..], b"x"].concat();
        for broken in [&text[..text.len() / 2], &text[..10], b"", &longer] {
            std::fs::write(&kept, broken).unwrap();
            assert_eq!(Workload::load_kept(&source, &cache).unwrap(), read);
            assert_eq!(std::fs::read(&kept).unwrap(), text);
        }
    }
}
