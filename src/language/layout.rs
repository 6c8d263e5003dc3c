//! The canonical layout of a scenario file: two spaces, one style of brackets and quotes, comments where they were.

use pretty_yaml::config::{FormatOptions, LanguageOptions, LayoutOptions};

use crate::spec;

/// The longest line that a list or map in brackets keeps to.
const WIDTH: usize = 120;
/// The column up to which comments beside values are aligned.
const MARGIN: usize = 72;

/// A text in its canonical layout: the same values, the same comments, and laid out again the same text.
///
/// # Errors
/// The text is no YAML, or laying it out would change what it says; in words.
pub fn layout(text: &str) -> Result<String, String> {
    let options = FormatOptions {
        layout: LayoutOptions {
            print_width: WIDTH,
            ..LayoutOptions::default()
        },
        language: LanguageOptions {
            trailing_comma: false,
            prefer_single_line: true,
            ..LanguageOptions::default()
        },
    };
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let laid_out = pretty_yaml::format_text(text, &options).map_err(|error| error.to_string())?;
    let aligned = align_comments(&laid_out);
    [aligned, laid_out]
        .into_iter()
        .find(|laid_out| spec::say_the_same(text, laid_out))
        .ok_or_else(|| "its layout cannot be changed without changing what it says".to_owned())
}

/// Comments beside the values of neighbouring lines, each in the same column.
fn align_comments(text: &str) -> String {
    let lines: Vec<&str> = text.lines().collect();
    let mut aligned = String::with_capacity(text.len());
    let mut at = 0;
    while at < lines.len() {
        // A paragraph: what no empty line divides.
        let end = lines[at..]
            .iter()
            .position(|line| line.is_empty())
            .map_or(lines.len(), |n| at + n);
        let parts: Vec<(&str, Option<&str>)> = lines[at..end]
            .iter()
            .map(|line| split_comment(line))
            .collect();
        let widths = parts.iter().filter(|(_, comment)| comment.is_some());
        let widths = widths
            .map(|(value, _)| value.chars().count())
            .filter(|width| *width <= MARGIN);
        let column = widths.max().unwrap_or(0) + 2;
        for (value, comment) in parts {
            aligned.push_str(value);
            if let Some(comment) = comment {
                let gap = column.saturating_sub(value.chars().count()).max(2);
                aligned.push_str(&" ".repeat(gap));
                aligned.push_str(comment);
            }
            aligned.push('\n');
        }
        if end < lines.len() {
            aligned.push('\n');
        }
        at = end + 1;
    }
    aligned
}

/// A line as its value and the comment beside it; a line that is only a comment has none beside it.
fn split_comment(line: &str) -> (&str, Option<&str>) {
    if line.trim_start().starts_with('#') {
        return (line, None);
    }
    let mut quote = None;
    let bytes = line.as_bytes();
    for (index, byte) in line.bytes().enumerate() {
        match (quote, byte) {
            (None, b'"' | b'\'') if index == 0 || b" {[,:".contains(&bytes[index - 1]) => {
                quote = Some(byte)
            }
            (Some(open), byte) if open == byte => quote = None,
            (None, b'#') if index > 0 && bytes[index - 1] == b' ' => {
                let value = line[..index].trim_end();
                return if value.is_empty() {
                    (line, None)
                } else {
                    (value, Some(&line[index..]))
                };
            }
            _ => {}
        }
    }
    (line, None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_laid_out_and_keeps_its_comments() {
        let untidy = "\
# What it is for.
version:   1
backends: {vllm:   http://localhost:8000,
   sglang: 'http://localhost:30000'}   # both
load:
    sweep:   # levels
        levels: {users: [ 4,8 ], for: 30s}   # two of them

slos:
    ttft: P95 TTFT < 1s
    note: 'a # is no comment here'  # but here
";
        assert_eq!(
            layout(untidy).unwrap(),
            "\
# What it is for.
version: 1
backends: { vllm: http://localhost:8000, sglang: \"http://localhost:30000\" }  # both
load:
  sweep:                                 # levels
    levels: { users: [4, 8], for: 30s }  # two of them

slos:
  ttft: P95 TTFT < 1s
  note: \"a # is no comment here\"  # but here
"
        );
    }

    #[test]
    fn what_is_no_yaml_is_left_alone() {
        assert!(layout("a: [1").is_err());
    }
}
