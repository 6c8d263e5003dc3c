//! The paged KV cache: blocks in use, and blocks whose content is still known and may be hit again.
//!
//! Only counts and content hashes are kept. A block is private to one sequence, or shared (its hash is known and somebody uses
//! it), or cached (its hash is known and nobody uses it: the least recently used one is given away first), or free.

use std::collections::{HashMap, VecDeque};

/// How large the cache is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KvCacheSize {
    /// Tokens in a block.
    pub block_tokens: u32,
    /// Blocks on the accelerator.
    pub blocks: u32,
}

/// The blocks that one sequence holds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Holding {
    /// How many of the prompt's first blocks are held by hash.
    pub(super) shared: u32,
    /// Blocks that are held without a hash.
    pub(super) private: u32,
}

impl Holding {
    fn total(self) -> u32 {
        self.shared + self.private
    }
}

#[derive(Debug)]
struct KnownBlock {
    users: u32,
    /// Number of the entry in `idle_order` that speaks for this block; older entries are stale.
    stamp: u64,
}

/// Book-keeping of all blocks.
#[derive(Debug)]
pub(super) struct KvCache {
    size: KvCacheSize,
    keeps_prefixes: bool,
    in_use: u32,
    idle: u32,
    known: HashMap<u64, KnownBlock>,
    idle_order: VecDeque<(u64, u64)>,
    next_stamp: u64,
}

impl KvCache {
    pub(super) fn new(size: KvCacheSize, keeps_prefixes: bool) -> KvCache {
        KvCache {
            size,
            keeps_prefixes,
            in_use: 0,
            idle: 0,
            known: HashMap::new(),
            idle_order: VecDeque::new(),
            next_stamp: 0,
        }
    }

    /// Share of the blocks that sequences hold, 0 to 1.
    pub(super) fn usage(&self) -> f64 {
        f64::from(self.in_use) / f64::from(self.size.blocks.max(1))
    }

    pub(super) fn blocks_for(&self, tokens: u32) -> u32 {
        tokens.div_ceil(self.size.block_tokens)
    }

    /// Makes `holding` large enough for `tokens` tokens; false, and nothing changed, if there are not enough blocks.
    pub(super) fn grow(&mut self, holding: &mut Holding, tokens: u32) -> bool {
        let missing = self.blocks_for(tokens).saturating_sub(holding.total());
        if missing > self.size.blocks - self.in_use {
            return false;
        }
        let unknown = self.size.blocks - self.in_use - self.idle;
        for _ in unknown..missing {
            self.forget_oldest();
        }
        self.in_use += missing;
        holding.private += missing;
        true
    }

    /// Takes hold of the longest known run of the prompt's first blocks and says how many tokens that saves. The last token
    /// of a prompt is always computed: its logits are needed (as in vLLM's `get_computed_blocks`).
    pub(super) fn reuse(
        &mut self,
        holding: &mut Holding,
        hashes: &[u64],
        prompt_tokens: u32,
    ) -> u32 {
        if !self.keeps_prefixes {
            return 0;
        }
        let most = (prompt_tokens.saturating_sub(1) / self.size.block_tokens) as usize;
        for hash in hashes.iter().take(most) {
            if !self.join(*hash) {
                break;
            }
            holding.shared += 1;
        }
        holding.shared * self.size.block_tokens
    }

    /// Makes the content of the prompt's blocks known up to `computed` tokens.
    pub(super) fn publish(&mut self, holding: &mut Holding, hashes: &[u64], computed: u32) {
        if !self.keeps_prefixes {
            return;
        }
        let full = ((computed / self.size.block_tokens) as usize).min(hashes.len());
        for hash in hashes.iter().take(full).skip(holding.shared as usize) {
            holding.private -= 1;
            holding.shared += 1;
            if self.join(*hash) {
                // Another sequence computed the same block meanwhile: one copy is kept.
                self.in_use -= 1;
            } else {
                let block = KnownBlock { users: 1, stamp: 0 };
                self.known.insert(*hash, block);
            }
        }
    }

