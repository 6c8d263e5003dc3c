//! A continuous-batching engine in virtual time: requests and instants in, tokens with their instants out.
//!
//! The engine works in steps. At the start of each step its scheduler fills a token budget, first with the sequences that are
//! already running (one token for each that decodes, a chunk for each whose prompt is not finished), then with waiting
//! requests in order of arrival, as vLLM's V1 scheduler does. When KV blocks run out, the sequence that started last is
//! preempted and computed anew later. The step then takes a time that [`StepCost`] gives, and at its end every sequence whose
//! context is complete emits.
//!
//! Nothing here reads a clock: the same seed and the same calls give the same emissions. Each step costs O(batch).

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use crate::seed::{Random, Seed};
use crate::units::Moment;

use super::gpu::{GpuParameters, GpuState, Load, SimulatedGpu};
use super::kv_cache::{Holding, KvCache, KvCacheSize};

/// The engine: feed it with [`submit`](Model::submit), ask when it wants to be woken, and [`advance`](Model::advance) it.
#[derive(Debug)]
pub struct Model {
    parameters: EngineParameters,
    cache: KvCache,
    sequences: Vec<Option<Sequence>>,
    vacant: Vec<usize>,
    by_id: HashMap<RequestId, usize>,
    /// In order of their start: the last one is preempted first.
    running: Vec<usize>,
    waiting: VecDeque<usize>,
    step_ends: Option<Moment>,
    wakes: Option<Moment>,
    /// Places in the batch of a static engine; kept until the whole batch is done.
    static_width: usize,
    warm: bool,
    noise: Random,
    gpu: GpuState,
    totals: Totals,
}

/// Everything that tells one engine from another.
#[derive(Clone, Debug, PartialEq)]
pub struct EngineParameters {
    /// Sequences that may run at once (`max_num_seqs`).
    pub max_sequences: usize,
    /// Tokens that one step may compute (`max_num_batched_tokens`).
    pub max_batched_tokens: u32,
    /// Whether a prompt may be split over steps; otherwise it waits for a step that has room for all of it.
    pub chunked_prefill: bool,
    /// How batches form.
    pub batching: Batching,
    /// How long a step takes.
    pub step: StepCost,
    /// The KV cache.
    pub kv_cache: KvCacheSize,
    /// Whether blocks of earlier prompts are reused.
    pub prefix_cache: bool,
    /// How many tokens a sequence gains in a step.
    pub gain: TokenGain,
    /// Time that the first step takes on top, once in the engine's life: kernels are compiled, caches are filled. The accelerator
    /// does not work meanwhile.
    pub cold_start: Duration,
    /// The accelerator.
    pub gpu: GpuParameters,
}

/// How batches form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Batching {
    /// A request joins at the next step that has room.
    Continuous,
    /// A batch is formed when the one before is done, and is as wide as at its start until its longest answer ends.
    Static,
}

/// How many tokens a sequence gains in one decode step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum TokenGain {
    /// One.
    One,
    /// One, and up to `drafts` more, each of which holds with probability `acceptance` given the ones before it.
    Speculative {
        /// Tokens that are guessed ahead.
        drafts: u32,
        /// Probability that the next guess is right.
        acceptance: f64,
    },
}

/// The time of a step: a smooth function of what it computes.
///
/// `base + per_sequence·decoding + per_context_token·context + per_prefill_token·prefill + experts·(1 − (1 − share)^decoding)`,
/// times a seeded factor near 1. The last term is the reading of the weights of a mixture of experts: a batch touches more of
/// them as it grows, and then all.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct StepCost {
    /// Milliseconds of any step: weights are read, kernels are launched.
    pub base_ms: f64,
    /// Milliseconds for each sequence that decodes.
    pub per_sequence_ms: f64,
    /// Microseconds for each token of context of the sequences that decode: their KV cache is read.
    pub per_context_token_us: f64,
    /// Microseconds for each token of a prompt.
    pub per_prefill_token_us: f64,
    /// Milliseconds to read all routed experts, and the share of them that one token takes; 0 for a dense model.
    pub experts: (f64, f64),
    /// Standard deviation of the factor, cut at three of them.
    pub jitter: f64,
}

