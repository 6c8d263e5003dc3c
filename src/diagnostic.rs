//! What is wrong with a user's file, where, and what to write instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Serialize;

pub mod github;
pub mod sarif;

/// A source text, kept to the end of the run: reports quote it.
#[derive(Clone, Debug)]
pub struct SourceText {
    /// The path as the user wrote it.
    pub path: PathBuf,
    /// The whole text.
    pub text: Arc<str>,
    /// What others know the file by: its path from the root of its repository, or as it was written where it is in none. `None`
    /// where it is no file, but a value of the command line.
    pub in_repository: Option<String>,
}

/// The texts that spans point into.
#[derive(Clone, Debug, Default)]
pub struct Sources {
    texts: Vec<SourceText>,
    composed: Arc<[ComposedLine]>,
}

/// A line of a scenario that was laid together, and where the value that ends it was written.
pub type ComposedLine = (String, Option<Span>);

/// Which text of [`Sources`] a span lies in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub u32);

/// A range of bytes in one source text.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Span {
    /// The text.
    pub source: SourceId,
    /// The first byte.
    pub start: usize,
    /// One past the last byte.
    pub end: usize,
}

impl Span {
    /// The part of this span from byte `start` to byte `end`, both counted from this span's start.
    pub fn part(self, start: usize, end: usize) -> Span {
        Span {
            source: self.source,
            start: self.start + start,
            end: self.start + end,
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug)]
pub struct Spanned<T> {
    /// The value.
    pub value: T,
    /// Where it was written.
    pub span: Span,
}

impl<T> Spanned<T> {
    /// `value`, written at `span`.
    pub fn new(value: T, span: Span) -> Spanned<T> {
        Spanned { value, span }
    }

    /// The same place with another value.
    pub fn map<U>(self, f: impl FnOnce(T) -> U) -> Spanned<U> {
        Spanned {
            value: f(self.value),
            span: self.span,
        }
    }
}

impl<T: PartialEq> PartialEq for Spanned<T> {
    fn eq(&self, other: &Spanned<T>) -> bool {
        self.value == other.value
    }
}

impl Sources {
    /// Keeps a text and gives it an id.
    pub fn add(&mut self, path: impl Into<PathBuf>, text: impl Into<Arc<str>>) -> SourceId {
        let path = path.into();
        self.texts.push(SourceText {
            in_repository: Some(path.display().to_string()),
            path,
            text: text.into(),
        });
        SourceId(self.texts.len() as u32 - 1)
    }

    /// The text with this id.
    ///
    /// # Panics
    /// If the id comes from other [`Sources`].
    pub fn get(&self, id: SourceId) -> &SourceText {
        &self.texts[id.0 as usize]
    }

    /// The text that was asked for: the first one, which may name others.
    ///
    /// # Panics
    /// If there is none yet.
    pub fn main(&self) -> &SourceText {
        &self.texts[0]
    }

    /// Tells of each text what its path is in its repository.
    pub fn find_in_repository(&mut self, path_of: &dyn Fn(&Path) -> Option<String>) {
        for source in &mut self.texts {
            source.in_repository = path_of(&source.path);
        }
    }

    /// Every text, in the order in which they were read.
    pub fn iter(&self) -> impl Iterator<Item = &SourceText> {
        self.texts.iter()
    }

    /// Keeps what these texts were laid together to.
    pub fn keep_composed(&mut self, lines: Vec<ComposedLine>) {
        self.composed = lines.into();
    }

    /// What these texts were laid together to; nothing where one text says it all.
    pub fn composed(&self) -> &[ComposedLine] {
        &self.composed
    }

    /// Where a span begins, for people: line and column from 1, columns in characters.
    pub fn locate(&self, span: Span) -> Location {
        let source = self.get(span.source);
        let before = &source.text[..floor_boundary(&source.text, span.start)];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        Location {
            path: source.path.clone(),
            line: before.bytes().filter(|&b| b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
        }
    }

    /// The whole line of text in which a span begins, without its line end.
    pub fn line(&self, span: Span) -> &str {
        let text = &self.get(span.source).text;
        let start = text[..floor_boundary(text, span.start)]
            .rfind('\n')
            .map_or(0, |at| at + 1);
        let end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        text[start..end].trim_end_matches('\r')
    }

    /// The directory of a source text, which its relative paths start from.
    pub fn directory(&self, id: SourceId) -> &Path {
        self.get(id).path.parent().unwrap_or(Path::new(""))
    }
}

/// A place in a file, for people: line and column from 1.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Location {
    /// The path as the user wrote it.
    pub path: PathBuf,
    /// The line, from 1.
    pub line: usize,
    /// The column in characters, from 1.
    pub column: usize,
}

impl std::fmt::Display for Location {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}:{}:{}", self.path.display(), self.line, self.column)
    }
}

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The file runs, but probably does not say what was meant.
    Warning,
    /// The file cannot be run.
    Error,
}

