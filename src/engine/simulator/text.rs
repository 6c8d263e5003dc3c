//! What the simulated model says: words from a short list, chosen by the prompt's hash. A token is one word with its space.

/// The words that one prompt is answered with; token `n` is the same whenever it is asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Words {
    hash: u64,
}

/// Tokens need no escaping in JSON: `json_text` of the chunks relies on it.
const WORDS: [&str; 64] = [
    " the",
    " a",
    " of",
    " and",
    " to",
    " in",
    " is",
    " it",
    " that",
    " for",
    " on",
    " with",
    " as",
    " by",
    " this",
    " from",
    " engine",
    " token",
    " answer",
    " question",
    " request",
    " server",
    " batch",
    " step",
    " queue",
    " cache",
    " prompt",
    " model",
    " river",
    " mountain",
    " garden",
    " window",
    " letter",
    " number",
    " morning",
    " evening",
    " simple",
    " quick",
    " quiet",
    " bright",
    " large",
    " small",
    " early",
    " late",
    " first",
    " second",
    " next",
    " last",
    " read",
    " write",
    " open",
    " close",
    " begin",
    " end",
    " find",
    " keep",
    " because",
    " while",
    " where",
    " when",
    " however",
    " therefore",
    ",",
    ".",
];

impl Words {
    pub(super) fn new(hash: u64) -> Words {
        Words { hash }
    }

    /// The text of token number `index`, from 0.
    pub(super) fn token(&self, index: u32) -> &'static str {
        // SplitMix64 (Steele, Lea and Flood, 2014): every index has its own well-mixed bits.
        let mut bits = self
            .hash
            .wrapping_add(u64::from(index).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        WORDS[((bits ^ (bits >> 31)) % WORDS.len() as u64) as usize]
    }

    /// Where one of the `stops` first appears in the first `tokens` tokens.
    pub(super) fn find(&self, stops: &[String], tokens: u32) -> Option<StopMatch> {
        let (mut text, mut starts) = (String::new(), Vec::new());
        for index in 0..tokens {
            starts.push(text.len());
            text.push_str(self.token(index));
            let found = stops
                .iter()
                .filter(|stop| !stop.is_empty())
                .filter_map(|stop| Some((text.find(stop.as_str())?, stop)))
                .min_by_key(|(at, _)| *at);
            if let Some((at, stop)) = found {
                let cut_token = starts.partition_point(|start| *start <= at) - 1;
                return Some(StopMatch {
                    tokens: index + 1,
                    cut_token: cut_token as u32,
                    kept_bytes: at - starts[cut_token],
                    stop: stop.clone(),
                });
            }
        }
        None
    }
}

/// Where an answer ends because of a stop string: the string itself is cut from the text, its tokens are counted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct StopMatch {
    /// Tokens up to the end of the string.
    pub(super) tokens: u32,
    /// The token in which the string begins.
    pub(super) cut_token: u32,
    /// Bytes of that token before it.
    pub(super) kept_bytes: usize,
    /// The string.
    pub(super) stop: String,
}

impl StopMatch {
    /// What is left of the text of token `index`.
    pub(super) fn keep<'a>(&self, index: u32, text: &'a str) -> &'a str {
        match index.cmp(&self.cut_token) {
            std::cmp::Ordering::Less => text,
            std::cmp::Ordering::Equal => &text[..self.kept_bytes],
            std::cmp::Ordering::Greater => "",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_word_needs_escaping() {
        assert!(
            WORDS
                .iter()
                .all(|word| !word.contains(['"', '\\']) && word.is_ascii())
        );
    }

    #[test]
    fn a_stop_string_is_cut_from_the_text_and_counted_in_tokens() {
        let words = Words::new(1);
        let whole: String = (0..50).map(|index| words.token(index)).collect();
        let stop = whole[40..46].to_owned();
        let found = words.find(std::slice::from_ref(&stop), 50).unwrap();
        let kept: String = (0..found.tokens)
            .map(|index| found.keep(index, words.token(index)))
            .collect();
        assert_eq!(kept, whole[..whole.find(&stop).unwrap()]);
        assert_eq!(words.find(&["no such words".to_owned()], 50), None);
    }
}
