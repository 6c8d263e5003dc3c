//! The keys and values of a file and where they stand, read line by line, so that a file which is just being written, and is no
//! YAML yet, has them, too.

use std::ops::Range;

/// One step of the way to a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The value of a key.
    Key(String),
    /// An item of a list, from 0.
    Item(usize),
}

impl Step {
    /// The key, if it is one.
    pub fn key(&self) -> Option<&str> {
        match self {
            Step::Key(key) => Some(key),
            Step::Item(_) => None,
        }
    }
}

/// A key with what stands behind it, or an item of a list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// The way to it, its own step last.
    pub path: Vec<Step>,
    /// The bytes of its key.
    pub key: Option<Range<usize>>,
    /// The bytes of its value without quotes, if that is a scalar.
    pub value: Option<Range<usize>>,
}

/// What can be written at the end of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    /// The map that a key would belong to, and the value that would be written.
    pub path: Vec<Step>,
    /// A key can stand here.
    pub keys: bool,
    /// A value can stand here.
    pub values: bool,
    /// Where that which is half written begins.
    pub start: usize,
}

/// Every entry of a text, in its order.
pub(super) fn entries(text: &str) -> Vec<Entry> {
    Scan::of(text).entries
}

/// What can be written at byte `at` of a text; `None` in a comment or in a block of text.
pub(super) fn place(text: &str, at: usize) -> Option<Place> {
    Scan::of(&text[..at]).place
}

/// A map or a list that is open.
#[derive(Debug)]
struct Frame {
    /// The column of a block; `None` between brackets.
    column: Option<usize>,
    list: bool,
    step: Option<Step>,
    /// Where the entry of the step is in the list of entries.
    entry: Option<usize>,
}

struct Scan<'a> {
    text: &'a str,
    entries: Vec<Entry>,
    open: Vec<Frame>,
    place: Option<Place>,
}

