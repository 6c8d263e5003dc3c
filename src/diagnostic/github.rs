//! Workflow commands of GitHub Actions: what a job's log turns into annotations on the lines of a file.

use super::{Diagnostic, Severity, Sources, Span};

/// Diagnostics as annotations, one a line, each where the mistake is; those without a place are told of the first file.
pub fn annotations(diagnostics: &[Diagnostic], sources: &Sources) -> String {
    let told = diagnostics
        .iter()
        .map(|diagnostic| annotation(diagnostic, sources));
    told.collect()
}

fn annotation(diagnostic: &Diagnostic, sources: &Sources) -> String {
    let command = match diagnostic.severity {
        Severity::Warning => "warning",
        Severity::Error => "error",
    };
    let source = match &diagnostic.primary {
        Some(label) => sources.get(label.span.source),
        None => sources.main(),
    };
    let file = source.in_repository.as_deref().map(property);
    let place = match (&diagnostic.primary, file) {
        (Some(label), Some(file)) => {
            let start = sources.locate(label.span);
            let end = sources.locate(Span {
                start: label.span.end,
                ..label.span
            });
            let mut place = format!("file={file},line={},endLine={},", start.line, end.line);
            // Columns are understood only within a line.
            if start.line == end.line {
                place.push_str(&format!("col={},endColumn={},", start.column, end.column));
            }
            place
        }
        (None, Some(file)) => format!("file={file},"),
        // A value of the command line is in no file.
        (_, None) => String::new(),
    };
    format!(
        "::{command} {place}title={}::{}\n",
        property(diagnostic.code),
        text(&diagnostic.in_full())
    )
}

/// A text in a command: what would end it is written otherwise.
pub fn text(said: &str) -> String {
    said.replace('%', "%25")
        .replace('\r', "%0D")
        .replace('\n', "%0A")
}

/// A property of a command: its separators are written otherwise, too.
pub fn property(said: &str) -> String {
    text(said).replace(':', "%3A").replace(',', "%2C")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_said_ends_a_command() {
        assert_eq!(text("50% of\nit"), "50%25 of%0Ait");
        assert_eq!(property("a,b::c"), "a%2Cb%3A%3Ac");
    }

    #[test]
    fn a_mistake_is_annotated_where_it_is() {
        let mut sources = Sources::default();
        let source = sources.add("a,b.yaml", "one: 1\ntwö: 100%\n");
        let at = |start, end| Span { source, start, end };
        let found = [
            Diagnostic::error("S031", "unknown metric")
                .at(at(13, 17), "did you mean `ttft`?")
                .help("write `100%`"),
            Diagnostic::warning("L003", "too few").at(at(0, 9), ""),
            Diagnostic::error("S058", "cannot be loaded"),
        ];
        assert_eq!(
            annotations(&found, &sources),
            "::error file=a%2Cb.yaml,line=2,endLine=2,col=6,endColumn=10,title=S031::unknown metric%0Adid you mean `ttft`?%0Ahelp: write `100%25`\n\
             ::warning file=a%2Cb.yaml,line=1,endLine=2,title=L003::too few\n\
             ::error file=a%2Cb.yaml,title=S058::cannot be loaded\n"
        );
    }
}