/// Names a request within a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub u64);

/// What an engine needs to know of a request.
#[derive(Clone, Debug)]
pub struct Request {
    /// Its name, unique among the requests that are in the engine.
    pub id: RequestId,
    /// Tokens of the prompt; at least 1.
    pub prompt_tokens: u32,
    /// For each full block of the prompt, a hash of the prompt up to the block's end.
    pub prompt_blocks: Arc<[u64]>,
    /// Tokens that the answer will have; at least 1.
    pub output_tokens: u32,
}

/// Tokens that came into being at the end of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Emission {
    /// Whose they are.
    pub request: RequestId,
    /// The end of the step.
    pub at: Moment,
    /// How many.
    pub tokens: u32,
    /// Tokens of this answer so far, these included.
    pub generated: u32,
    /// Whether the answer is complete.
    pub finished: bool,
    /// When the request was submitted.
    pub submitted: Moment,
    /// When it first entered a batch.
    pub scheduled: Moment,
    /// Tokens of its prompt that were found in the prefix cache at that time.
    pub cached_tokens: u32,
}

/// Why a request can never be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rejection {
    /// Prompt and answer need more KV blocks than there are.
    TooLong {
        /// Blocks that it would need.
        needed: u32,
        /// Blocks that there are.
        blocks: u32,
    },
    /// A request of this name is in the engine.
    Duplicate,
}

/// What an engine shows of itself.
#[derive(Clone, Debug, PartialEq)]
pub struct Gauges {
    /// Sequences in the batch.
    pub running: usize,
    /// Requests that wait.
    pub waiting: usize,
    /// Share of the KV blocks in use, 0 to 1.
    pub kv_cache_usage: f64,
    /// Sums since the engine's start.
    pub totals: Totals,
}

/// Sums since the engine's start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    /// Sequences thrown out of the batch for want of KV blocks.
    pub preemptions: u64,
    /// Prompt tokens looked up in the prefix cache.
    pub prefix_cache_queries: u64,
    /// Prompt tokens found there.
    pub prefix_cache_hits: u64,
    /// Prompt tokens of requests whose prompt was completed, once each.
    pub prompt_tokens: u64,
    /// Tokens emitted.
    pub generation_tokens: u64,
    /// Steps done.
    pub steps: u64,
}

#[derive(Debug)]
struct Sequence {
    request: Request,
    submitted: Moment,
    scheduled: Option<Moment>,
    cached_tokens: u32,
    generated: u32,
    /// Tokens whose keys and values are in the cache.
    computed: u32,
    /// Tokens that the step under way computes for it.
    planned: u32,
    holding: Holding,
}

/// What one step computes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct StepWork {
    decoding: usize,
    context: u64,
    prefill: u64,
}

impl Model {
    /// An idle engine at time zero.
    pub fn new(parameters: EngineParameters, seed: u64) -> Model {
        Model {
            cache: KvCache::new(parameters.kv_cache, parameters.prefix_cache),
            sequences: Vec::new(),
            vacant: Vec::new(),
            by_id: HashMap::new(),
            running: Vec::new(),
            waiting: VecDeque::new(),
            step_ends: None,
            wakes: None,
            static_width: 0,
            warm: false,
            noise: Seed::new(seed).stream("engine-steps").rng(),
            gpu: parameters.gpu.at_rest(),
            totals: Totals::default(),
            parameters,
        }
    }

