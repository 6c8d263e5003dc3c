//! Files of prompts, read as a stream: JSON arrays, JSON lines, plain lines, tables.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde::de::{DeserializeSeed, Deserializer, SeqAccess, Visitor};

use super::conversation::TurnFilter;
use super::error::{Stopped, WorkloadError};
use super::parquet;
use super::row::{Row, RowSeed, RowTemplate, holds_prompts};
use super::select::{Candidate, Selection, Unfit};
use super::source::Fields;

/// Large enough that a file is read in few system calls.
const BUFFER: usize = 1 << 18;

/// How a row becomes a prompt.
pub(super) type Judge<'a> = &'a dyn Fn(Row) -> Result<Candidate, Unfit>;

/// Reads the rows of a file of prompts, by its ending.
pub(super) fn read_file(
    path: &Path,
    fields: &Fields,
    selection: &mut Selection,
) -> Result<(), WorkloadError> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let reader = open(path)?;
    let template = fields.template.as_deref().map(RowTemplate::new).transpose();
    let template = template.map_err(|message| unreadable(&message).at(path))?;
    let judge = |row: Row| row.into_prompt(fields, template.as_ref());
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("jsonl" | "ndjson" | "json") => read_json(reader, fields, &judge, selection),
        Some("txt") => read_text(reader, selection),
        Some("csv") => read_table(reader, fields, &judge, selection),
        Some("parquet") => parquet::read_rows(reader.into_inner(), fields, &judge, selection),
        _ => Err(unreadable(
            "the kind of file is told by its ending, which must be .jsonl, .json, .csv, .txt or .parquet",
        )),
    }
    .map_err(|stopped| stopped.at(path))
}

/// Reads a ShareGPT-format file.
pub(super) fn read_sharegpt(path: &Path, selection: &mut Selection) -> Result<(), WorkloadError> {
    let reader = open(path)?;
    let done = match path.extension() {
        Some(ending) if ending.eq_ignore_ascii_case("parquet") => parquet::read_rows(
            reader.into_inner(),
            &Fields::default(),
            &Row::into_first_turn,
            selection,
        ),
        _ => read_sharegpt_stream(reader, selection),
    };
    done.map_err(|stopped| stopped.at(path))
}

/// Reads ShareGPT-format text, an array or lines, holding one conversation at a time.
pub(super) fn read_sharegpt_stream(
    stream: impl Read,
    selection: &mut Selection,
) -> Result<(), Stopped> {
    let reader = BufReader::with_capacity(BUFFER, stream);
    read_json(reader, &Fields::default(), &Row::into_first_turn, selection)
}

/// Reads a file of conversations: JSON as ShareGPT's, JSON lines, or Parquet.
pub(super) fn read_conversations(
    path: &Path,
    wanted: &TurnFilter,
    selection: &mut Selection,
) -> Result<(), WorkloadError> {
    let ending = path.extension().and_then(|ending| ending.to_str());
    let reader = open(path)?;
    let fields = Fields {
        conversations: true,
        ..Fields::default()
    };
    let judge = |row: Row| row.into_conversation(wanted);
    match ending.map(str::to_ascii_lowercase).as_deref() {
        Some("parquet") => parquet::read_rows(reader.into_inner(), &fields, &judge, selection),
        Some("txt" | "csv") => Err(unreadable(
            "conversations are read from .json, .jsonl and .parquet files",
        )),
        _ => read_json(reader, &fields, &judge, selection),
    }
    .map_err(|stopped| stopped.at(path))
}

fn open(path: &Path) -> Result<BufReader<File>, WorkloadError> {
    let file = File::open(path).and_then(|file| match file.metadata()?.is_dir() {
        true => Err(std::io::ErrorKind::IsADirectory.into()),
        false => Ok(file),
    });
    match file {
        Ok(file) => Ok(BufReader::with_capacity(BUFFER, file)),
        Err(error) => Err(Stopped::Io(error).at(path)),
    }
}

/// An array of rows if the text begins with `[`, else a row a line.
fn read_json(
    mut reader: impl BufRead,
    fields: &Fields,
    judge: Judge,
    selection: &mut Selection,
) -> Result<(), Stopped> {
    let (first, line) = first_byte(&mut reader)?;
    if first == Some(b'[') {
        read_array(reader, line, fields, judge, selection)
    } else {
        read_lines(
            reader,
            line,
            |text, selection, line| {
                let row = row_of_line(text, fields)
                    .map_err(Unfit::Bad)
                    .and_then(judge);
                selection.take(row, |_| format!("line {line}"));
            },
            selection,
        )
    }
}

/// Skips a byte order mark and blanks; gives the first byte of content and the number of its line.
fn first_byte(reader: &mut impl BufRead) -> Result<(Option<u8>, usize), Stopped> {
    let mut line = 1;
    if reader.fill_buf()?.starts_with(b"\xef\xbb\xbf") {
        reader.consume(3);
    }
    loop {
        match reader.fill_buf()?.first().copied() {
            Some(byte) if byte.is_ascii_whitespace() => {
                line += usize::from(byte == b'\n');
                reader.consume(1);
            }
            other => return Ok((other, line)),
        }
    }
}

