//! Prompts made from a seed: their lengths follow a distribution, and no two begin alike unless a shared prefix is asked for.
//!
//! Each prompt depends on the seed and its ordinal alone, so the set never ends and holds nothing.

use crate::seed::{Random, Seed};

use super::lengths::LengthDistribution;
use super::prefix::Prefixes;
use super::prompt::Prompt;
use super::prose::Prose;
use super::source::{PrefixCache, SharedPrefix};
use super::words::{self, Use};

/// Makes the prompts of one synthetic set.
#[derive(Clone, Debug)]
pub(super) struct Synthesizer {
    seed: Seed,
    salt: u64,
    input_tokens: LengthDistribution,
    pub(super) output_tokens: Option<LengthDistribution>,
    prefixes: Option<Prefixes>,
    /// No prompt is longer.
    most: u32,
    pub(super) prose: Prose,
    /// Past this ordinal prompts repeat.
    pub(super) limit: Option<u64>,
}

/// How many prompts of a set are counted again before it is used.
const VERIFIED: u64 = 24;

impl Synthesizer {
    pub(super) fn new(
        seed: Seed,
        input_tokens: LengthDistribution,
        output_tokens: Option<LengthDistribution>,
        shared_prefix: Option<SharedPrefix>,
        prose: Prose,
        limit: Option<u64>,
    ) -> Synthesizer {
        Synthesizer {
            salt: seed.hash(),
            prefixes: shared_prefix.map(|shape| Prefixes::new(seed.clone(), shape)),
            seed,
            input_tokens,
            output_tokens,
            most: u32::MAX,
            prose,
            limit: limit.filter(|&limit| limit > 0),
        }
    }

    /// The same prompts with their shared prefixes in this state.
    pub(super) fn with_cache(&self, cache: PrefixCache) -> Synthesizer {
        let prefixes = self.prefixes.as_ref();
        Synthesizer {
            prefixes: prefixes.map(|prefixes| prefixes.with_cache(cache)),
            ..self.clone()
        }
    }

    /// The same prompts, where none is longer than this.
    pub(super) fn capped(&self, most: u32) -> Synthesizer {
        Synthesizer {
            most: self.most.min(most),
            ..self.clone()
        }
    }

    pub(super) fn shared_prefix(&self) -> Option<SharedPrefix> {
        self.prefixes.as_ref().map(|prefixes| prefixes.shape)
    }

    pub(super) fn prompt(&self, ordinal: u64) -> Prompt {
        let ordinal = self.limit.map_or(ordinal, |limit| ordinal % limit);
        self.make("measured", ordinal, Use::Measured)
    }

    pub(super) fn warmup_prompt(&self, ordinal: u64) -> Prompt {
        self.make("warmup", ordinal, Use::Warmup)
    }

    /// No prompt is longer, but for one in a billion.
    pub(super) fn longest(&self) -> u32 {
        self.input_tokens.most().min(self.most).max(self.least())
    }

    /// The length of a measured prompt in tokens.
    pub(super) fn input_length(&self, ordinal: u64) -> u32 {
        self.length(&mut self.random("measured", ordinal))
    }

    /// Counts some prompts again: the first whose tokens are not those asked for, with what it has.
    pub(super) fn first_inexact(&self) -> Option<(u32, u32)> {
        let tokenizer = self.prose.tokenizer()?;
        (0..self.limit.unwrap_or(VERIFIED).min(VERIFIED)).find_map(|ordinal| {
            let prompt = self.prompt(ordinal);
            let has = tokenizer.count(&prompt.text);
            let asked = prompt.tokens?;
            (has != asked).then_some((asked, has))
        })
    }

    /// What tells this set from every other.
    pub(super) fn identity(&self) -> String {
        let mut identity = format!(
            "synthetic v1 {:016x} {:?} {:?} {:?}",
            self.salt, self.input_tokens, self.output_tokens, self.limit
        );
        if let Some(prefixes) = &self.prefixes {
            identity.push_str(&format!(" {}", prefixes.identity()));
        }
        if self.most < u32::MAX {
            identity.push_str(&format!(" at most {}", self.most));
        }
        if let Some(tokenizer) = self.prose.tokenizer() {
            identity.push_str(&format!(" {}", tokenizer.digest()));
        }
        identity
    }