impl<'a> Scan<'a> {
    fn of(text: &'a str) -> Scan<'a> {
        let mut scan = Scan {
            text,
            entries: Vec::new(),
            open: Vec::new(),
            place: None,
        };
        scan.run();
        scan
    }

    fn byte(&self, at: usize) -> Option<u8> {
        self.text.as_bytes().get(at).copied()
    }

    fn line_end(&self, at: usize) -> usize {
        self.text[at..]
            .find('\n')
            .map_or(self.text.len(), |n| at + n)
    }

    fn path(&self) -> Vec<Step> {
        self.open
            .iter()
            .filter_map(|frame| frame.step.clone())
            .collect()
    }

    /// Says what can stand at the end of the text.
    fn ends(&mut self, keys: bool, values: bool, start: usize) {
        self.place = Some(Place {
            path: self.path(),
            keys,
            values,
            start,
        });
    }

    fn run(&mut self) {
        let mut at = 0;
        // The column that a block of text must stay right of.
        let mut block: Option<usize> = None;
        while at <= self.text.len() {
            let line = at;
            let end = self.line_end(line);
            let last = end == self.text.len();
            let indent =
                self.text[line..end].len() - self.text[line..end].trim_start_matches(' ').len();
            let rest = &self.text[line + indent..end];
            if let Some(column) = block {
                if rest.trim().is_empty() || indent > column {
                    at = end + 1;
                    continue;
                }
                block = None;
            }
            if rest.trim_end_matches('\r').is_empty() {
                if last {
                    self.close_to(indent, false);
                    self.ends(true, true, line + indent);
                }
                at = end + 1;
                continue;
            }
            if rest.starts_with('#') || rest.starts_with("---") {
                at = end + 1;
                continue;
            }
            let (next, text_block) = self.line(line, line + indent, end);
            block = text_block;
            at = next;
        }
    }

    /// Reads a line that begins at `from`; gives where the next one begins, and the column of a block of text that follows.
    fn line(&mut self, line: usize, from: usize, end: usize) -> (usize, Option<usize>) {
        let mut at = from;
        while self.byte(at) == Some(b'-')
            && matches!(self.byte(at + 1), None | Some(b' ' | b'\n' | b'\r'))
        {
            self.item(at - line);
            at += 1;
            at = self.skip_spaces(at);
            if at >= end {
                if end == self.text.len() {
                    self.ends(true, true, at);
                }
                return (end + 1, None);
            }
        }
        let column = at - line;
        let Some((key, after)) = self.key(at, end) else {
            // A scalar of a list, or a key that is half written.
            let item = self
                .open
                .last()
                .is_some_and(|frame| frame.list && frame.column.is_some_and(|c| c < column));
            if !item {
                self.close_to(column, false);
                if self
                    .open
                    .last()
                    .is_some_and(|frame| frame.column == Some(column))
                {
                    self.step(None, None);
                }
            }
            return self.value(at, end, column, true);
        };
        self.close_to(column, false);
        if !self
            .open
            .last()
            .is_some_and(|frame| frame.column == Some(column) && !frame.list)
        {
            self.open.push(Frame {
                column: Some(column),
                list: false,
                step: None,
                entry: None,
            });
        }
        let name = self.text[key.clone()].to_owned();
        self.step(Some(Step::Key(name)), Some(key));
        let value = self.skip_spaces(after);
        if value >= end {
            if end == self.text.len() {
                self.ends(false, true, value);
            }
            return (end + 1, None);
        }
        self.value(value, end, column, false)
    }

    /// A value in a block: a scalar to the end of its line, or something between brackets or quotes to wherever that ends.
    fn value(
        &mut self,
        from: usize,
        end: usize,
        column: usize,
        keys: bool,
    ) -> (usize, Option<usize>) {
        let mut at = from;
        while matches!(self.byte(at), Some(b'&' | b'!')) {
            at = self.text[at..end].find(' ').map_or(end, |n| at + n);
            at = self.skip_spaces(at);
        }
        match self.byte(at) {
            Some(b'{' | b'[') => {
                let closed = self.brackets(at);
                (self.line_end(closed.min(self.text.len())) + 1, None)
            }
            Some(b'|' | b'>') => (end + 1, Some(column)),
            Some(quote @ (b'"' | b'\'')) => match self.quoted(at, quote) {
                Some(close) => {
                    self.scalar(at + 1..close);
                    (self.line_end(close) + 1, None)
                }
                None => {
                    self.scalar(at + 1..self.text.len());
                    self.ends(false, true, at + 1);
                    (self.text.len() + 1, None)
                }
            },
            Some(b'#') | None => {
                if at >= self.text.len() {
                    self.ends(keys, true, at);
                }
                (end + 1, None)
            }
            Some(_) => {
                let comment = self.text[at..end].find(" #").map(|n| at + n);
                let stop = comment.unwrap_or(end);
                let written = at + self.text[at..stop].trim_end().len();
                if !keys || self.open.last().is_some_and(|frame| frame.list) {
                    self.scalar(at..written);
                }
                if end == self.text.len() && comment.is_none() {
                    self.ends(keys, true, at);
                }
                (end + 1, None)
            }
        }
    }

    /// What stands between brackets, from the opening one; gives where it ends.
    fn brackets(&mut self, from: usize) -> usize {
        let depth = self.open.len();
        let mut at = from;
        // The last scalar, which may prove to be a key.
        let mut written: Option<Range<usize>> = None;
        while at < self.text.len() {
            match self.byte(at).unwrap_or(b'\n') {
                opening @ (b'{' | b'[') => {
                    let list = opening == b'[';
                    self.open.push(Frame {
                        column: None,
                        list,
                        step: None,
                        entry: None,
                    });
                    if list {
                        self.step(Some(Step::Item(0)), None);
                    }
                    written = None;
                    at += 1;
                }
                b'}' | b']' => {
                    self.settle(written.take());
                    self.open.pop();
                    at += 1;
                    if self.open.len() <= depth {
                        return at;
                    }
                }
                b',' => {
                    self.settle(written.take());
                    let next = match self.open.last() {
                        Some(Frame {
                            list: true,
                            step: Some(Step::Item(index)),
                            ..
                        }) => Some(Step::Item(index + 1)),
                        _ => None,
                    };
                    self.step(next, None);
                    at += 1;
                }
                b':' if matches!(
                    self.byte(at + 1),
                    None | Some(b' ' | b'\n' | b'\r' | b',' | b'}' | b']')
                ) =>
                {
                    if let Some(key) = written.take() {
                        let name = self.text[key.clone()].to_owned();
                        self.step(Some(Step::Key(name)), Some(key));
                    }
                    at += 1;
                }
                b' ' | b'\n' | b'\r' | b'\t' => at += 1,
                b'#' => {
                    at = self.line_end(at);
                    if at == self.text.len() {
                        return at;
                    }
                }
                quote @ (b'"' | b'\'') => match self.quoted(at, quote) {
                    Some(close) => {
                        written = Some(at + 1..close);
                        at = close + 1;
                        if self.byte(at) == Some(b':') {
                            continue;
                        }
                    }
                    None => {
                        self.settle(Some(at + 1..self.text.len()));
                        self.ends(false, true, at + 1);
                        return self.text.len();
                    }
                },
                _ => {
                    let stop = self.plain_end(at);
                    written = Some(at..at + self.text[at..stop].trim_end().len());
                    at = stop;
                }
            }
        }
        let in_map = self.open.last().is_some_and(|frame| !frame.list);
        let keys = in_map && self.open.last().is_some_and(|frame| frame.step.is_none());
        let start = written
            .as_ref()
            .map_or(self.text.len(), |range| range.start);
        if !keys {
            self.settle(written);
        }
        // An item of a list may be a map of its own, but only in brackets.
        self.ends(keys, !keys, start);
        self.text.len()
    }

    /// Where an unquoted scalar between brackets ends.
    fn plain_end(&self, from: usize) -> usize {
        let bytes = self.text.as_bytes();
        let mut at = from;
        while at < bytes.len() {
            let next = bytes.get(at + 1).copied();
            match bytes[at] {
                b',' | b']' | b'}' | b'{' | b'[' | b'\n' => break,
                b':' if matches!(next, None | Some(b' ' | b'\n' | b'\r' | b',' | b'}' | b']')) => {
                    break;
                }
                b' ' if next == Some(b'#') => break,
                _ => at += 1,
            }
        }
        at.max(from + 1)
    }

    /// Where a quoted scalar closes.
    fn quoted(&self, from: usize, quote: u8) -> Option<usize> {
        let bytes = self.text.as_bytes();
        let mut at = from + 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if quote == b'"' => at += 2,
                b'\'' if quote == b'\'' && bytes.get(at + 1) == Some(&b'\'') => at += 2,
                byte if byte == quote => return Some(at),
                _ => at += 1,
            }
        }
        None
    }

    /// A key that begins at `at`: its bytes without quotes, and where its colon ends.
    fn key(&self, at: usize, end: usize) -> Option<(Range<usize>, usize)> {
        let ends = |colon: usize| {
            self.byte(colon) == Some(b':')
                && matches!(self.byte(colon + 1), None | Some(b' ' | b'\n' | b'\r'))
        };
        if let Some(quote @ (b'"' | b'\'')) = self.byte(at) {
            let close = self.quoted(at, quote).filter(|close| *close < end)?;
            return ends(close + 1).then_some((at + 1..close, close + 2));
        }
        if matches!(self.byte(at), Some(b'{' | b'[' | b'#' | b'|' | b'>')) {
            return None;
        }
        let colon = (at..end).find(|&colon| ends(colon))?;
        // Behind a comment there is no key.
        (!self.text[at..colon].contains(" #")).then_some((at..colon, colon + 1))
    }

    /// Begins the next item of the list at a column.
    fn item(&mut self, column: usize) {
        self.close_to(column, true);
        let next = match self.open.last() {
            Some(Frame {
                list: true,
                column: Some(c),
                step: Some(Step::Item(index)),
                ..
            }) if *c == column => index + 1,
            _ => {
                self.open.push(Frame {
                    column: Some(column),
                    list: true,
                    step: None,
                    entry: None,
                });
                0
            }
        };
        self.step(Some(Step::Item(next)), None);
    }

    /// Closes what is right of a column; a list at the column of a key ends with the key.
    fn close_to(&mut self, column: usize, item: bool) {
        while let Some(frame) = self.open.last() {
            let stays = match frame.column {
                None => false,
                Some(own) => own < column || (own == column && (item || !frame.list)),
            };
            if stays {
                break;
            }
            self.open.pop();
        }
    }

    /// The next entry of the innermost map or list.
    fn step(&mut self, step: Option<Step>, key: Option<Range<usize>>) {
        let Some(frame) = self.open.last_mut() else {
            return;
        };
        let told = step.is_some();
        frame.step = step;
        frame.entry = told.then_some(self.entries.len());
        if told {
            let path = self.path();
            self.entries.push(Entry {
                path,
                key,
                value: None,
            });
        }
    }

    /// The scalar of the innermost entry.
    fn scalar(&mut self, range: Range<usize>) {
        if let Some(entry) = self.open.last().and_then(|frame| frame.entry) {
            self.entries[entry].value = Some(range);
        }
    }

    /// A scalar between brackets that proved to be a value; without an entry it is a key without a value.
    fn settle(&mut self, written: Option<Range<usize>>) {
        let Some(range) = written else {
            return;
        };
        let keyless = self
            .open
            .last()
            .is_some_and(|frame| frame.step.is_none() && !frame.list);
        if keyless {
            let name = self.text[range.clone()].to_owned();
            self.step(Some(Step::Key(name)), Some(range));
        } else {
            self.scalar(range);
        }
    }

    fn skip_spaces(&self, mut at: usize) -> usize {
        while self.byte(at) == Some(b' ') {
            at += 1;
        }
        at
    }
}

