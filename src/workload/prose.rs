//! English-like text of a given length in tokens.
//!
//! With a tokenizer the length is exact. Text is put together from pieces that begin with a blank, whose tokens were counted
//! once: a tokenizer that never joins across the blank before a word makes as many tokens of the whole as of its pieces. Whether
//! that holds is tried out on whole texts before it is relied upon; where it does not, each text is counted and mended by itself.
//! Without a tokenizer a token is taken for four characters.

use std::sync::Arc;

use crate::seed::{Random, Seed};

use super::tokenizer::Tokenizer;
use super::words::{self, WORDS};

/// Makes texts.
#[derive(Clone, Debug)]
pub(super) struct Prose {
    pieces: Option<Arc<Pieces>>,
}

/// Words as they stand in a text, each with its tokens.
#[derive(Debug)]
struct Pieces {
    tokenizer: Arc<Tokenizer>,
    /// ` word`.
    plain: Vec<Piece>,
    /// ` Word`.
    capital: Vec<Piece>,
    /// ` word.`
    last: Vec<Piece>,
    /// `Word`, as a text begins.
    opening: Vec<Piece>,
    /// The plain pieces of at most so many tokens, for what is left at the end; the list for 0 is empty.
    short: Vec<Vec<usize>>,
    additive: bool,
}

#[derive(Debug)]
struct Piece {
    text: String,
    tokens: u32,
}

/// Texts that are tried out before pieces are relied upon, and their tokens.
const TRIED: u64 = 16;
const TRIED_TOKENS: u32 = 400;
/// How often a text is mended before its length is taken as it is.
const MENDED: usize = 256;

impl Prose {
    pub(super) fn new(tokenizer: Option<Arc<Tokenizer>>) -> Prose {
        Prose {
            pieces: tokenizer.map(|tokenizer| Arc::new(Pieces::new(tokenizer))),
        }
    }

    /// Whether texts are put together from counted pieces.
    #[cfg(test)]
    pub(super) fn adds_up(&self) -> bool {
        self.pieces.as_ref().is_some_and(|pieces| pieces.additive)
    }

    pub(super) fn tokenizer(&self) -> Option<&Arc<Tokenizer>> {
        self.pieces.as_ref().map(|pieces| &pieces.tokenizer)
    }

    /// Puts `tokens` tokens behind `text`, beginning with the word `first`, unless that has more tokens than are wanted.
    pub(super) fn append(&self, text: &mut String, first: &str, tokens: u32, random: &mut Random) {
        match &self.pieces {
            Some(pieces) => pieces.append(text, first, tokens, random),
            None => estimated(text, first, tokens as usize * 4, random),
        }
    }
}

impl Pieces {
    fn new(tokenizer: Arc<Tokenizer>) -> Pieces {
        let count = |write: &dyn Fn(&str) -> String| -> Vec<Piece> {
            WORDS
                .iter()
                .map(|word| {
                    let text = write(word);
                    let tokens = behind_a_word(&tokenizer, &text);
                    Piece { text, tokens }
                })
                .collect()
        };
        let plain = count(&|word| format!(" {word}"));
        let capital = count(&|word| format!(" {}", words::capitalised(word)));
        let last = count(&|word| format!(" {word}."));
        let opening = WORDS
            .iter()
            .map(|word| {
                let text = words::capitalised(word);
                let tokens = tokenizer.count(&text);
                Piece { text, tokens }
            })
            .collect();
        let longest = plain.iter().map(|piece| piece.tokens).max().unwrap_or(0);
        let short = (0..=longest)
            .map(|most| {
                (0..plain.len())
                    .filter(|&at| plain[at].tokens > 0 && plain[at].tokens <= most)
                    .collect()
            })
            .collect();
        let mut pieces = Pieces {
            tokenizer,
            plain,
            capital,
            last,
            opening,
            short,
            additive: true,
        };
        pieces.additive = pieces.is_additive();
        pieces
    }

    /// Whether whole texts have as many tokens as their pieces.
    fn is_additive(&self) -> bool {
        self.short.get(1).is_some_and(|ones| !ones.is_empty())
            && (0..TRIED).all(|number| {
                let mut random = Seed::new(number).stream("prose").rng();
                let mut text = String::new();
                let first = words::unique(number, number, words::Use::Measured);
                self.add_up(&mut text, &first, TRIED_TOKENS, &mut random);
                self.add_up(&mut text, &first, TRIED_TOKENS, &mut random);
                self.tokenizer.count(&text) == 2 * TRIED_TOKENS
            })
    }

