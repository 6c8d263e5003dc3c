//! Each language on bytes that its engines send, recorded or after their documentation, over a real socket.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use hyper::HeaderMap;
use scenario::clock::Clock;
use scenario::engine::{BodyTemplate, Dialect, Exchange, HttpTarget, Lane, Reactor};
use scenario::observation::Outcome;
use scenario::plan::{Api, BackendKind, RequestParameters, Timeouts, Wishes};
use scenario::units::Moment;
use scenario::wire::Endpoint;
use scenario::workload::Prompt;

use crate::adapters::heard;
use crate::golden::{assert_golden, fixtures};
use crate::tool::{Desk, scenario};

const APIS: [Api; 8] = [
    Api::Chat,
    Api::Completions,
    Api::Responses,
    Api::Messages,
    Api::Generate,
    Api::Triton,
    Api::Tgi,
    Api::Ollama,
];

const LIMIT: Duration = Duration::from_secs(20);

const TIMEOUTS: Timeouts = Timeouts {
    connect: LIMIT,
    first_token: LIMIT,
    idle: LIMIT,
    total: LIMIT,
};

fn dialect(api: Api) -> Dialect {
    Dialect {
        api,
        kind: BackendKind::Openai,
    }
}

/// A server that answers one request with these bytes; gives its address and, when it has answered, what it was asked.
fn answering(answer: Vec<u8>, kind: &'static str) -> (String, std::thread::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked = std::thread::spawn(move || {
        let (mut socket, _) = listener.accept().unwrap();
        let mut heard = Vec::new();
        let mut piece = [0; 4096];
        while !String::from_utf8_lossy(&heard).contains("probe-body-ends") {
            let read = socket.read(&mut piece).unwrap();
            assert!(read > 0, "{}", String::from_utf8_lossy(&heard));
            heard.extend_from_slice(&piece[..read]);
        }
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n",
            answer.len()
        );
        socket.write_all(head.as_bytes()).unwrap();
        socket.write_all(&answer).unwrap();
        String::from_utf8(heard).unwrap()
    });
    (address, asked)
}