/// A mark under a piece of source text.
#[derive(Clone, Debug)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// What to say there; may be empty.
    pub text: String,
}

/// One thing that is wrong with a user's file.
#[derive(Clone, Debug)]
pub struct Diagnostic {
    /// How bad it is.
    pub severity: Severity,
    /// The stable code, like `S031` (`S` an error, `L` a lint).
    pub code: &'static str,
    /// What is wrong, as a lower-case fragment that fits after "error:".
    pub message: String,
    /// Where, with a label; `None` when there is no text to point at (a flag, a missing file).
    pub primary: Option<Label>,
    /// Other places that matter, like the definition that is meant.
    pub secondary: Vec<Label>,
    /// What to do about it.
    pub help: Vec<String>,
}

impl Diagnostic {
    /// An error with a stable code.
    pub fn error(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Error,
            code,
            message: message.into(),
            primary: None,
            secondary: Vec::new(),
            help: Vec::new(),
        }
    }

    /// A warning with a stable code.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Diagnostic {
        Diagnostic {
            severity: Severity::Warning,
            ..Diagnostic::error(code, message)
        }
    }

    /// The same, pointing at `span` with a label.
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.primary = Some(Label {
            span,
            text: label.into(),
        });
        self
    }

    /// The same, with another place that matters.
    pub fn also(mut self, span: Span, label: impl Into<String>) -> Diagnostic {
        self.secondary.push(Label {
            span,
            text: label.into(),
        });
        self
    }

    /// The same, with advice.
    pub fn help(mut self, help: impl Into<String>) -> Diagnostic {
        self.help.push(help.into());
        self
    }

    /// The message with its label and all advice, a line each: for places that cannot draw the file.
    pub fn in_full(&self) -> String {
        let mut lines = vec![self.message.clone()];
        lines.extend(
            self.primary
                .iter()
                .filter(|label| !label.text.is_empty())
                .map(|label| label.text.clone()),
        );
        lines.extend(self.help.iter().map(|help| format!("help: {help}")));
        lines.join("\n")
    }
}

/// The candidate nearest to a misspelt `word` (Damerau–Levenshtein, case ignored), if it is near enough to be meant.
pub fn did_you_mean<'a>(
    word: &str,
    candidates: impl IntoIterator<Item = &'a str>,
) -> Option<&'a str> {
    let lower = word.to_lowercase();
    let limit = (lower.chars().count() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| {
            (
                strsim::damerau_levenshtein(&lower, &candidate.to_lowercase()),
                candidate,
            )
        })
        .filter(|(distance, _)| *distance <= limit)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate)
}

/// Codes of secrets that stand in a file: what their span covers is hidden wherever the text is quoted.
const SECRETS: &[&str] = &["S020"];

/// After so many diagnostics the piece of the file is no longer drawn: who has more is helped by the list of places.
const DRAWN: usize = 50;

/// Diagnostics as text: for each a plain line that tools can read, then the piece of the file with its marks, then advice; at
/// the end how many there are. Empty without diagnostics.
pub fn render(diagnostics: &[Diagnostic], sources: &Sources, color: bool) -> String {
    let quoted = Quoted::new(diagnostics, sources);
    let mut text = String::new();
    for (index, diagnostic) in diagnostics.iter().enumerate() {
        let quoted = (index < DRAWN).then_some(&quoted);
        render_one(diagnostic, sources, quoted, color, &mut text);
        text.push('\n');
    }
    if !diagnostics.is_empty() {
        text.push_str(&summary(diagnostics));
        text.push('\n');
    }
    text
}

fn render_one(
    diagnostic: &Diagnostic,
    sources: &Sources,
    quoted: Option<&Quoted>,
    color: bool,
    text: &mut String,
) {
    let code = diagnostic.code;
    let message = &diagnostic.message;
    let title = format!("{}[{code}]: {message}", diagnostic.severity.name());
    let title = if color {
        paint(diagnostic.severity, &title)
    } else {
        title
    };
    match &diagnostic.primary {
        Some(label) => {
            text.push_str(&format!("{}: {title}\n", sources.locate(label.span)));
            if let Some(quoted) = quoted {
                text.push_str(&snippet(diagnostic, label, sources, quoted, color));
            }
        }
        None => text.push_str(&format!("{title}\n")),
    }
    for help in &diagnostic.help {
        text.push_str(&format!("  help: {help}\n"));
    }
}

