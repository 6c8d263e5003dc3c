//! The model against the clock: it is advanced to the present, and what it emits goes to the answers that wait for it.
//!
//! Deadlines are absolute instants of the model, so a late wake-up delays one batch of writes and shifts nothing after it.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use super::answer::{AnswerWriter, Progress};
use super::generation::Generation;
use super::gpu::GpuState;
use super::model::{Emission, Gauges, Model, Rejection, Request, RequestId};
use super::statistics::Statistics;
use crate::clock::Clock;
use crate::units::Moment;

/// The model, and everybody who waits for it. One thread owns it.
pub(super) struct Driver {
    model: Model,
    clock: Clock,
    speed: f64,
    answers: HashMap<RequestId, Answer>,
    next_id: u64,
    emissions: Vec<Emission>,
    statistics: Statistics,
    gpu: Arc<Mutex<GpuState>>,
    woken: Rc<Notify>,
}

/// Where the tokens of a request go.
pub(super) enum Sink {
    /// Into a stream.
    Stream(AnswerWriter),
    /// Nowhere until the last one; then the number of cached prompt tokens is told.
    Whole(oneshot::Sender<u32>),
}

struct Answer {
    sink: Sink,
    prompt_tokens: u32,
    hits_limit: bool,
    first: Option<Moment>,
    last: Moment,
}

/// A place in the engine; giving it up cancels the request.
pub(super) struct Ticket {
    id: RequestId,
    driver: Rc<RefCell<Driver>>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.driver.borrow_mut().cancel(self.id);
    }
}

impl Driver {
    pub(super) fn new(
        model: Model,
        clock: Clock,
        speed: f64,
        gpu: Arc<Mutex<GpuState>>,
        woken: Rc<Notify>,
    ) -> Driver {
        Driver {
            model,
            clock,
            speed,
            answers: HashMap::new(),
            next_id: 0,
            emissions: Vec::new(),
            statistics: Statistics::new(),
            gpu,
            woken,
        }
    }

    /// Takes a request in now.
    pub(super) fn submit(
        driver: &Rc<RefCell<Driver>>,
        generation: &Generation,
        sink: Sink,
    ) -> Result<Ticket, Rejection> {
        let id = driver.borrow_mut().accept(generation, sink)?;
        let driver = Rc::clone(driver);
        Ok(Ticket { id, driver })
    }

    fn accept(&mut self, generation: &Generation, sink: Sink) -> Result<RequestId, Rejection> {
        self.advance();
        let now = self.now();
        self.next_id += 1;
        let id = RequestId(self.next_id);
        let request = Request {
            id,
            prompt_tokens: generation.prompt_tokens,
            prompt_blocks: Arc::clone(&generation.prompt_blocks),
            output_tokens: generation.output_tokens,
        };
        let was_idle = self.model.next_event().is_none();
        self.model.submit(now, request)?;
        let answer = Answer {
            sink,
            prompt_tokens: generation.prompt_tokens,
            hits_limit: generation.hits_limit,
            first: None,
            last: now,
        };
        self.answers.insert(id, answer);
        if was_idle {
            self.woken.notify_one();
        }
        Ok(id)
    }

    /// Brings the model to the present.
    pub(super) fn advance(&mut self) {
        let mut emissions = std::mem::take(&mut self.emissions);
        self.model.advance(self.now(), &mut emissions);
        for emission in &emissions {
            self.deliver(emission);
        }
        emissions.clear();
        self.emissions = emissions;
        *self.gpu.lock().unwrap_or_else(PoisonError::into_inner) = self.model.gpu_state();
    }

    /// When the model next wants to be advanced.
    pub(super) fn next_deadline(&self) -> Option<Instant> {
        let at = self.model.next_event()?;
        let seconds = at.as_secs() / self.speed;
        Some(self.clock.instant(Moment::from_secs_f64(seconds)))
    }

    pub(super) fn gauges(&mut self) -> Gauges {
        self.advance();
        self.model.gauges()
    }

    pub(super) fn exposition(&mut self, model_name: &str) -> String {
        let gauges = self.gauges();
        self.statistics
            .exposition(model_name, self.model.parameters(), &gauges)
    }

    pub(super) fn reset_prefix_cache(&mut self) {
        self.model.reset_prefix_cache();
    }

    fn cancel(&mut self, id: RequestId) {
        if self.answers.remove(&id).is_some() {
            self.model.cancel(id);
        }
    }

    fn now(&self) -> Moment {
        scaled(self.clock.now(), self.speed)
    }

    fn deliver(&mut self, emission: &Emission) {
        let Some(answer) = self.answers.get_mut(&emission.request) else {
            return;
        };
        self.statistics.record(answer, emission, self.speed);
        answer.first.get_or_insert(emission.at);
        answer.last = emission.at;
        let progress = match &mut answer.sink {
            Sink::Stream(writer) => writer.write(emission),
            Sink::Whole(_) if emission.finished => Progress::Done,
            Sink::Whole(_) => Progress::Open,
        };
        if progress == Progress::Open {
            return;
        }
        let answer = self.answers.remove(&emission.request);
        if !emission.finished {
            self.model.cancel(emission.request);
        }
        if let Some(Sink::Whole(done)) = answer.map(|answer| answer.sink) {
            // Nobody listens any more if the client has gone meanwhile.
            let _ = done.send(emission.cached_tokens);
        }
    }
}

impl Statistics {
    fn record(&mut self, answer: &Answer, emission: &Emission, speed: f64) {
        let seconds = |time: Duration| time.as_secs_f64() / speed;
        match answer.first {
            None => {
                let ttft = seconds(emission.at - emission.submitted);
                self.time_to_first_token.observe(ttft, 1);
            }
            Some(_) => {
                let gap = seconds(emission.at - answer.last);
                self.inter_token_latency.observe(gap, 1);
            }
        }
        if !emission.finished {
            return;
        }
        let first = answer.first.unwrap_or(emission.at);
        let decode = seconds(emission.at - first);
        self.e2e_latency
            .observe(seconds(emission.at - emission.submitted), 1);
        self.queue_time
            .observe(seconds(emission.scheduled - emission.submitted), 1);
        self.prefill_time
            .observe(seconds(first - emission.scheduled), 1);
        self.decode_time.observe(decode, 1);
        self.inference_time
            .observe(seconds(emission.at - emission.scheduled), 1);
        self.request_prompt_tokens
            .observe(f64::from(answer.prompt_tokens), 1);
        self.request_generation_tokens
            .observe(f64::from(emission.generated), 1);
        if emission.generated > 1 {
            let per_token = decode / f64::from(emission.generated - 1);
            self.time_per_output_token.observe(per_token, 1);
        }
        if answer.hits_limit {
            self.finished_by_length += 1;
        } else {
            self.finished_by_stop += 1;
        }
    }
}

/// The model's time at real time `moment`.
pub(super) fn scaled(moment: Moment, speed: f64) -> Moment {
    if speed == 1.0 {
        return moment;
    }
    Moment::from_secs_f64(moment.as_secs() * speed)
}