    /// Takes a request in at `now`, which must not be earlier than the last advance. It joins the next step that starts.
    ///
    /// # Errors
    /// If it could never be served.
    pub fn submit(&mut self, now: Moment, request: Request) -> Result<(), Rejection> {
        let tokens = request.prompt_tokens + request.output_tokens;
        let needed = self.cache.blocks_for(tokens);
        let blocks = self.parameters.kv_cache.blocks;
        if needed > blocks {
            return Err(Rejection::TooLong { needed, blocks });
        }
        if self.by_id.contains_key(&request.id) {
            return Err(Rejection::Duplicate);
        }
        let slot = self.vacant.pop().unwrap_or_else(|| {
            self.sequences.push(None);
            self.sequences.len() - 1
        });
        self.by_id.insert(request.id, slot);
        self.sequences[slot] = Some(Sequence {
            request,
            submitted: now,
            scheduled: None,
            cached_tokens: 0,
            generated: 0,
            computed: 0,
            planned: 0,
            holding: Holding::default(),
        });
        self.waiting.push_back(slot);
        if self.step_ends.is_none() && self.wakes.is_none() {
            self.wakes = Some(now);
        }
        Ok(())
    }

    /// When the engine next has something to do; `None` while it is idle.
    pub fn next_event(&self) -> Option<Moment> {
        self.step_ends.or(self.wakes)
    }

    /// Lives through everything up to `to`, that instant included, and appends what was emitted, in order.
    pub fn advance(&mut self, to: Moment, emissions: &mut Vec<Emission>) {
        while let Some(at) = self.next_event().filter(|at| *at <= to) {
            self.wakes = None;
            if self.step_ends.take().is_some() {
                self.complete_step(at, emissions);
            }
            self.begin_step(at);
        }
    }

    /// Forgets a request and frees what it holds; false if it is not in the engine.
    pub fn cancel(&mut self, id: RequestId) -> bool {
        let Some(slot) = self.by_id.get(&id).copied() else {
            return false;
        };
        self.running.retain(|running| *running != slot);
        self.waiting.retain(|waiting| *waiting != slot);
        self.remove(slot);
        true
    }

    /// Forgets the prefixes that no running sequence uses.
    pub fn reset_prefix_cache(&mut self) {
        self.cache.reset_prefixes();
    }

    /// What the engine shows of itself now.
    pub fn gauges(&self) -> Gauges {
        Gauges {
            running: self.running.len(),
            waiting: self.waiting.len(),
            kv_cache_usage: self.cache.usage(),
            totals: self.totals,
        }
    }

    /// The accelerator at `now`, which must not be earlier than the last advance.
    pub fn gpu(&self, now: Moment) -> SimulatedGpu {
        self.parameters.gpu.reading(&self.gpu, now)
    }

    /// When the accelerator's load last changed: for an idle engine, the end of its last step.
    #[cfg(test)]
    pub(super) fn resting_since(&self) -> Moment {
        self.gpu.since()
    }

    /// The accelerator's state since its last change, for readers on other threads.
    pub(super) fn gpu_state(&self) -> GpuState {
        self.gpu
    }

    /// What this engine is.
    pub fn parameters(&self) -> &EngineParameters {
        &self.parameters
    }

    fn begin_step(&mut self, now: Moment) {
        let work = self.schedule(now);
        if self.running.is_empty() {
            self.set_load(now, self.parameters.gpu.idle());
            return;
        }
        let cost = &self.parameters.step;
        let noise = cost.jitter * self.noise.normal().clamp(-3.0, 3.0);
        let prefill_ms = work.prefill as f64 * cost.per_prefill_token_us / 1e3;
        let total_ms = (cost.decode_ms(work.decoding, work.context) + prefill_ms).max(1e-3);
        let mut time = Duration::from_secs_f64(total_ms * (1.0 + noise).max(0.05) / 1e3);
        let mut load = self
            .parameters
            .gpu
            .working(work.decoding as f64, prefill_ms / total_ms);
        if !self.warm {
            self.warm = true;
            if !self.parameters.cold_start.is_zero() {
                time += self.parameters.cold_start;
                load = self.parameters.gpu.idle();
            }
        }
        self.set_load(now, load);
        self.step_ends = Some(now + time);
    }