/// The piece of the file that a diagnostic is about, with its marks.
fn snippet(
    diagnostic: &Diagnostic,
    primary: &Label,
    sources: &Sources,
    quoted: &Quoted,
    color: bool,
) -> String {
    use annotate_snippets::{AnnotationKind, Group, Renderer, Snippet};

    let mut of_source = vec![primary.span.source];
    for label in &diagnostic.secondary {
        if !of_source.contains(&label.span.source) {
            of_source.push(label.span.source);
        }
    }
    let mut group = Group::with_level(diagnostic.severity.level());
    for source in of_source {
        let mark = |label: &Label, kind: AnnotationKind| {
            let range = mark_range(quoted.text(source), label.span);
            kind.span(range).label(label.text.clone())
        };
        let mut marks = Vec::new();
        if primary.span.source == source {
            marks.push(mark(primary, AnnotationKind::Primary));
        }
        for label in &diagnostic.secondary {
            if label.span.source == source {
                marks.push(mark(label, AnnotationKind::Context));
            }
        }
        // The line above tells where the primary mark is; only other files are named again.
        let other =
            (primary.span.source != source).then(|| sources.get(source).path.display().to_string());
        group = group.element(
            Snippet::source(quoted.text(source))
                .path(other)
                .annotations(marks),
        );
    }
    let renderer = if color {
        Renderer::styled()
    } else {
        Renderer::plain()
    };
    let mut drawn = renderer.render(&[group]);
    drawn.push('\n');
    drawn
}

/// The bytes to mark: on whole characters, on one line, and never past the end.
fn mark_range(text: &str, span: Span) -> std::ops::Range<usize> {
    let start = floor_boundary(text, span.start);
    let line_end = text[start..]
        .find(['\n', '\r'])
        .map_or(text.len(), |length| start + length);
    let end = floor_boundary(text, span.end).clamp(start, line_end);
    start..end
}

fn floor_boundary(text: &str, at: usize) -> usize {
    let mut at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// The source texts as they are quoted: secrets are hidden, and other control characters than line ends are not passed on.
struct Quoted {
    texts: Vec<String>,
}

impl Quoted {
    fn new(diagnostics: &[Diagnostic], sources: &Sources) -> Quoted {
        let mut texts: Vec<String> = sources
            .texts
            .iter()
            .map(|source| source.text.to_string())
            .collect();
        let secrets = diagnostics
            .iter()
            .filter(|diagnostic| SECRETS.contains(&diagnostic.code))
            .filter_map(|diagnostic| diagnostic.primary.as_ref());
        for label in secrets {
            let text = &mut texts[label.span.source.0 as usize];
            let start = floor_boundary(text, label.span.start);
            let end = floor_boundary(text, label.span.end).max(start);
            // As many bytes as before, so that every other span stays where it is.
            text.replace_range(start..end, &"*".repeat(end - start));
        }
        Quoted { texts }
    }

    fn text(&self, source: SourceId) -> &str {
        &self.texts[source.0 as usize]
    }
}

impl Severity {
    /// `error` or `warning`.
    pub fn name(self) -> &'static str {
        match self {
            Severity::Warning => "warning",
            Severity::Error => "error",
        }
    }

    fn level(self) -> annotate_snippets::Level<'static> {
        match self {
            Severity::Warning => annotate_snippets::Level::WARNING,
            Severity::Error => annotate_snippets::Level::ERROR,
        }
    }
}

fn paint(severity: Severity, text: &str) -> String {
    let color = match severity {
        Severity::Warning => anstyle::AnsiColor::Yellow,
        Severity::Error => anstyle::AnsiColor::Red,
    };
    let style = color.on_default().bold();
    format!("{style}{text}{style:#}")
}

/// How many errors and warnings there are: `3 errors, 1 warning.`
fn summary(diagnostics: &[Diagnostic]) -> String {
    let count = |severity: Severity| {
        let number = diagnostics
            .iter()
            .filter(|diagnostic| diagnostic.severity == severity)
            .count();
        let plural = if number == 1 { "" } else { "s" };
        (number > 0).then(|| format!("{number} {}{plural}", severity.name()))
    };
    let parts: Vec<String> = [count(Severity::Error), count(Severity::Warning)]
        .into_iter()
        .flatten()
        .collect();
    format!("{}.", parts.join(", "))
}

/// Diagnostics as a list of plain JSON objects, for editors and other tools.
pub fn to_json(diagnostics: &[Diagnostic], sources: &Sources) -> serde_json::Value {
    use serde_json::json;

    let label = |label: &Label| {
        let start = sources.locate(label.span);
        let end = sources.locate(Span {
            start: label.span.end,
            ..label.span
        });
        json!({
            "path": start.path, "line": start.line, "column": start.column,
            "end_line": end.line, "end_column": end.column, "text": label.text,
        })
    };
    diagnostics
        .iter()
        .map(|diagnostic| {
            json!({
                "severity": diagnostic.severity.name(),
                "code": diagnostic.code,
                "message": diagnostic.message,
                "at": diagnostic.primary.as_ref().map(label),
                "also": diagnostic.secondary.iter().map(label).collect::<Vec<_>>(),
                "help": diagnostic.help,
            })
        })
        .collect()
}