    /// Gives everything back; shared blocks stay known until they are needed for something else.
    pub(super) fn release(&mut self, holding: &mut Holding, hashes: &[u64]) {
        self.in_use -= holding.private;
        // The end of a prompt is the part least likely to be shared, so it goes first.
        for hash in hashes[..holding.shared as usize].iter().rev() {
            let Some(block) = self.known.get_mut(hash) else {
                continue;
            };
            block.users -= 1;
            if block.users == 0 {
                self.next_stamp += 1;
                block.stamp = self.next_stamp;
                self.idle_order.push_back((*hash, self.next_stamp));
                self.in_use -= 1;
                self.idle += 1;
            }
        }
        *holding = Holding::default();
        self.drop_stale_entries();
    }

    /// Forgets the content of all blocks that nobody uses.
    pub(super) fn reset_prefixes(&mut self) {
        self.known.retain(|_, block| block.users > 0);
        self.idle_order.clear();
        self.idle = 0;
    }

    /// Becomes a user of a known block; false if it is not known.
    fn join(&mut self, hash: u64) -> bool {
        let Some(block) = self.known.get_mut(&hash) else {
            return false;
        };
        if block.users == 0 {
            self.idle -= 1;
            self.in_use += 1;
        }
        block.users += 1;
        true
    }

    fn forget_oldest(&mut self) {
        while let Some((hash, stamp)) = self.idle_order.pop_front() {
            let fresh = |block: &KnownBlock| block.users == 0 && block.stamp == stamp;
            if self.known.get(&hash).is_some_and(fresh) {
                self.known.remove(&hash);
                self.idle -= 1;
                return;
            }
        }
    }

    fn drop_stale_entries(&mut self) {
        if self.idle_order.len() > 2 * self.size.blocks as usize + 64 {
            let known = &self.known;
            self.idle_order.retain(|(hash, stamp)| {
                known
                    .get(hash)
                    .is_some_and(|block| block.users == 0 && block.stamp == *stamp)
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cache(blocks: u32) -> KvCache {
        let size = KvCacheSize {
            block_tokens: 16,
            blocks,
        };
        KvCache::new(size, true)
    }

    #[test]
    fn a_released_prompt_is_hit_again_except_for_its_last_token() {
        let mut cache = cache(8);
        let (mut first, hashes) = (Holding::default(), [1, 2]);
        assert!(cache.grow(&mut first, 32));
        cache.publish(&mut first, &hashes, 32);
        cache.release(&mut first, &hashes);
        assert_eq!(cache.usage(), 0.0);
        assert_eq!(cache.reuse(&mut Holding::default(), &hashes, 32), 16);
        assert_eq!(cache.reuse(&mut Holding::default(), &hashes, 33), 32);
    }

    #[test]
    fn known_blocks_are_given_away_oldest_first_when_space_is_short() {
        let mut cache = cache(2);
        let mut first = Holding::default();
        assert!(cache.grow(&mut first, 32));
        cache.publish(&mut first, &[1, 2], 32);
        cache.release(&mut first, &[1, 2]);
        let mut second = Holding::default();
        assert!(cache.grow(&mut second, 16));
        // Block 2, the end of the first prompt, had to go; block 1 is still known.
        assert_eq!(cache.reuse(&mut Holding::default(), &[1, 2], 40), 16);
        assert!(!cache.grow(&mut second, 48));
    }

    #[test]
    fn two_sequences_with_one_prompt_hold_its_blocks_once() {
        let mut cache = cache(8);
        let (mut first, mut second) = (Holding::default(), Holding::default());
        assert!(cache.grow(&mut first, 32) && cache.grow(&mut second, 32));
        cache.publish(&mut first, &[1, 2], 32);
        cache.publish(&mut second, &[1, 2], 32);
        assert_eq!(cache.usage(), 2.0 / 8.0);
        cache.release(&mut first, &[1, 2]);
        assert_eq!(cache.usage(), 2.0 / 8.0);
        cache.release(&mut second, &[1, 2]);
        assert_eq!(cache.usage(), 0.0);
    }
}