    /// Fills the token budget of the next step.
    fn schedule(&mut self, now: Moment) -> StepWork {
        let mut work = StepWork::default();
        let mut budget = self.parameters.max_batched_tokens;
        let had_batch = !self.running.is_empty();
        let preempted = self.schedule_running(&mut budget, &mut work);
        let may_admit = match self.parameters.batching {
            Batching::Continuous => !preempted,
            Batching::Static => !had_batch,
        };
        if may_admit {
            self.admit(now, &mut budget, &mut work);
        }
        if self.parameters.batching == Batching::Static {
            if !had_batch {
                self.static_width = self.running.len();
            }
            // Places of finished answers are computed as padding until the batch is done.
            if work.prefill == 0 {
                work.decoding = self.static_width;
            }
        }
        work
    }

    /// Plans the sequences of the batch; true if one was thrown out.
    fn schedule_running(&mut self, budget: &mut u32, work: &mut StepWork) -> bool {
        let mut preempted = false;
        let mut next = 0;
        while next < self.running.len() {
            let slot = self.running[next];
            let tokens = self.chunk(self.sequence(slot).missing(), *budget);
            self.sequence_mut(slot).planned = tokens;
            if tokens > 0 {
                while !self.grow(slot, tokens) {
                    preempted = true;
                    let victim = self.running.pop().expect("the batch holds this sequence");
                    self.preempt(victim);
                    if victim == slot {
                        return true;
                    }
                }
                *budget -= tokens.min(*budget);
                work.add(self.sequence(slot));
            }
            next += 1;
        }
        preempted
    }

    /// Lets waiting requests into the batch, in order, as far as places, budget and blocks go.
    fn admit(&mut self, now: Moment, budget: &mut u32, work: &mut StepWork) {
        while *budget > 0 && self.running.len() < self.parameters.max_sequences {
            let Some(slot) = self.waiting.front().copied() else {
                return;
            };
            let hits = self.reuse_prefix(slot);
            let tokens = self.chunk(self.sequence(slot).missing(), *budget);
            if tokens == 0 || !self.grow(slot, tokens) {
                self.release(slot);
                return;
            }
            self.waiting.pop_front();
            self.running.push(slot);
            let sequence = self.sequences[slot].as_mut().expect("a waiting sequence");
            sequence.planned = tokens;
            self.totals.prefix_cache_queries += u64::from(sequence.request.prompt_tokens);
            self.totals.prefix_cache_hits += u64::from(hits);
            if sequence.scheduled.is_none() {
                sequence.scheduled = Some(now);
                sequence.cached_tokens = hits;
            }
            *budget -= tokens.min(*budget);
            work.add(sequence);
        }
    }

    /// How many of the `missing` tokens fit into what is left of the budget.
    fn chunk(&self, missing: u32, budget: u32) -> u32 {
        let whole_budget = budget == self.parameters.max_batched_tokens;
        if missing <= budget || self.parameters.chunked_prefill {
            missing.min(budget)
        } else if whole_budget {
            missing
        } else {
            0
        }
    }

    fn complete_step(&mut self, at: Moment, emissions: &mut Vec<Emission>) {
        self.totals.steps += 1;
        let mut finished = Vec::new();
        for index in 0..self.running.len() {
            let slot = self.running[index];
            let gained = self.gained_tokens();
            let sequence = self.sequences[slot].as_mut().expect("a running sequence");
            let planned = std::mem::take(&mut sequence.planned);
            sequence.computed += planned;
            if sequence.generated == 0 {
                let (request, computed) = (&sequence.request, sequence.computed);
                self.cache
                    .publish(&mut sequence.holding, &request.prompt_blocks, computed);
            }
            if planned == 0 || sequence.missing() > 0 {
                continue;
            }
            let emission = sequence.emit(at, gained);
            if emission.generated == emission.tokens {
                self.totals.prompt_tokens += u64::from(sequence.request.prompt_tokens);
            }
            self.totals.generation_tokens += u64::from(emission.tokens);
            emissions.push(emission);
            if emission.finished {
                finished.push(slot);
            }
        }
        if !finished.is_empty() {
            let sequences = &self.sequences;
            self.running.retain(|slot| {
                sequences[*slot]
                    .as_ref()
                    .is_some_and(|sequence| !sequence.is_finished())
            });
            for slot in finished {
                self.remove(slot);
            }
        }
    }