/// A way in words, like `load.steady.stages.0.name`.
#[cfg(test)]
pub(super) fn written(path: &[Step]) -> String {
    let steps: Vec<String> = path
        .iter()
        .map(|step| match step {
            Step::Key(key) => key.clone(),
            Step::Item(index) => index.to_string(),
        })
        .collect();
    steps.join(".")
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# a comment: with a colon
version: 1
backends:
  vllm: http://localhost:8000   # here
  \"sg-lang\": { kind: sglang, url: 'http://x', headers: { A: b } }
load:
  ramp:
    process: poisson
    stages:
    - { name: warm, users: 8 }
    - name: full
      for: 2m
note: |
  not: a key
matrix: { backend: [vllm,
  sg-lang], load: [ramp] }
";

    #[test]
    fn every_key_and_value_has_its_place() {
        let told: Vec<String> = entries(FILE)
            .iter()
            .map(|entry| {
                let value = entry.value.clone().map_or("", |range| &FILE[range]);
                format!("{} = {value}", written(&entry.path))
            })
            .collect();
        assert_eq!(
            told,
            [
                "version = 1",
                "backends = ",
                "backends.vllm = http://localhost:8000",
                "backends.sg-lang = ",
                "backends.sg-lang.kind = sglang",
                "backends.sg-lang.url = http://x",
                "backends.sg-lang.headers = ",
                "backends.sg-lang.headers.A = b",
                "load = ",
                "load.ramp = ",
                "load.ramp.process = poisson",
                "load.ramp.stages = ",
                "load.ramp.stages.0 = ",
                "load.ramp.stages.0.name = warm",
                "load.ramp.stages.0.users = 8",
                "load.ramp.stages.1 = ",
                "load.ramp.stages.1.name = full",
                "load.ramp.stages.1.for = 2m",
                "note = ",
                "matrix = ",
                "matrix.backend = ",
                "matrix.backend.0 = vllm",
                "matrix.backend.1 = sg-lang",
                "matrix.load = ",
                "matrix.load.0 = ramp",
            ]
        );
    }

    #[test]
    fn a_text_that_is_being_written_has_a_place_for_what_comes() {
        let told = |text: &str| {
            let place = place(text, text.len()).unwrap();
            let wanted = match (place.keys, place.values) {
                (true, true) => "both",
                (true, false) => "key",
                (false, _) => "value",
            };
            format!(
                "{wanted} {} `{}`",
                written(&place.path),
                &text[place.start..]
            )
        };
        assert_eq!(told(""), "both  ``");
        assert_eq!(told("ver"), "both  `ver`");
        assert_eq!(told("version: 1\nba"), "both  `ba`");
        assert_eq!(told("load:\n  a:\n    "), "both load.a ``");
        assert_eq!(told("load:\n  a:\n    sta"), "both load.a `sta`");
        assert_eq!(told("load:\n  a: { levels: { us"), "key load.a.levels `us`");
        assert_eq!(
            told("load:\n  a: { levels: { users: 8, "),
            "key load.a.levels ``"
        );
        assert_eq!(
            told("load:\n  a: { process: poi"),
            "value load.a.process `poi`"
        );
        assert_eq!(
            told("load:\n  a:\n    stages:\n      - na"),
            "both load.a.stages.0 `na`"
        );
        assert_eq!(
            told("load:\n  a:\n    stages:\n      - name: x\n        f"),
            "both load.a.stages.0 `f`"
        );
        assert_eq!(
            told("matrix: { backend: [vllm, "),
            "value matrix.backend.1 ``"
        );
        assert_eq!(told("slos:\n  a: P95 TT"), "value slos.a `P95 TT`");
        assert_eq!(
            told("slos:\n  a: { assert: \"P95 TT"),
            "value slos.a.assert `P95 TT`"
        );
        assert_eq!(told("slos:\n  a: P95\n  b"), "both slos `b`");
        assert_eq!(told("a:\n- x\nb"), "both  `b`");
    }

    #[test]
    fn no_text_makes_it_panic() {
        for end in 0..FILE.len() {
            if FILE.is_char_boundary(end) {
                place(FILE, end);
                entries(&FILE[end..]);
            }
        }
    }
}