    fn make(&self, part: &str, ordinal: u64, usage: Use) -> Prompt {
        let mut random = self.random(part, ordinal);
        let tokens = self.length(&mut random);
        let output = self
            .output_tokens
            .as_ref()
            .map(|lengths| lengths.sample(&mut random));
        let mut text = String::with_capacity(tokens as usize * 6);
        let mut own = tokens;
        if let Some(prefixes) = &self.prefixes {
            prefixes.append(&mut text, &self.prose, part, ordinal, usage);
            own -= prefixes.shape.tokens;
        }
        let first = words::unique(self.salt, ordinal, usage);
        self.prose.append(&mut text, &first, own, &mut random);
        Prompt {
            tokens: Some(tokens),
            max_tokens: output,
            min_tokens: output,
            ignore_eos: output.map(|_| true),
            ..Prompt::new(format!("{part}-{ordinal}"), text)
        }
    }

    fn length(&self, random: &mut Random) -> u32 {
        let length = self.input_tokens.sample(random);
        length.min(self.most).max(self.least())
    }

    /// Long enough for the prefix and something of its own behind it.
    pub(super) fn least(&self) -> u32 {
        self.shared_prefix().map_or(1, |prefix| prefix.tokens + 1)
    }

    fn random(&self, part: &str, ordinal: u64) -> Random {
        self.seed.stream(part).at(ordinal).rng()
    }
}

impl PartialEq for Synthesizer {
    fn eq(&self, other: &Synthesizer) -> bool {
        self.identity() == other.identity()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;
    use std::path::Path;
    use std::sync::Arc;

    use super::super::source::PrefixGroups;
    use super::super::tokenizer::{Tokenizer, TokenizerFiles};
    use super::*;

    fn tokenizer(name: &str) -> Arc<Tokenizer> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("fixtures/tokenizers")
            .join(name);
        Tokenizer::open(&TokenizerFiles::at(&folder))
            .unwrap()
            .into()
    }

    fn made(
        input_tokens: LengthDistribution,
        shared_prefix: Option<SharedPrefix>,
        tokenizer: Arc<Tokenizer>,
    ) -> Synthesizer {
        let prose = Prose::new(Some(tokenizer));
        Synthesizer::new(Seed::new(1), input_tokens, None, shared_prefix, prose, None)
    }

    /// Mixed lengths, from a single token to some thousand.
    fn mixed() -> LengthDistribution {
        LengthDistribution::Mixture(
            vec![
                (1.0, LengthDistribution::Uniform(1, 16)),
                (1.0, LengthDistribution::Uniform(16, 300)),
                (
                    1.0,
                    LengthDistribution::Lognormal {
                        median: 400.0,
                        p95: 1500.0,
                        min: 1,
                        max: 3000,
                    },
                ),
            ]
            .into(),
        )
    }

    /// Counts a thousand prompts of mixed lengths again, with another instance of the tokenizer.
    fn thousand_are_exact(name: &str) {
        let set = made(mixed(), None, tokenizer(name));
        assert_eq!(set.first_inexact(), None);
        let again = tokenizer(name);
        let mut asked = HashSet::new();
        for ordinal in 0..1000 {
            let prompt = set.prompt(ordinal);
            let tokens = prompt.tokens.unwrap();
            assert_eq!(again.count(&prompt.text), tokens, "{}", prompt.text);
            asked.insert(tokens);
        }
        assert!(asked.len() > 300, "{} lengths", asked.len());
        assert!(asked.contains(&1));
    }

    #[test]
    fn a_thousand_prompts_have_exactly_the_tokens_asked_for_in_bytes() {
        thousand_are_exact("bytes");
    }

    #[test]
    fn a_thousand_prompts_have_exactly_the_tokens_asked_for_in_pieces() {
        thousand_are_exact("pieces");
    }

    #[test]
    fn a_tokenizer_that_joins_words_is_seen_and_each_prompt_is_counted() {
        let set = made(
            LengthDistribution::Uniform(1, 200),
            None,
            tokenizer("joining"),
        );
        assert!(!set.prose.adds_up());
        for ordinal in 0..100 {
            let prompt = set.prompt(ordinal);
            assert_eq!(
                set.prose.tokenizer().unwrap().count(&prompt.text),
                prompt.tokens.unwrap(),
                "{}",
                prompt.text
            );
        }
    }