    fn gained_tokens(&mut self) -> u32 {
        match self.parameters.gain {
            TokenGain::One => 1,
            TokenGain::Speculative { drafts, acceptance } => {
                let mut gained = 1;
                while gained <= drafts && self.noise.unit() < acceptance {
                    gained += 1;
                }
                gained
            }
        }
    }

    fn preempt(&mut self, slot: usize) {
        self.totals.preemptions += 1;
        self.release(slot);
        self.sequence_mut(slot).planned = 0;
        self.waiting.push_front(slot);
    }

    fn reuse_prefix(&mut self, slot: usize) -> u32 {
        let sequence = self.sequences[slot].as_mut().expect("a waiting sequence");
        let request = &sequence.request;
        let hits = self.cache.reuse(
            &mut sequence.holding,
            &request.prompt_blocks,
            request.prompt_tokens,
        );
        sequence.computed = hits;
        hits
    }

    fn grow(&mut self, slot: usize, tokens: u32) -> bool {
        let sequence = self.sequences[slot].as_mut().expect("a sequence");
        let longest = sequence.request.prompt_tokens + sequence.request.output_tokens;
        let ahead = match self.parameters.gain {
            TokenGain::One => 0,
            TokenGain::Speculative { drafts, .. } => drafts,
        };
        let wanted = (sequence.computed + tokens + ahead).min(longest);
        self.cache.grow(&mut sequence.holding, wanted)
    }

    fn release(&mut self, slot: usize) {
        let sequence = self.sequences[slot].as_mut().expect("a sequence");
        self.cache
            .release(&mut sequence.holding, &sequence.request.prompt_blocks);
        sequence.computed = 0;
    }

    fn remove(&mut self, slot: usize) {
        self.release(slot);
        if let Some(sequence) = self.sequences[slot].take() {
            self.by_id.remove(&sequence.request.id);
            self.vacant.push(slot);
        }
    }

    fn set_load(&mut self, now: Moment, load: Load) {
        self.gpu = self.parameters.gpu.under(&self.gpu, now, load);
    }

    fn sequence(&self, slot: usize) -> &Sequence {
        self.sequences[slot].as_ref().expect("a sequence")
    }

    fn sequence_mut(&mut self, slot: usize) -> &mut Sequence {
        self.sequences[slot].as_mut().expect("a sequence")
    }
}

impl Sequence {
    /// Tokens that must be computed before the next one can be emitted.
    fn missing(&self) -> u32 {
        self.request.prompt_tokens + self.generated - self.computed
    }

    fn is_finished(&self) -> bool {
        self.generated >= self.request.output_tokens
    }

    fn emit(&mut self, at: Moment, gained: u32) -> Emission {
        let tokens = gained.min(self.request.output_tokens - self.generated);
        self.generated += tokens;
        // Accepted drafts were computed in the same step.
        self.computed += tokens - 1;
        Emission {
            request: self.request.id,
            at,
            tokens,
            generated: self.generated,
            finished: self.is_finished(),
            submitted: self.submitted,
            scheduled: self.scheduled.unwrap_or(self.submitted),
            cached_tokens: self.cached_tokens,
        }
    }
}

impl StepWork {
    fn add(&mut self, sequence: &Sequence) {
        if sequence.planned == 1 && sequence.generated > 0 {
            self.decoding += 1;
            self.context += u64::from(sequence.computed);
        } else {
            self.prefill += u64::from(sequence.planned);
        }
    }
}

