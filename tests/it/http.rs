//! The client against real sockets: the conformance fixture, recorded engines, and every way in which an answer can go wrong.

use std::cell::RefCell;
use std::fmt::Write as _;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::header::HeaderMap;
use scenario::clock::Clock;
use scenario::engine::{Dialect, Exchange, HttpTarget, Lane, LaneFacts};
use scenario::observation::{Outcome, Phase};
use scenario::plan::{Api, BackendKind, Timeouts};
use scenario::units::Moment;
use scenario::wire::{Endpoint, Reactor, Stamps};

use crate::golden::{assert_golden, fixtures};
use crate::stage::{Act, Stage};

const LONG: Timeouts = Timeouts {
    connect: Duration::from_secs(20),
    first_token: Duration::from_secs(20),
    idle: Duration::from_secs(20),
    total: Duration::from_secs(20),
};

fn ms(ms: u64) -> Moment {
    Moment::from_ms(ms)
}

/// Runs `work` on a reactor, as a load thread does.
fn on_worker<W: Future>(work: impl FnOnce(Rc<Reactor>) -> W) -> W::Output {
    let reactor = Reactor::new(Clock::start(), Arc::default()).unwrap();
    reactor.clone().block_on(work(reactor)).unwrap()
}

fn target(address: SocketAddr, timeouts: Timeouts) -> Arc<HttpTarget> {
    let url = format!("http://{address}/v1");
    let resolved = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap()
        .block_on(Endpoint::resolve(&url, || unreachable!()));
    Arc::new(HttpTarget {
        endpoint: resolved.unwrap(),
        headers: HeaderMap::new(),
        dialect: Dialect {
            api: Api::Chat,
            kind: BackendKind::Vllm,
        },
        timeouts,
        offline: None,
    })
}

/// Sends one request to a scripted server, with the script's stamps.
fn exchange(
    acts: Vec<Act>,
    stream: bool,
    dispatched: Moment,
    timeouts: Timeouts,
) -> (Exchange, LaneFacts) {
    let stage = Stage::play(acts);
    let target = target(stage.address, timeouts);
    let request = target.prepare(br#"{"model":"m"}"#, stream, "r");
    let facts = Rc::new(RefCell::new(LaneFacts::default()));
    let told = facts.clone();
    let done = on_worker(async |reactor| {
        let mut lane = Lane::new(target, reactor, facts).with_stamps(scripted(&stage));
        lane.send(&request, dispatched).await
    });
    let told = told.borrow().clone();
    (done, told)
}

/// The script's stamps for the first connection.
fn scripted(stage: &Stage) -> Rc<dyn Fn() -> Stamps> {
    let stamps = RefCell::new(Some(stage.stamps()));
    Rc::new(move || {
        stamps
            .borrow_mut()
            .take()
            .map_or_else(Stamps::default, |script| Stamps::scripted(Box::new(script)))
    })
}

fn chunked(text: &str) -> Vec<u8> {
    format!("{:x}\r\n{text}\r\n", text.len()).into_bytes()
}

fn head(kind: &str) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n")
        .into_bytes()
}