    #[test]
    fn exact_prompts_read_like_text() {
        let set = made(LengthDistribution::Fixed(40), None, tokenizer("bytes"));
        assert_eq!(&*set.prompt(0).text, GOLDEN_TEXT);
    }

    const GOLDEN_TEXT: &str = "Januwin thought as of live keep had far further product simple my our. Set them keep make be";

    fn prefix(groups: u32, distribution: PrefixGroups) -> SharedPrefix {
        SharedPrefix {
            tokens: 64,
            groups,
            distribution,
        }
    }

    #[test]
    fn prompts_of_a_group_share_their_prefix_and_nothing_more() {
        let tokenizer = tokenizer("bytes");
        let set = made(
            LengthDistribution::Uniform(10, 200),
            Some(prefix(3, PrefixGroups::Uniform)),
            tokenizer.clone(),
        );
        let texts: Vec<_> = (0..60).map(|ordinal| set.prompt(ordinal).text).collect();
        let mut shared = HashSet::new();
        for (at, one) in texts.iter().enumerate() {
            assert!(tokenizer.count(one) >= 65);
            for other in &texts[..at] {
                let same = one
                    .bytes()
                    .zip(other.bytes())
                    .take_while(|(a, b)| a == b)
                    .count();
                // Two prefixes have no word in common at their beginning; a shared one has 64 tokens.
                match tokenizer.count(&one[..same]) {
                    0..=3 => {}
                    64..=67 => {
                        shared.insert(one[..one.len().min(80)].to_owned());
                    }
                    tokens => panic!("{tokens} tokens are shared: {}", &one[..same]),
                }
            }
        }
        assert_eq!(shared.len(), 3);
    }

    #[test]
    fn warm_up_has_prefixes_of_its_own() {
        let set = made(
            LengthDistribution::Fixed(100),
            Some(prefix(2, PrefixGroups::Uniform)),
            tokenizer("bytes"),
        );
        let first = |prompt: Prompt| prompt.text.split(' ').next().unwrap().to_owned();
        let measured: HashSet<_> = (0..50).map(|at| first(set.prompt(at))).collect();
        let warm: HashSet<_> = (0..50).map(|at| first(set.warmup_prompt(at))).collect();
        assert_eq!((measured.len(), warm.len()), (2, 2));
        assert!(measured.is_disjoint(&warm));
    }

    #[test]
    fn cold_prompts_share_nothing_and_warm_ones_were_sent_before() {
        let as_is = made(
            LengthDistribution::Fixed(100),
            Some(prefix(3, PrefixGroups::Uniform)),
            tokenizer("bytes"),
        );
        let cold = as_is.with_cache(PrefixCache::Cold);
        let warm = as_is.with_cache(PrefixCache::Warm);
        let first = |prompt: Prompt| prompt.text.split(' ').next().unwrap().to_owned();
        let begun = |set: &Synthesizer| -> HashSet<String> {
            (0..50).map(|at| first(set.prompt(at))).collect()
        };
        assert_eq!(begun(&as_is).len(), 3);
        assert_eq!(begun(&cold).len(), 50);
        assert_eq!(begun(&warm), begun(&as_is));
        let primed: HashSet<_> = (0..3).map(|at| first(warm.warmup_prompt(at))).collect();
        assert_eq!(primed, begun(&warm));
        for set in [&cold, &warm] {
            assert_eq!(set.first_inexact(), None);
        }
    }

    #[test]
    fn a_zipf_of_groups_prefers_the_first() {
        let set = made(
            LengthDistribution::Fixed(70),
            Some(prefix(4, PrefixGroups::Zipf)),
            tokenizer("bytes"),
        );
        let first = words::unique(set.salt, 0, Use::Prefix);
        let begun = (0..1000)
            .filter(|&at| set.prompt(at).text.starts_with(&first))
            .count();
        // 1 / (1 + 1/2 + 1/3 + 1/4) = 48 %
        assert!((430..530).contains(&begun), "{begun}");
    }
}
