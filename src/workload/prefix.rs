//! Prefixes that groups of prompts share: what they say depends on the seed and the group alone.

use crate::seed::Seed;

use super::prose::Prose;
use super::source::{PrefixCache, PrefixGroups, SharedPrefix};
use super::words::{self, Use};

/// The prefixes of one set.
#[derive(Clone, Debug)]
pub(super) struct Prefixes {
    seed: Seed,
    salt: u64,
    pub(super) shape: SharedPrefix,
    /// What they are to the engine's prefix cache.
    cache: PrefixCache,
}

impl Prefixes {
    pub(super) fn new(seed: Seed, shape: SharedPrefix) -> Prefixes {
        Prefixes {
            salt: seed.hash(),
            seed,
            shape,
            cache: PrefixCache::AsIs,
        }
    }

    /// The same prefixes in this state.
    pub(super) fn with_cache(&self, cache: PrefixCache) -> Prefixes {
        Prefixes {
            cache,
            ..self.clone()
        }
    }

    /// What tells them from every other.
    pub(super) fn identity(&self) -> String {
        match self.cache {
            PrefixCache::AsIs => format!("{:?}", self.shape),
            PrefixCache::Cold | PrefixCache::Warm => format!("{:?} {:?}", self.shape, self.cache),
        }
    }

    /// Writes the prefix of the group that a prompt belongs to, of exactly its tokens where they are counted. Warm-up has groups of
    /// its own: it must not fill the cache with prefixes that are measured, unless that is what it is for.
    pub(super) fn append(
        &self,
        text: &mut String,
        prose: &Prose,
        part: &str,
        ordinal: u64,
        usage: Use,
    ) {
        let mut random = self.seed.stream("group").stream(part).at(ordinal).rng();
        let groups = u64::from(self.shape.groups.max(1));
        let (part, usage, group) = match (self.cache, usage) {
            // Each prompt is a group of its own.
            (PrefixCache::Cold, _) => (part, usage, ordinal),
            (PrefixCache::Warm, Use::Warmup) => ("measured", Use::Measured, ordinal % groups),
            (PrefixCache::AsIs | PrefixCache::Warm, _) => {
                let group = match self.shape.distribution {
                    PrefixGroups::Uniform => random.below(groups),
                    PrefixGroups::Zipf => random.zipf(groups, 1.0) - 1,
                };
                (part, usage, group)
            }
        };
        let usage = match usage {
            Use::Measured | Use::Prefix => Use::Prefix,
            Use::Warmup | Use::WarmupPrefix => Use::WarmupPrefix,
        };
        let first = words::unique(self.salt, group, usage);
        let mut random = self.seed.stream("prefix").stream(part).at(group).rng();
        prose.append(text, &first, self.shape.tokens, &mut random);
    }
}