impl StepCost {
    /// Milliseconds of a step in which `decoding` sequences with `context` tokens in all gain one token each.
    pub fn decode_ms(&self, decoding: usize, context: u64) -> f64 {
        let touched = 1.0 - libm::pow(1.0 - self.experts.1, decoding as f64);
        self.base_ms
            + self.per_sequence_ms * decoding as f64
            + self.per_context_token_us * context as f64 / 1e3
            + self.experts.0 * touched
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::simulator::presets::preset;

    fn parameters() -> EngineParameters {
        let mut parameters = preset("fast").unwrap().parameters;
        parameters.step.jitter = 0.0;
        parameters
    }

    fn request(id: u64, prompt_tokens: u32, output_tokens: u32) -> Request {
        let blocks = (0..u64::from(prompt_tokens / 16)).map(|block| id << 32 | block);
        Request {
            id: RequestId(id),
            prompt_tokens,
            prompt_blocks: blocks.collect(),
            output_tokens,
        }
    }

    fn run_to_the_end(model: &mut Model) -> Vec<Emission> {
        let mut emissions = Vec::new();
        while let Some(at) = model.next_event() {
            model.advance(at, &mut emissions);
        }
        emissions
    }

    fn tokens_of(emissions: &[Emission], id: u64) -> u32 {
        let own = emissions.iter().filter(|e| e.request == RequestId(id));
        own.map(|e| e.tokens).sum()
    }

    #[test]
    fn the_same_seed_gives_the_same_emissions() {
        let run = |seed| {
            let mut parameters = preset("a100-llama-3.1-8b-vllm").unwrap().parameters;
            parameters.gain = TokenGain::Speculative {
                drafts: 3,
                acceptance: 0.6,
            };
            let mut model = Model::new(parameters, seed);
            for id in 0..20 {
                model
                    .submit(
                        Moment::from_ms(7 * id),
                        request(id, 100 + 13 * id as u32, 50),
                    )
                    .unwrap();
            }
            run_to_the_end(&mut model)
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn advancing_in_one_go_emits_what_advancing_in_steps_does() {
        let filled = || {
            let mut model = Model::new(parameters(), 1);
            for id in 0..5 {
                model.submit(Moment::ZERO, request(id, 300, 20)).unwrap();
            }
            model
        };
        let mut at_once = Vec::new();
        filled().advance(Moment::from_ms(100_000), &mut at_once);
        assert_eq!(at_once, run_to_the_end(&mut filled()));
    }

    #[test]
    fn a_step_costs_what_the_formula_says() {
        let mut parameters = parameters();
        parameters.step = StepCost {
            base_ms: 10.0,
            per_sequence_ms: 1.0,
            per_context_token_us: 10.0,
            per_prefill_token_us: 50.0,
            experts: (0.0, 0.0),
            jitter: 0.0,
        };
        let mut model = Model::new(parameters, 1);
        model.submit(Moment::ZERO, request(0, 100, 3)).unwrap();
        let ends: Vec<f64> = run_to_the_end(&mut model)
            .iter()
            .map(|e| e.at.as_ms())
            .collect();
        // Prefill 10 + 100 × 0.05; then decode with 100 and 101 tokens of context.
        assert_eq!(ends, [15.0, 15.0 + 12.0, 27.0 + 12.01]);
    }

    #[test]
    fn a_long_prompt_is_chunked_and_does_not_stop_the_others() {
        let mut parameters = parameters();
        parameters.max_batched_tokens = 64;
        let mut model = Model::new(parameters, 1);
        model.submit(Moment::ZERO, request(0, 10, 40)).unwrap();
        model.submit(Moment::ZERO, request(1, 630, 1)).unwrap();
        let emissions = run_to_the_end(&mut model);
        let first_of_long = emissions
            .iter()
            .position(|e| e.request == RequestId(1))
            .unwrap();
        // 54 tokens fit beside the first prompt, then 63 beside each decode: ten more steps.
        assert_eq!(tokens_of(&emissions[..first_of_long], 0), 11);
    }

    #[test]
    fn everyone_finishes_though_kv_blocks_run_out() {
        let mut parameters = parameters();
        parameters.kv_cache.blocks = 20;
        let mut model = Model::new(parameters, 1);
        for id in 0..8 {
            model.submit(Moment::ZERO, request(id, 40, 100)).unwrap();
        }
        let emissions = run_to_the_end(&mut model);
        assert!(model.gauges().totals.preemptions > 0);
        for id in 0..8 {
            assert_eq!(tokens_of(&emissions, id), 100);
        }
        assert_eq!(model.gauges().kv_cache_usage, 0.0);
        assert_eq!(model.gauges().totals.prompt_tokens, 8 * 40);
    }

    #[test]
    fn a_request_that_can_never_fit_is_rejected() {
        let mut parameters = parameters();
        parameters.kv_cache.blocks = 4;
        let mut model = Model::new(parameters, 1);
        let rejection = model.submit(Moment::ZERO, request(0, 60, 10)).unwrap_err();
        assert_eq!(
            rejection,
            Rejection::TooLong {
                needed: 5,
                blocks: 4
            }
        );
    }

    #[test]
    fn a_known_prefix_is_not_computed_again() {
        let mut model = Model::new(parameters(), 1);
        let first_token = |model: &mut Model, id, start| {
            let mut again = request(7, 1600, 2);
            again.id = RequestId(id);
            model.submit(start, again).unwrap();
            run_to_the_end(model)[0]
        };
        let cold = first_token(&mut model, 1, Moment::ZERO);
        let warm = first_token(&mut model, 2, Moment::from_ms(60_000));
        assert_eq!((cold.cached_tokens, warm.cached_tokens), (0, 99 * 16));
        assert!(warm.at - warm.submitted < (cold.at - cold.submitted) / 2);
        let totals = model.gauges().totals;
        assert_eq!(
            (totals.prefix_cache_queries, totals.prefix_cache_hits),
            (3200, 1584)
        );
        model.reset_prefix_cache();
        assert_eq!(
            first_token(&mut model, 3, Moment::from_ms(120_000)).cached_tokens,
            0
        );
    }

    #[test]
    fn static_batches_are_slower_than_continuous_ones_when_lengths_differ() {
        let makespan = |batching| {
            let mut parameters = parameters();
            parameters.batching = batching;
            parameters.max_sequences = 8;
            let mut model = Model::new(parameters, 1);
            for id in 0..32 {
                let output = if id % 8 == 0 { 200 } else { 20 };
                model.submit(Moment::ZERO, request(id, 50, output)).unwrap();
            }
            run_to_the_end(&mut model).last().unwrap().at.as_secs()
        };
        assert!(makespan(Batching::Static) > 1.5 * makespan(Batching::Continuous));
    }

    #[test]
    fn a_cancelled_request_emits_nothing_more_and_frees_its_place() {
        let mut parameters = parameters();
        parameters.max_sequences = 1;
        let mut model = Model::new(parameters, 1);
        model.submit(Moment::ZERO, request(0, 50, 1000)).unwrap();
        model.submit(Moment::ZERO, request(1, 50, 5)).unwrap();
        let mut emissions = Vec::new();
        model.advance(Moment::from_ms(100), &mut emissions);
        assert_eq!(tokens_of(&emissions, 1), 0);
        assert!(model.cancel(RequestId(0)));
        assert!(!model.cancel(RequestId(0)));
        let after = run_to_the_end(&mut model);
        assert_eq!((tokens_of(&after, 0), tokens_of(&after, 1)), (0, 5));
    }

    #[test]
    fn drafts_that_hold_come_as_several_tokens_at_once() {
        let mut parameters = parameters();
        parameters.gain = TokenGain::Speculative {
            drafts: 3,
            acceptance: 0.8,
        };
        let mut model = Model::new(parameters, 1);
        model.submit(Moment::ZERO, request(0, 50, 500)).unwrap();
        let emissions = run_to_the_end(&mut model);
        assert_eq!(tokens_of(&emissions, 0), 500);
        // The mean gain is (1 − 0.8⁴) ÷ (1 − 0.8) = 2.95.
        assert!((150..190).contains(&emissions.len()), "{}", emissions.len());
    }

    #[test]
    fn energy_is_the_integral_of_power() {
        let mut parameters = parameters();
        parameters.gpu.idle_watts = 50.0;
        parameters.gpu.decode_watts = (250.0, 0.0);
        parameters.gpu.prefill_watts = 250.0;
        let mut model = Model::new(parameters, 1);
        model
            .submit(Moment::from_ms(1000), request(0, 50, 100))
            .unwrap();
        let end = run_to_the_end(&mut model).last().unwrap().at;
        let later = end + Duration::from_secs(2);
        let worked = (end - Moment::from_ms(1000)).as_secs_f64();
        let expected = 50.0 * 3.0 + 250.0 * worked;
        assert!((model.gpu(later).energy_joules - expected).abs() < 1e-6);
        assert_eq!(model.gpu(later).utilization, 0.0);
    }

    #[test]
    fn gpu_and_queue_are_seen_while_it_works() {
        let mut parameters = parameters();
        parameters.max_sequences = 2;
        let mut model = Model::new(parameters, 1);
        for id in 0..5 {
            model.submit(Moment::ZERO, request(id, 50, 100)).unwrap();
        }
        model.advance(Moment::from_ms(50), &mut Vec::new());
        let gauges = model.gauges();
        assert_eq!((gauges.running, gauges.waiting), (2, 3));
        assert!(gauges.kv_cache_usage > 0.0);
        assert!(model.gpu(Moment::from_ms(50)).utilization > 0.3);
    }

    /// An engine and a load that the seed chooses: small caches, narrow budgets, all kinds of batching.
    fn any_engine(random: &mut Random) -> EngineParameters {
        let mut parameters = parameters();
        parameters.max_sequences = random.between(1, 12) as usize;
        parameters.max_batched_tokens = random.between(16, 200) as u32;
        parameters.chunked_prefill = random.below(2) == 0;
        parameters.prefix_cache = random.below(2) == 0;
        parameters.kv_cache.blocks = random.between(12, 40) as u32;
        parameters.step.jitter = 0.1;
        if random.below(4) == 0 {
            parameters.batching = Batching::Static;
        }
        if random.below(3) == 0 {
            parameters.gain = TokenGain::Speculative {
                drafts: 3,
                acceptance: 0.7,
            };
        }
        parameters
    }

    #[test]
    fn whatever_the_load_everyone_who_stays_gets_exactly_his_tokens() {
        for seed in 0..300 {
            let mut random = Seed::new(seed).rng();
            let mut model = Model::new(any_engine(&mut random), seed);
            let mut expected = std::collections::BTreeMap::new();
            let (mut now, mut emissions) = (Moment::ZERO, Vec::new());
            for id in 0..random.between(1, 40) {
                now = now + Duration::from_millis(random.below(30));
                model.advance(now, &mut emissions);
                let (prompt, output) =
                    (random.between(1, 120) as u32, random.between(1, 60) as u32);
                let mut request = request(id % 3, prompt, output);
                request.id = RequestId(id);
                model.submit(now, request).unwrap();
                expected.insert(id, output);
                if random.below(5) == 0 {
                    let gone = random.below(id + 1);
                    model.cancel(RequestId(gone));
                    expected.remove(&gone);
                }
            }
            emissions.extend(run_to_the_end(&mut model));
            for (id, output) in &expected {
                assert_eq!(
                    tokens_of(&emissions, *id),
                    *output,
                    "seed {seed}, request {id}"
                );
            }
            assert!(emissions.is_sorted_by_key(|e| e.at), "seed {seed}");
            let gauges = model.gauges();
            assert_eq!((gauges.running, gauges.waiting), (0, 0), "seed {seed}");
            assert_eq!(gauges.kv_cache_usage, 0.0, "seed {seed}");
        }
    }
}