/// The script of metrics.md section 5: a role chunk, reasoning, content, an empty special token, a finish, usage, `[DONE]`.
fn conformance() -> Vec<Act> {
    let chunk = |delta: &str, finish: &str, tokens: u32| {
        chunked(&format!(
            "data: {{\"choices\":[{{\"index\":0,\"delta\":{delta},\"finish_reason\":{finish}}}],\"usage\":{{\"prompt_tokens\":9,\"completion_tokens\":{tokens}}}}}\n\n"
        ))
    };
    vec![
        Act::Write(ms(30), head("text/event-stream")),
        Act::Write(
            ms(40),
            chunk(r#"{"role":"assistant","content":""}"#, "null", 0),
        ),
        Act::Write(
            ms(120),
            chunk(r#"{"reasoning":"let me think of it"}"#, "null", 5),
        ),
        Act::Write(
            ms(200),
            chunk(r#"{"content":"the answer is now"}"#, "null", 9),
        ),
        Act::Write(ms(240), chunk(r#"{"content":" here"}"#, "null", 10)),
        Act::Write(ms(260), chunk(r#"{"content":""}"#, "null", 11)),
        Act::Write(
            ms(300),
            chunk(r#"{"content":" for all of you to see"}"#, "null", 17),
        ),
        Act::Write(ms(310), chunk("{}", "\"stop\"", 17)),
        Act::Write(
            ms(360),
            chunked(
                "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":9,\"completion_tokens\":17}}\n\n",
            ),
        ),
        Act::Write(ms(361), chunked("data: [DONE]\n\n")),
        Act::Write(ms(365), b"0\r\n\r\n".to_vec()),
    ]
}

#[test]
fn the_conformance_fixture_gives_exactly_the_stated_instants() {
    let (seen, facts) = exchange(conformance(), true, ms(20), LONG);
    assert_eq!(seen.outcome, Outcome::Ok);
    assert_eq!(seen.first_event, Some(ms(40)));
    assert_eq!(seen.first_token, Some(ms(120)));
    assert_eq!(seen.first_content, Some(ms(200)));
    assert_eq!(seen.last_token, Some(ms(300)));
    assert_eq!(seen.finished, ms(361));
    let events: Vec<(u64, u32)> = seen
        .events
        .iter()
        .map(|event| (event.at.ns() / 1_000_000, event.tokens))
        .collect();
    assert_eq!(events, [(120, 5), (200, 4), (240, 1), (260, 1), (300, 6)]);
    assert_eq!(
        (
            seen.tokens.output,
            seen.tokens.input,
            seen.tokens.source.name()
        ),
        (Some(17), Some(9), "usage")
    );
    assert!(seen.tokens.per_event_known && !seen.first_token_shared);
    assert_eq!((facts.output_events, facts.shared_events), (5, 0));
}

#[test]
fn events_of_one_read_share_their_stamp_and_are_counted() {
    let text = |text: &str| {
        chunked(&format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"{text}\"}}}}]}}\n\n"
        ))
    };
    let together = [text("a"), text("b"), text("c")].concat();
    let end = [
        chunked("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"),
        b"0\r\n\r\n".to_vec(),
    ]
    .concat();
    let acts = vec![
        Act::Write(ms(5), head("text/event-stream")),
        Act::Write(ms(10), together),
        Act::Write(ms(20), end),
    ];
    let (seen, facts) = exchange(acts, true, ms(0), LONG);
    assert_eq!(seen.outcome, Outcome::Ok);
    assert!(seen.first_token_shared);
    assert_eq!(
        seen.events
            .iter()
            .map(|event| (event.at, event.shared))
            .collect::<Vec<_>>(),
        [(ms(10), false), (ms(10), true), (ms(10), true)]
    );
    assert_eq!(
        (
            facts.output_events,
            facts.shared_events,
            facts.stamp_error_ns.count()
        ),
        (3, 2, 2)
    );
    assert_eq!(
        (seen.tokens.output, seen.tokens.source.name()),
        (Some(3), "events")
    );
}

#[test]
fn each_way_to_go_wrong_has_its_outcome() {
    let stream = || Act::Write(ms(1), head("text/event-stream"));
    let token = || {
        Act::Write(
            ms(2),
            chunked("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"),
        )
    };
    let write = |text: &str| Act::Write(ms(3), chunked(text));
    let end = || Act::Write(ms(4), b"0\r\n\r\n".to_vec());
    let finish = || write("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n");
    let cases = [
        (
            "ends without a finish",
            vec![stream(), token(), end()],
            Outcome::Truncated,
        ),
        (
            "closes in mid-stream",
            vec![stream(), token(), Act::Close],
            Outcome::Truncated,
        ),
        (
            "no output, proper end",
            vec![stream(), finish(), end()],
            Outcome::Empty,
        ),
        (
            "an error event before [DONE]",
            vec![
                stream(),
                token(),
                write("data: {\"error\":\"boom\"}\n\ndata: [DONE]\n\n"),
                end(),
            ],
            Outcome::ErrorEvent("boom".into()),
        ),
        (
            "an error object before tokens",
            vec![
                stream(),
                write("data: {\"error\":{\"message\":\"busy\"}}\n\n"),
                token(),
                finish(),
                end(),
            ],
            Outcome::ErrorEvent("busy".into()),
        ),
        (
            "an error wins over a broken end",
            vec![
                stream(),
                write("data: {\"error\":\"boom\"}\n\n"),
                Act::Close,
            ],
            Outcome::ErrorEvent("boom".into()),
        ),
    ];
    for (name, acts, expected) in cases {
        assert_eq!(
            exchange(acts, true, ms(0), LONG).0.outcome,
            expected,
            "{name}"
        );
    }
    let malformed = exchange(
        vec![stream(), write("data: {broken\n\n"), Act::Hold],
        true,
        ms(0),
        LONG,
    )
    .0
    .outcome;
    assert!(matches!(malformed, Outcome::Malformed(text) if text.contains("{broken")));
    let reset = exchange(vec![stream(), token(), Act::Reset], true, ms(0), LONG)
        .0
        .outcome;
    assert!(matches!(reset, Outcome::Reset(_)), "{reset:?}");
    let no_http = exchange(
        vec![
            Act::Write(ms(1), b"SSH-2.0-hello\r\n\r\n".to_vec()),
            Act::Close,
        ],
        true,
        ms(0),
        LONG,
    )
    .0
    .outcome;
    assert!(matches!(no_http, Outcome::Malformed(_)), "{no_http:?}");
    let one_document = vec![Act::Write(ms(1), b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 14\r\n\r\n{\"choices\":[]}".to_vec())];
    assert!(
        matches!(exchange(one_document, true, ms(0), LONG).0.outcome, Outcome::Malformed(text) if text.contains("stream was asked for"))
    );
}

#[test]
fn a_refusal_keeps_status_body_and_retry_after() {
    let answer =
        b"HTTP/1.1 429 Too Many Requests\r\nretry-after: 7\r\ncontent-length: 9\r\n\r\nslow down"
            .to_vec();
    let (seen, _) = exchange(vec![Act::Write(ms(9), answer)], true, ms(0), LONG);
    assert_eq!(
        seen.outcome,
        Outcome::Refused {
            status: 429,
            body: "slow down".into(),
            retry_after: Some(7)
        }
    );
    assert_eq!(
        (seen.status, seen.finished, seen.outcome.name()),
        (Some(429), ms(9), "rate_limited")
    );
}

#[test]
fn each_phase_has_its_time_limit() {
    let stream = || Act::Write(ms(1), head("text/event-stream"));
    let token = || {
        Act::Write(
            ms(2),
            chunked("data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n"),
        )
    };
    let short = Duration::from_millis(30);
    let cases = [
        (
            vec![Act::Hold],
            Timeouts {
                first_token: short,
                ..LONG
            },
            Phase::FirstToken,
        ),
        (
            vec![stream(), Act::Hold],
            Timeouts {
                first_token: short,
                ..LONG
            },
            Phase::FirstToken,
        ),
        (
            vec![stream(), token(), Act::Hold],
            Timeouts {
                idle: short,
                ..LONG
            },
            Phase::Idle,
        ),
        (
            vec![stream(), token(), Act::Hold],
            Timeouts {
                total: short,
                ..LONG
            },
            Phase::Total,
        ),
    ];
    for (acts, timeouts, phase) in cases {
        assert_eq!(
            exchange(acts, true, ms(0), timeouts).0.outcome,
            Outcome::TimedOut(phase)
        );
    }
}

#[test]
fn what_only_an_earlier_usage_block_says_is_kept() {
    let chunk = |text: &str| {
        let usage = format!("\"usage\":{{\"prompt_tokens\":9,{text}}}");
        chunked(&format!(
            "data: {{\"choices\":[{{\"delta\":{{\"content\":\"a\"}},\"finish_reason\":\"stop\"}}],{usage}}}\n\n"
        ))
    };
    let details = "\"completion_tokens\":1,\"prompt_tokens_details\":{\"cached_tokens\":8}";
    let acts = vec![
        Act::Write(ms(1), head("text/event-stream")),
        Act::Write(ms(2), chunk(details)),
        Act::Write(ms(3), chunk("\"completion_tokens\":2")),
        Act::Write(ms(4), b"0\r\n\r\n".to_vec()),
    ];
    let (seen, _) = exchange(acts, true, ms(0), LONG);
    let tokens = seen.tokens;
    assert_eq!(
        (tokens.input, tokens.output, tokens.cached),
        (Some(9), Some(2), Some(8))
    );
}

#[test]
fn an_error_that_was_told_wins_over_the_time_limit() {
    let acts = vec![
        Act::Write(ms(1), head("text/event-stream")),
        Act::Write(ms(2), chunked("data: {\"error\":\"boom\"}\n\n")),
        Act::Hold,
    ];
    let limits = Timeouts {
        total: Duration::from_millis(50),
        ..LONG
    };
    assert_eq!(
        exchange(acts, true, ms(0), limits).0.outcome,
        Outcome::ErrorEvent("boom".into())
    );
}

#[test]
fn an_answer_that_is_no_stream_has_no_first_token_to_be_late() {
    let held = || {
        vec![
            Act::Write(
                ms(1),
                b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"
                    .to_vec(),
            ),
            Act::Hold,
        ]
    };
    let limits = Timeouts {
        first_token: Duration::from_millis(10),
        total: Duration::from_millis(60),
        ..LONG
    };
    let outcome = |stream| exchange(held(), stream, ms(0), limits).0.outcome;
    assert_eq!(outcome(false), Outcome::TimedOut(Phase::Total));
    assert_eq!(outcome(true), Outcome::TimedOut(Phase::FirstToken));
}

#[test]
fn a_cut_hides_neither_an_error_nor_a_whole_answer() {
    let token = "data: {\"choices\":[{\"delta\":{\"content\":\"a\"}}]}\n\n";
    let after = |text: &str| {
        let acts = vec![
            Act::Write(ms(1), head("text/event-stream")),
            Act::Write(ms(2), chunked(&format!("{token}{text}"))),
            Act::Hold,
        ];
        cut_after(acts, Duration::from_millis(600)).outcome
    };
    assert_eq!(after(""), Outcome::Cut);
    assert_eq!(after("data: [DONE]\n\n"), Outcome::Ok);
    assert_eq!(
        after("data: {\"error\":\"boom\"}\n\n"),
        Outcome::ErrorEvent("boom".into())
    );
}

/// Sends one request to a scripted server, and cuts it after `time`.
fn cut_after(acts: Vec<Act>, time: Duration) -> Exchange {
    let stage = Stage::play(acts);
    let target = target(stage.address, LONG);
    let request = target.prepare(b"{}", true, "r");
    on_worker(async |reactor| {
        let mut lane =
            Lane::new(target, reactor.clone(), Rc::default()).with_stamps(scripted(&stage));
        let until = reactor.clock().clock().now() + time;
        assert!(
            reactor
                .before(until, lane.send(&request, ms(0)))
                .await
                .is_none()
        );
        lane.cut(ms(99))
    })
}

#[test]
fn a_refused_connection_is_told_with_its_address() {
    let closed = std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
    let target = target(closed, LONG);
    let request = target.prepare(b"{}", true, "r");
    let outcome = on_worker(async |reactor| {
        let mut lane = Lane::new(target, reactor, Rc::default());
        lane.send(&request, Moment::ZERO).await.outcome
    });
    assert!(
        matches!(&outcome, Outcome::ConnectFailed(text) if text.contains(&closed.to_string())),
        "{outcome:?}"
    );
}

#[test]
fn recorded_engines_are_read_as_expected() {
    let mut checked = 0;
    for path in fixtures("fixtures/sse", "reads") {
        let told = describe(&path);
        assert_golden(path.with_extension("expected"), &told);
        checked += 1;
    }
    assert!(checked >= 20, "only {checked} recordings");
}

/// The same bytes in pieces of any size say the same.
#[test]
fn recorded_engines_read_the_same_however_they_are_cut() {
    for path in fixtures("fixtures/sse", "reads") {
        let (pieces, stream, closes) = read_recording(&path);
        let bytes: Vec<u8> = pieces.into_iter().flat_map(|(_, bytes)| bytes).collect();
        let told: Vec<String> = [usize::MAX, 777, 61]
            .into_iter()
            .map(|size| {
                let pieces = bytes
                    .chunks(size.min(bytes.len()))
                    .map(|piece| Act::Write(ms(1), piece.to_vec()));
                let (seen, _) = exchange(
                    pieces.chain(closes.then_some(Act::Close)).collect(),
                    stream,
                    ms(0),
                    LONG,
                );
                format!(
                    "{:?} {:?} {:?} {}",
                    seen.outcome,
                    seen.tokens,
                    seen.finish_reason,
                    seen.events.len()
                )
            })
            .collect();
        assert!(
            told.windows(2).all(|two| two[0] == two[1]),
            "{}: {told:#?}",
            path.display()
        );
    }
}

/// Plays a recording in the pieces and with the times in which it was read, and tells what the client made of it.
fn describe(path: &Path) -> String {
    let (pieces, stream, closes) = read_recording(path);
    let acts = pieces
        .into_iter()
        .map(|(at, bytes)| Act::Write(at, bytes))
        .chain(closes.then_some(Act::Close))
        .collect();
    let (seen, _) = exchange(acts, stream, Moment::ZERO, LONG);
    let at = |moment: Option<Moment>| {
        moment.map_or("-".to_owned(), |moment| format!("{:.2} ms", moment.as_ms()))
    };
    let mut told = String::new();
    let outcome = match &seen.outcome {
        Outcome::ErrorEvent(text) => format!("error_event: {text}"),
        Outcome::Refused { status, body, .. } => {
            format!("refused {status}: {}", body.lines().next().unwrap_or(""))
        }
        other => other.name().to_owned(),
    };
    writeln!(told, "outcome: {outcome}").unwrap();
    writeln!(
        told,
        "finish_reason: {}",
        seen.finish_reason.as_deref().unwrap_or("-")
    )
    .unwrap();
    writeln!(told, "headers: {}", at(seen.headers)).unwrap();
    writeln!(told, "first event: {}", at(seen.first_event)).unwrap();
    writeln!(
        told,
        "first token: {}{}",
        at(seen.first_token),
        if seen.first_token_shared {
            " (shared read)"
        } else {
            ""
        }
    )
    .unwrap();
    writeln!(told, "first content: {}", at(seen.first_content)).unwrap();
    writeln!(told, "last token: {}", at(seen.last_token)).unwrap();
    writeln!(told, "finished: {}", at(Some(seen.finished))).unwrap();
    writeln!(told, "output events: {}", seen.events.len()).unwrap();
    let count = |tokens: Option<u32>| tokens.map_or("-".to_owned(), |tokens| tokens.to_string());
    let tokens = seen.tokens;
    writeln!(
        told,
        "tokens: {} out by {}, {} in, {} cached",
        count(tokens.output),
        tokens.source.name(),
        count(tokens.input),
        count(tokens.cached)
    )
    .unwrap();
    writeln!(
        told,
        "tokens per event: {}",
        if tokens.per_event_known {
            "known"
        } else {
            "unknown"
        }
    )
    .unwrap();
    told
}

/// The reads of the first request of a recording, whether it asked for a stream, and whether the server closed at the end.
fn read_recording(path: &Path) -> (Vec<(Moment, Vec<u8>)>, bool, bool) {
    let text = fs::read_to_string(path).unwrap();
    let mut lines = text.lines();
    let stream = lines.next().unwrap().contains("\"stream\": true");
    let mut pieces = Vec::new();
    for line in lines {
        if let Some(note) = line.strip_prefix('#') {
            return (pieces, stream, note.contains("closed"));
        }
        let (time, rest) = line.trim_start().split_once(" ms").unwrap();
        let bytes = python_bytes(&rest[rest.find('b').unwrap()..]);
        if !bytes.is_empty() {
            pieces.push((
                Moment::from_ns((time.parse::<f64>().unwrap() * 1e6).round() as u64),
                bytes,
            ));
        }
    }
    (pieces, stream, false)
}

/// Reads a Python bytes literal.
fn python_bytes(literal: &str) -> Vec<u8> {
    let inner = literal.trim().strip_prefix('b').unwrap();
    let inner = &inner.as_bytes()[1..inner.len() - 1];
    let (mut bytes, mut at) = (Vec::new(), 0);
    while at < inner.len() {
        let (byte, used) = match (inner[at], inner.get(at + 1)) {
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(b'r')) => (b'\r', 2),
            (b'\\', Some(b't')) => (b'\t', 2),
            (b'\\', Some(b'x')) => (
                u8::from_str_radix(std::str::from_utf8(&inner[at + 2..at + 4]).unwrap(), 16)
                    .unwrap(),
                4,
            ),
            (b'\\', Some(&other)) => (other, 2),
            (other, _) => (other, 1),
        };
        bytes.push(byte);
        at += used;
    }
    bytes
}
