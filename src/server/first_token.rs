//! One small request: an engine that lists its model may not have loaded it yet, but one that has streamed a token has.

use std::cell::RefCell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::probe::{NotReady, Problem, Ready};
use crate::clock::Clock;
use crate::engine::{BodyTemplate, Dialect, Exchange, HttpTarget, Lane, LaneFacts, Reactor};
use crate::observation::Outcome;
use crate::plan::{Backend, RequestParameters, Timeouts};
use crate::workload::Prompt;

/// Some engines send no text for a single token.
const TOKENS: u32 = 8;
/// One try takes no longer: an engine compiles its kernels with the first request.
const TRY_LIMIT: Duration = Duration::from_secs(300);

/// Streams a few tokens.
///
/// # Errors
/// No token came, in words.
pub(super) fn first_token(backend: &Backend, ready: &Ready, until: Instant) -> Result<(), Problem> {
    let limit = until
        .saturating_duration_since(Instant::now())
        .clamp(Duration::from_secs(1), TRY_LIMIT);
    let parameters = RequestParameters {
        max_tokens: TOKENS,
        timeouts: Timeouts {
            connect: limit,
            first_token: limit,
            idle: limit,
            total: limit,
        },
        ..RequestParameters::default()
    };
    let dialect = Dialect {
        api: backend.api,
        kind: backend.kind,
    };
    let template = BodyTemplate::new(dialect, &ready.model, &parameters);
    let target = HttpTarget {
        endpoint: dialect.endpoint(&ready.endpoint, &ready.model),
        headers: dialect.headers(&ready.headers),
        dialect,
        timeouts: parameters.timeouts,
        offline: ready.offline.clone(),
    };
    let body = template.fill(&Prompt::new("probe", "Count from one to three."));
    let request = target.prepare(&body, true, "scenario-probe");
    let asked = || -> std::io::Result<Exchange> {
        let reactor = Reactor::new(Clock::start(), Arc::default())?;
        reactor.clone().block_on(async {
            let facts = Rc::new(RefCell::new(LaneFacts::default()));
            let dispatched = reactor.clock().clock().now();
            let mut lane = Lane::new(Arc::new(target), reactor.clone(), facts);
            lane.send(&request, dispatched).await
        })
    };
    let exchange =
        asked().map_err(|error| NotReady(format!("no thread for the probe: {error}")))?;
    let problem = match exchange.outcome {
        Outcome::Ok if exchange.first_token.is_some() => return Ok(()),
        Outcome::Refused { status, body, .. } => {
            let problem = NotReady(format!(
                "{} answers its probe, and a first request with HTTP {status}: {}",
                ready.endpoint,
                body.trim()
            ));
            // What is wrong with a request does not become right by waiting.
            let hopeless = (400..500).contains(&status) && !matches!(status, 408 | 425 | 429);
            return Err(if hopeless {
                Problem::Final(problem)
            } else {
                Problem::NotYet(problem)
            });
        }
        Outcome::ErrorEvent(text) | Outcome::Malformed(text) => format!("with an error: {text}"),
        other => format!("brings no token ({})", other.name()),
    };
    Err(Problem::NotYet(NotReady(format!(
        "{} answers its probe, and a first request {problem}",
        ready.endpoint
    ))))
}
