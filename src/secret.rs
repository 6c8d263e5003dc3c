//! Secrets: a type that prints none, and a mask over every byte that leaves the program.

use std::borrow::Cow;
use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, PoisonError, RwLock};

use memchr::memmem;
use serde::{Serialize, Serializer};

/// What stands in place of a secret.
pub const MASK: &str = "***";
/// Shorter secrets are not looked for: they would hide half of every text, and guard nothing.
pub const SHORTEST: usize = 4;
/// A text may have been cut in the middle of a secret: an end that is so much of one is hidden, too.
const PIECE: usize = 6;

/// A secret value. However it is printed, it is `***`.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// A secret of this value.
    pub fn new(value: impl Into<String>) -> Secret {
        Secret(value.into())
    }

    /// The value itself, for whom it is meant.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl fmt::Display for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(MASK)
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(MASK)
    }
}

/// Whether the name of a variable says that its value is a secret.
pub fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_uppercase();
    ["TOKEN", "KEY", "SECRET", "PASSWORD"]
        .iter()
        .any(|word| name.ends_with(word))
}

/// Hides secrets in bytes: each as it is, and as JSON, HTML, CSV, URLs, base64 and Rust write it. Cheap to clone; what one clone
/// learns, all know.
#[derive(Clone, Default)]
pub struct Masker {
    patterns: Arc<RwLock<Vec<Pattern>>>,
}

struct Pattern {
    bytes: Vec<u8>,
    finder: memmem::Finder<'static>,
}

impl fmt::Debug for Masker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masker")
    }
}

impl Masker {
    /// A mask over one secret more.
    pub fn learn(&self, secret: &Secret) {
        let value = secret.reveal();
        if value.len() < SHORTEST {
            return;
        }
        let mut patterns = self
            .patterns
            .write()
            .unwrap_or_else(PoisonError::into_inner);
        for bytes in spellings(value) {
            if !patterns.iter().any(|known| known.bytes == bytes) {
                let finder = memmem::Finder::new(&bytes).into_owned();
                patterns.push(Pattern { bytes, finder });
            }
        }
        // Of two that begin alike, the longer one is the whole.
        patterns.sort_by_key(|pattern| std::cmp::Reverse(pattern.bytes.len()));
    }

    /// The text without secrets, also without the first part of one at its end.
    pub fn text<'t>(&self, text: &'t str) -> Cow<'t, str> {
        match self.bytes(text.as_bytes()) {
            Cow::Borrowed(_) => Cow::Borrowed(text),
            Cow::Owned(masked) => Cow::Owned(String::from_utf8_lossy(&masked).into_owned()),
        }
    }

    /// As [`Masker::text`], of bytes.
    pub fn bytes<'b>(&self, bytes: &'b [u8]) -> Cow<'b, [u8]> {
        let patterns = self.patterns.read().unwrap_or_else(PoisonError::into_inner);
        let mut masked = Vec::new();
        let mut from = 0;
        while let Some((at, length)) = first(&patterns, &bytes[from..]) {
            masked.extend_from_slice(&bytes[from..from + at]);
            masked.extend_from_slice(MASK.as_bytes());
            from += at + length;
        }
        let rest = &bytes[from..];
        let cut = patterns
            .iter()
            .filter_map(|pattern| started(pattern, rest, PIECE))
            .max();
        match (from, cut) {
            (0, None) => Cow::Borrowed(bytes),
            (_, cut) => {
                let (rest, mask) = match cut {
                    None => (rest, ""),
                    Some(length) => (&rest[..rest.len() - length], MASK),
                };
                masked.extend_from_slice(rest);
                masked.extend_from_slice(mask.as_bytes());
                Cow::Owned(masked)
            }
        }
    }

    /// A writer that hides secrets in what is written through it, wherever a write ends.
    pub fn over<W: Write>(&self, inner: W) -> Masked<W> {
        Masked {
            masker: self.clone(),
            held: Vec::new(),
            inner: Some(inner),
        }
    }
}

/// The first secret in some bytes: where it begins, and how long it is.
fn first(patterns: &[Pattern], bytes: &[u8]) -> Option<(usize, usize)> {
    patterns
        .iter()
        .filter_map(|pattern| Some((pattern.finder.find(bytes)?, pattern.bytes.len())))
        .min_by_key(|(at, length)| (*at, std::cmp::Reverse(*length)))
}

/// How much of a secret stands at the end of some bytes, if it is at least `least` and not the whole.
fn started(pattern: &Pattern, bytes: &[u8], least: usize) -> Option<usize> {
    let longest = (pattern.bytes.len() - 1).min(bytes.len());
    (least..=longest)
        .rev()
        .find(|&length| bytes.ends_with(&pattern.bytes[..length]))
}

/// The ways in which a value is written.
fn spellings(value: &str) -> Vec<Vec<u8>> {
    let json = serde_json::Value::from(value).to_string();
    let html: String = value
        .chars()
        .map(|c| match c {
            '<' => "&lt;".to_owned(),
            '>' => "&gt;".to_owned(),
            '&' => "&amp;".to_owned(),
            '"' => "&quot;".to_owned(),
            '\'' => "&#x27;".to_owned(),
            '/' => "&#x2f;".to_owned(),
            c => c.to_string(),
        })
        .collect();
    let xml = html.replace("&#x2f;", "/").replace("&#x27;", "&apos;");
    let percent: String = value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect();
    let mut all: Vec<String> = vec![
        value.to_owned(),
        json[1..json.len() - 1].to_owned(),
        json[1..json.len() - 1].replace('/', "\\/"),
        value.escape_debug().to_string(),
        value.replace('"', "\"\""),
        html.replace("&#x2f;", "/"),
        html,
        xml,
        percent,
        base64(value.as_bytes()),
    ];
    all.retain(|text| text.len() >= SHORTEST);
    all.sort();
    all.dedup();
    all.into_iter().map(String::into_bytes).collect()
}