fn read_array(
    reader: impl Read,
    line: usize,
    fields: &Fields,
    judge: Judge,
    selection: &mut Selection,
) -> Result<(), Stopped> {
    let mut json = serde_json::Deserializer::from_reader(reader);
    let rows = Rows {
        fields,
        judge,
        selection,
    };
    json.deserialize_seq(rows)
        .and_then(|()| json.end())
        .map_err(|error| match error.io_error_kind() {
            Some(kind) => Stopped::Io(kind.into()),
            None => Stopped::Format {
                line: Some(line + error.line().saturating_sub(1)),
                column: Some(error.column()),
                message: broken_json(&error),
            },
        })
}

/// Hands over the rows of an array one by one; none is held.
struct Rows<'a> {
    fields: &'a Fields,
    judge: Judge<'a>,
    selection: &'a mut Selection,
}

impl<'de> Visitor<'de> for Rows<'_> {
    type Value = ();

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("an array of prompts")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut rows: A) -> Result<(), A::Error> {
        while let Some(row) = rows.next_element_seed(RowSeed(self.fields))? {
            let row = (self.judge)(row);
            self.selection.take(row, |number| format!("item {number}"));
        }
        Ok(())
    }
}

fn row_of_line(line: &[u8], fields: &Fields) -> Result<Row, String> {
    let mut json = serde_json::Deserializer::from_slice(line);
    let row = RowSeed(fields).deserialize(&mut json);
    row.and_then(|row| json.end().map(|()| row))
        .map_err(|error| format!("{} (column {})", broken_json(&error), error.column()))
}

/// What serde_json says, without the place, which is told in the file's own lines.
pub(super) fn broken_json(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let what = text
        .rfind(" at line ")
        .map_or(text.as_str(), |place| &text[..place]);
    format!("is not JSON: {what}")
}

/// Calls `take` with each line that is not blank.
fn read_lines(
    mut reader: impl BufRead,
    first_line: usize,
    mut take: impl FnMut(&[u8], &mut Selection, usize),
    selection: &mut Selection,
) -> Result<(), Stopped> {
    let mut text = Vec::new();
    for line in first_line.. {
        text.clear();
        if reader.read_until(b'\n', &mut text)? == 0 {
            break;
        }
        let content = text.trim_ascii_end();
        if !content.is_empty() {
            take(content, selection, line);
        }
    }
    Ok(())
}

fn read_text(mut reader: impl BufRead, selection: &mut Selection) -> Result<(), Stopped> {
    let (_, line) = first_byte(&mut reader)?;
    read_lines(
        reader,
        line,
        |text, selection, line| {
            let row = match std::str::from_utf8(text) {
                Ok(text) => Ok(Candidate {
                    text: text.to_owned(),
                    ..Candidate::default()
                }),
                Err(_) => Err(Unfit::Bad("is not UTF-8".to_owned())),
            };
            selection.take(row, |_| format!("line {line}"));
        },
        selection,
    )
}

fn read_table(
    reader: impl Read,
    fields: &Fields,
    judge: Judge,
    selection: &mut Selection,
) -> Result<(), Stopped> {
    let mut table = csv::Reader::from_reader(reader);
    let header = table.headers().map_err(broken_table)?.clone();
    let made = fields.template.is_some();
    if !made && !header.iter().any(|column| holds_prompts(fields, column)) {
        let columns: Vec<&str> = header.iter().collect();
        return Err(Stopped::Format {
            line: Some(1),
            column: None,
            message: format!(
                "no column `{}`; the columns are {}",
                fields.prompt.as_deref().unwrap_or("prompt"),
                columns.join(", ")
            ),
        });
    }
    for record in table.records() {
        match record {
            Ok(record) => {
                let line = record.position().map_or(0, csv::Position::line);
                let row = Row::from_columns(fields, header.iter().zip(record.iter()));
                selection.take(judge(row), |_| format!("line {line}"));
            }
            Err(error) if error.is_io_error() => return Err(broken_table(error)),
            Err(error) => {
                let line = error.position().map_or(0, csv::Position::line);
                selection.take(Err(Unfit::Bad(table_problem(&error))), |_| {
                    format!("line {line}")
                });
            }
        }
    }
    Ok(())
}

fn broken_table(error: csv::Error) -> Stopped {
    let line = error.position().map(|place| place.line() as usize);
    let message = table_problem(&error);
    match error.into_kind() {
        csv::ErrorKind::Io(error) => Stopped::Io(error),
        _ => Stopped::Format {
            line,
            column: None,
            message,
        },
    }
}

pub(super) fn table_problem(error: &csv::Error) -> String {
    match error.kind() {
        csv::ErrorKind::UnequalLengths {
            expected_len, len, ..
        } => format!("has {len} fields, the header has {expected_len}"),
        csv::ErrorKind::Utf8 { .. } => "is not UTF-8".to_owned(),
        _ => error.to_string(),
    }
}

fn unreadable(message: &str) -> Stopped {
    Stopped::Format {
        line: None,
        column: None,
        message: message.to_owned(),
    }
}