    fn append(&self, text: &mut String, first: &str, tokens: u32, random: &mut Random) {
        if self.additive {
            self.add_up(text, first, tokens, random);
        } else {
            self.mend(text, first, tokens, random);
        }
    }

    /// Appends pieces until their tokens are all that are wanted.
    fn add_up(&self, text: &mut String, first: &str, tokens: u32, random: &mut Random) {
        let mut left = tokens - self.begin(text, first, tokens, random);
        let mut words = random.between(4, 12);
        let mut begins = false;
        while left > 0 {
            let at = random.below(WORDS.len() as u64) as usize;
            let piece = match (words, begins) {
                (0, _) => &self.last[at],
                (_, true) => &self.capital[at],
                _ => &self.plain[at],
            };
            let fits = piece.tokens > 0 && piece.tokens <= left;
            let piece = if fits {
                piece
            } else {
                let short = &self.short[(left as usize).min(self.short.len() - 1)];
                &self.plain[short[random.below(short.len() as u64) as usize]]
            };
            text.push_str(&piece.text);
            left -= piece.tokens;
            begins = words == 0;
            words = if begins {
                random.between(5, 15)
            } else {
                words - 1
            };
        }
    }

    /// Writes the first word, or a shorter one where it is too long; gives its tokens.
    fn begin(&self, text: &mut String, first: &str, tokens: u32, random: &mut Random) -> u32 {
        if text.is_empty() {
            let own = self.tokenizer.count(first);
            if own <= tokens {
                text.push_str(first);
                return own;
            }
            let from = random.below(self.opening.len() as u64) as usize;
            let (before, after) = self.opening.split_at(from);
            let fitting = after
                .iter()
                .chain(before)
                .find(|piece| piece.tokens > 0 && piece.tokens <= tokens);
            return fitting.map_or(0, |piece| {
                text.push_str(&piece.text);
                piece.tokens
            });
        }
        let first = format!(" {first}");
        let own = behind_a_word(&self.tokenizer, &first);
        if own > tokens {
            return 0;
        }
        text.push_str(&first);
        own
    }

    /// Writes about as much as is wanted, counts it, and mends its end until it is exact.
    fn mend(&self, text: &mut String, first: &str, tokens: u32, random: &mut Random) {
        let wanted = self.tokenizer.count(text) + tokens;
        let start = text.len();
        estimated(text, first, tokens as usize * 4, random);
        for _ in 0..MENDED {
            let now = self.tokenizer.count(text);
            if now == wanted {
                return;
            }
            if now > wanted {
                let spare = (now - wanted) as usize;
                let keep = text.len().saturating_sub(spare).max(start + 1);
                text.truncate(keep);
                continue;
            }
            // Whole words while much is missing, then letters that rarely join what stands before them.
            for _ in 0..((wanted - now) / 3).max(1) {
                let word = WORDS[random.below(WORDS.len() as u64) as usize];
                let letters = if wanted - now > 3 { word.len() } else { 1 };
                if random.below(2) == 0 {
                    text.push(' ');
                }
                text.push_str(&word[..letters]);
            }
        }
    }
}

/// Tokens of a text that stands behind a word.
fn behind_a_word(tokenizer: &Tokenizer, text: &str) -> u32 {
    let word = "word";
    tokenizer
        .count(&format!("{word}{text}"))
        .saturating_sub(tokenizer.count(word))
}

/// Appends sentences of exactly `length` characters; a text never begins with less than its first word.
fn estimated(text: &mut String, first: &str, length: usize, random: &mut Random) {
    let start = text.len();
    if !text.is_empty() {
        text.push(' ');
    }
    text.push_str(first);
    let unique = if start == 0 { text.len() } else { 0 };
    let mut left = random.between(4, 12);
    while text.len() - start < length {
        let word = WORDS[random.below(WORDS.len() as u64) as usize];
        if left == 0 {
            text.push_str(". ");
            text.push_str(&words::capitalised(word));
            left = random.between(5, 15);
        } else {
            text.push(' ');
            text.push_str(word);
            left -= 1;
        }
    }
    text.truncate(start + length.max(unique));
    if text.ends_with(' ') {
        text.pop();
        text.push('.');
    }
}