fn base64(bytes: &[u8]) -> String {
    const SIGNS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::new();
    for three in bytes.chunks(3) {
        let of = |at: usize| u32::from(three.get(at).copied().unwrap_or(0));
        let bits = of(0) << 16 | of(1) << 8 | of(2);
        for sign in 0..=three.len() {
            let at = bits >> (18 - 6 * sign) & 63;
            text.push(char::from(SIGNS[at as usize]));
        }
    }
    // Without `=` at the end, so that it is found with and without.
    text
}

/// A writer that hides secrets. What may be the beginning of one is held back until it is known; a flush gives it out masked.
pub struct Masked<W: Write> {
    masker: Masker,
    held: Vec<u8>,
    inner: Option<W>,
}

impl<W: Write> Masked<W> {
    /// Writes what is known to hold no beginning of a secret.
    fn settle(&mut self, everything: bool) -> io::Result<()> {
        let Some(inner) = &mut self.inner else {
            return Ok(());
        };
        if everything {
            let masked = self.masker.bytes(&self.held).into_owned();
            self.held.clear();
            return inner.write_all(&masked);
        }
        let patterns = self
            .masker
            .patterns
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        // From here on a secret may begin whose end has not come, and what looks whole may be the beginning of a longer one.
        let begun = patterns
            .iter()
            .filter_map(|pattern| started(pattern, &self.held, 1))
            .max();
        let known = self.held.len() - begun.unwrap_or(0);
        let mut from = 0;
        while let Some((at, length)) = first(&patterns, &self.held[from..])
            && from + at < known
        {
            inner.write_all(&self.held[from..from + at])?;
            inner.write_all(MASK.as_bytes())?;
            from += at + length;
        }
        let until = from.max(known);
        inner.write_all(&self.held[from..until])?;
        drop(patterns);
        self.held.drain(..until);
        Ok(())
    }
}

impl<W: Write> Write for Masked<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.held.extend_from_slice(bytes);
        self.settle(false)?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.settle(true)?;
        self.inner.as_mut().map_or(Ok(()), Write::flush)
    }
}

impl<W: Write> Drop for Masked<W> {
    fn drop(&mut self) {
        // As `BufWriter`: who wants to know of a failure flushes.
        let _ = self.settle(true);
    }
}

impl<W: Write> fmt::Debug for Masked<W> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Masked")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn masker(secrets: &[&str]) -> Masker {
        let masker = Masker::default();
        for secret in secrets {
            masker.learn(&Secret::new(*secret));
        }
        masker
    }

    #[test]
    fn a_secret_prints_nothing_of_itself() {
        let secret = Secret::new("sk-abcdef");
        assert_eq!(format!("{secret:?} {secret}"), "*** ***");
        assert_eq!(serde_json::to_string(&secret).unwrap(), "\"***\"");
        assert_eq!(secret.reveal(), "sk-abcdef");
    }

    #[test]
    fn a_secret_is_hidden_however_it_is_written() {
        let masker = masker(&["a\"b<c>&/é\n1"]);
        for text in [
            "a\"b<c>&/é\n1",
            r#"a\"b<c>&/é\n1"#,
            "a\"\"b<c>&/é\n1",
            "a&quot;b&lt;c&gt;&amp;/é\n1",
            "a&quot;b&lt;c&gt;&amp;&#x2f;é\n1",
            "a%22b%3Cc%3E%26%2F%C3%A9%0A1",
            "YSJiPGM+Ji/DqQox",
        ] {
            assert_eq!(masker.text(&format!("[{text}]")), "[***]", "{text}");
        }
    }

    #[test]
    fn the_longer_of_two_secrets_is_hidden_whole() {
        assert_eq!(
            masker(&["token", "token-of-mine"]).text("token-of-mine!"),
            "***!"
        );
    }

    #[test]
    fn a_text_that_was_cut_in_a_secret_does_not_show_its_beginning() {
        let masker = masker(&["sk-0123456789"]);
        assert_eq!(masker.text("refused: sk-0123"), "refused: ***");
        assert_eq!(masker.text("refused: sk-01"), "refused: sk-01");
    }

    #[test]
    fn a_short_secret_hides_nothing() {
        assert_eq!(masker(&["abc", ""]).text("abc"), "abc");
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// However a text is cut into writes, no secret comes through, and nothing else is lost.
        #[test]
        fn a_writer_hides_what_a_text_hides(
            pieces in proptest::collection::vec("[ab]{0,3}|sec|ret|secret", 0..20),
            cuts in proptest::collection::vec(1_usize..7, 1..40),
        ) {
            let text = pieces.concat();
            let masker = masker(&["secret", "abba"]);
            let mut written = Vec::new();
            let mut writer = masker.over(&mut written);
            let mut rest = text.as_bytes();
            for cut in cuts.iter().cycle().take(text.len() + 1) {
                let (now, later) = rest.split_at((*cut).min(rest.len()));
                writer.write_all(now).unwrap();
                rest = later;
            }
            writer.flush().unwrap();
            drop(writer);
            prop_assert_eq!(String::from_utf8(written).unwrap(), masker.text(&text).into_owned());
        }
    }
}