/// What comes of one exchange, and what the server was asked.
fn exchange(dialect: Dialect, stream: bool, answer: Vec<u8>) -> (Exchange, String) {
    let kind = match (stream, dialect.api) {
        (false, _) => "application/json",
        (true, Api::Ollama) => "application/x-ndjson",
        (true, _) => "text/event-stream",
    };
    let (address, asked) = answering(answer, kind);
    let resolving = tokio::runtime::Builder::new_current_thread()
        .build()
        .unwrap();
    let url = format!("http://{address}/v1");
    let found = resolving
        .block_on(Endpoint::resolve(&url, || unreachable!()))
        .unwrap();
    let target = HttpTarget {
        endpoint: dialect.endpoint(&found, "m"),
        headers: dialect.headers(&HeaderMap::new()),
        dialect,
        timeouts: TIMEOUTS,
        offline: None,
    };
    let request = target.prepare(br#"{"x":"probe-body-ends"}"#, stream, "r");
    let reactor = Reactor::new(Clock::start(), Arc::default()).unwrap();
    let mut lane = Lane::new(Arc::new(target), reactor.clone(), Rc::default());
    let seen = reactor.block_on(lane.send(&request, Moment::ZERO)).unwrap();
    (seen, asked.join().unwrap())
}

fn told(seen: &Exchange) -> String {
    let outcome = match &seen.outcome {
        Outcome::ErrorEvent(text) => format!("error_event: {text}"),
        Outcome::Malformed(text) => format!("malformed: {text}"),
        other => other.name().to_owned(),
    };
    let count = |tokens: Option<u32>| tokens.map_or("-".to_owned(), |tokens| tokens.to_string());
    let mut text = String::new();
    let tokens = seen.tokens;
    writeln!(text, "outcome: {outcome}").unwrap();
    writeln!(
        text,
        "finish_reason: {}",
        seen.finish_reason.as_deref().unwrap_or("-")
    )
    .unwrap();
    writeln!(text, "output events: {}", seen.events.len()).unwrap();
    writeln!(
        text,
        "tokens: {} out by {}, {} in, {} cached, {} reasoning",
        count(tokens.output),
        tokens.source.name(),
        count(tokens.input),
        count(tokens.cached),
        count(tokens.reasoning)
    )
    .unwrap();
    let per_event = if tokens.per_event_known {
        "known"
    } else {
        "unknown"
    };
    writeln!(text, "tokens per event: {per_event}").unwrap();
    let seen_at = |moment: Option<Moment>| if moment.is_some() { "yes" } else { "no" };
    writeln!(
        text,
        "first token: {}, first content: {}",
        seen_at(seen.first_token),
        seen_at(seen.first_content)
    )
    .unwrap();
    text
}

fn recordings() -> Vec<PathBuf> {
    fixtures("fixtures/dialects", "txt")
}

#[test]
fn each_language_is_read_as_its_engines_send_it() {
    let (mut apis, mut kinds) = (Vec::new(), Vec::new());
    for path in recordings() {
        let text = fs::read_to_string(&path).unwrap();
        let (head, body) = text.split_once('\n').unwrap();
        let name = head
            .strip_prefix("api: ")
            .unwrap()
            .split(' ')
            .next()
            .unwrap();
        let api = APIS.into_iter().find(|api| api.name() == name).unwrap();
        let named = head
            .split(" · ")
            .find_map(|part| part.strip_prefix("kind: "));
        let kind = named.map_or(BackendKind::Openai, |name| {
            let mut known = BackendKind::ALL.into_iter();
            known.find(|kind| kind.name() == name).unwrap()
        });
        let stream = !head.contains("· whole ·");
        let (seen, _) = exchange(Dialect { api, kind }, stream, body.as_bytes().to_vec());
        assert_golden(path.with_extension("expected"), &told(&seen));
        apis.push(api);
        kinds.extend(named.map(|_| kind));
    }
    for api in &APIS[2..] {
        assert!(apis.contains(api), "no bytes for `{}`", api.name());
    }
    // Of three kinds there are recordings, read by read.
    kinds.extend([
        BackendKind::Vllm,
        BackendKind::LlamaCpp,
        BackendKind::Transformers,
    ]);
    let real = |kind: &BackendKind| *kind != BackendKind::Simulator;
    for kind in BackendKind::ALL.into_iter().filter(real) {
        assert!(kinds.contains(&kind), "no bytes for `{}`", kind.name());
    }
}

#[test]
fn each_language_has_its_path_and_its_headers() {
    let asked = |api| {
        let (_, asked) = exchange(dialect(api), true, b"{}\n\n".to_vec());
        asked
    };
    let paths: Vec<String> = APIS
        .into_iter()
        .map(|api| asked(api).split(' ').nth(1).unwrap().to_owned())
        .collect();
    assert_eq!(
        paths,
        [
            "/v1/chat/completions",
            "/v1/completions",
            "/v1/responses",
            "/v1/messages",
            "/generate",
            "/v2/models/m/generate_stream",
            "/generate_stream",
            "/api/chat",
        ]
    );
    assert!(asked(Api::Messages).contains("anthropic-version: 2023-06-01\r\n"));
}

#[test]
fn each_language_writes_a_request_in_its_own_words() {
    let parameters = RequestParameters {
        max_tokens: 16,
        min_tokens: Some(4),
        ignore_eos: true,
        temperature: 0.5,
        top_p: Some(0.9),
        top_k: Some(40),
        seed: Some(7),
        stop: vec!["END".to_owned()],
        ..RequestParameters::default()
    };
    let map = |value: serde_json::Value| value.as_object().unwrap().clone();
    let schema =
        serde_json::json!({ "type": "object", "properties": { "city": { "type": "string" } } });
    let function =
        serde_json::json!({ "name": "weather", "description": "of a city", "parameters": schema });
    let wishes = Wishes {
        thinking: Some(false),
        response_format: Some(map(serde_json::json!({
            "type": "json_schema", "json_schema": { "name": "place", "schema": schema, "strict": true },
        }))),
        tools: vec![map(
            serde_json::json!({ "type": "function", "function": function }),
        )],
    };
    let mut text = String::new();
    for api in APIS {
        for (name, parameters) in [
            ("all", parameters.clone()),
            (
                "least",
                RequestParameters {
                    stream: false,
                    max_tokens: 16,
                    ..RequestParameters::default()
                },
            ),
            (
                "with wishes",
                RequestParameters {
                    max_tokens: 16,
                    wishes: wishes.clone(),
                    ..RequestParameters::default()
                },
            ),
        ] {
            let body = BodyTemplate::new(dialect(api), "org/m", &parameters)
                .fill(&Prompt::new("p", "Say \"hi\""));
            let body = String::from_utf8(body.to_vec()).unwrap();
            serde_json::from_str::<serde_json::Value>(&body)
                .unwrap_or_else(|error| panic!("{error}: {body}"));
            writeln!(text, "{} {name}: {body}", api.name()).unwrap();
        }
    }
    assert_golden("fixtures/dialects/bodies.golden", &text);
}

#[test]
fn extra_reaches_into_the_parameters_of_a_language() {
    let extra =
        serde_json::json!({ "sampling_params": { "max_new_tokens": 3, "n": 1 }, "lora_path": "a" });
    let parameters = RequestParameters {
        max_tokens: 16,
        extra: extra.as_object().unwrap().clone(),
        ..RequestParameters::default()
    };
    let body =
        BodyTemplate::new(dialect(Api::Generate), "m", &parameters).fill(&Prompt::new("p", "a"));
    assert_eq!(
        String::from_utf8(body.to_vec()).unwrap(),
        r#"{"text":"a","stream":true,"lora_path":"a","sampling_params":{"temperature":0,"max_new_tokens":3,"n":1}}"#
    );
}

#[test]
fn friendli_is_asked_behind_its_prefix_with_token_and_team() {
    for prefix in ["/dedicated/v1", "/serverless/v1"] {
        let (url, heard) = heard();
        let backend = format!(
            "{{ kind: friendli, url: \"{url}{prefix}\", auth: {{ bearer: {{ env: FRIENDLI_TOKEN }} }}, \
             headers: {{ X-Friendli-Team: {{ env: FRIENDLI_TEAM }} }} }}"
        );
        let load = "{ levels: { users: 1, requests: 3, warmup: 0s, tail: drain } }";
        let text = scenario(&backend, load, "slos: { errors: error count == 0 }\n");
        let text = text.replace("m: any", "m: base");
        let variables = [("FRIENDLI_TOKEN", "flp-1"), ("FRIENDLI_TEAM", "team-1")];
        let ended = Desk::new().start_run(&text, &[], &variables).end();
        ended.with_code(0);
        let asked: Vec<String> = heard.try_iter().map(|(head, _)| head).collect();
        assert_eq!(asked.len(), 3);
        for head in asked {
            let path = format!("POST {prefix}/chat/completions HTTP/1.1\r\n");
            assert!(head.starts_with(&path), "{head}");
            let head = head.to_lowercase();
            assert!(head.contains("authorization: bearer flp-1"), "{head}");
            assert!(head.contains("x-friendli-team: team-1"), "{head}");
        }
    }
}
