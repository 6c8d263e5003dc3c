//! The simulated engine over a real socket: what a client sees, byte by byte.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use scenario::engine::simulator::{SimulatorConfig, SimulatorHandle, start};
use serde_json::{Value, json};

/// Long enough for any machine; a test that needs it has failed.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn a_stream_has_the_shape_of_vllms() {
    let simulator = start(fast()).unwrap();
    let reply = post(&simulator, "/v1/chat/completions", &chat("Say hello.", 12));
    assert_eq!(reply.status, 200);
    assert_eq!(
        reply.header("content-type"),
        "text/event-stream; charset=utf-8"
    );
    assert_eq!(reply.header("server"), "scenario-simulator");
    assert!(reply.complete);

    let events = reply.events();
    let (done, events) = events.split_last().unwrap();
    assert_eq!(done, "[DONE]");
    let chunks: Vec<Value> = events
        .iter()
        .map(|e| serde_json::from_str(e).unwrap())
        .collect();
    assert_eq!(chunks.len(), 1 + 12 + 1);
    let delta = |index: usize| &chunks[index]["choices"][0]["delta"];
    assert_eq!(*delta(0), json!({"role": "assistant", "content": ""}));
    assert!(
        delta(1)["content"]
            .as_str()
            .is_some_and(|text| !text.is_empty())
    );
    assert_eq!(chunks[11]["choices"][0]["finish_reason"], Value::Null);
    assert_eq!(chunks[12]["choices"][0]["finish_reason"], "length");
    assert_eq!(chunks[13]["choices"], json!([]));
    let usage = &chunks[13]["usage"];
    assert_eq!(usage["completion_tokens"], 12);
    assert_eq!(
        usage["total_tokens"].as_u64(),
        usage["prompt_tokens"].as_u64().map(|prompt| prompt + 12)
    );
    assert!(
        chunks
            .iter()
            .all(|chunk| chunk["object"] == "chat.completion.chunk")
    );
    assert!(chunks.iter().all(|chunk| chunk["id"] == chunks[0]["id"]));
}

#[test]
fn continuous_usage_counts_every_token_event() {
    let simulator = start(fast()).unwrap();
    let mut body = chat("Count.", 5);
    body["stream_options"]["continuous_usage_stats"] = json!(true);
    let chunks = post(&simulator, "/v1/chat/completions", &body).chunks();
    let counts: Vec<u64> = chunks
        .iter()
        .map(|chunk| chunk["usage"]["completion_tokens"].as_u64().unwrap())
        .collect();
    assert_eq!(counts, [0, 1, 2, 3, 4, 5, 5]);
}

#[test]
fn completions_stream_text_and_answer_without_a_limit_with_sixteen_tokens() {
    let simulator = start(fast()).unwrap();
    let body = json!({"model": "m", "prompt": "Once upon a time", "stream": true, "ignore_eos": true,
        "stream_options": {"include_usage": true}});
    let chunks = post(&simulator, "/v1/completions", &body).chunks();
    assert_eq!(chunks.len(), 17);
    assert!(
        chunks[..16]
            .iter()
            .all(|chunk| chunk["choices"][0]["text"] != "")
    );
    assert_eq!(chunks[16]["usage"]["completion_tokens"], 16);
}

#[test]
fn an_answer_is_the_same_streamed_whole_and_on_another_engine() {
    let ask = |simulator: &SimulatorHandle, stream: bool| {
        let mut body = chat("What is a continuous batch?", 300);
        body["ignore_eos"] = json!(false);
        body["stream"] = json!(stream);
        post(simulator, "/v1/chat/completions", &body)
    };
    let at_speed = |name: &str| {
        let mut config = SimulatorConfig::named(name).unwrap();
        config.speed = 100.0;
        start(config).unwrap()
    };
    let (vllm, sglang) = (
        at_speed("a100-llama-3.1-8b-vllm"),
        at_speed("a100-llama-3.1-8b-sglang"),
    );
    let streamed = ask(&vllm, true).text();
    let whole = ask(&vllm, false).json();
    assert_eq!(whole["object"], "chat.completion");
    assert_eq!(whole["choices"][0]["message"]["content"], streamed);
    assert_eq!(ask(&sglang, true).text(), streamed);
}

#[test]
fn metrics_show_what_was_served() {
    let simulator = start(fast()).unwrap();
    let (mut prompt, mut output) = (0, 0);
    for tokens in [3, 8, 20] {
        let chunks = post(
            &simulator,
            "/v1/chat/completions",
            &chat("Hello there.", tokens),
        )
        .chunks();
        let usage = &chunks.last().unwrap()["usage"];
        prompt += usage["prompt_tokens"].as_u64().unwrap();
        output += usage["completion_tokens"].as_u64().unwrap();
    }
    let page = get(&simulator, "/metrics").body_text();
    assert_eq!(output, 31);
    assert_eq!(
        metric(&page, "vllm:generation_tokens_total{"),
        output as f64
    );
    assert_eq!(metric(&page, "vllm:prompt_tokens_total{"), prompt as f64);
    assert_eq!(
        metric(&page, "vllm:time_to_first_token_seconds_count{"),
        3.0
    );
    assert_eq!(
        metric(&page, "vllm:inter_token_latency_seconds_count{"),
        28.0
    );
    assert_eq!(
        metric(&page, "vllm:e2e_request_latency_seconds_count{"),
        3.0
    );
    assert_eq!(metric(&page, "vllm:num_requests_running{"), 0.0);
    let by_length = page
        .lines()
        .find(|line| line.contains("finished_reason=\"length\""));
    assert!(by_length.unwrap().ends_with(" 3.0"));
}

#[test]
fn a_repeated_prompt_is_found_in_the_prefix_cache_until_it_is_reset() {
    let simulator = start(fast()).unwrap();
    let prompt = "The same long beginning. ".repeat(40);
    let cached = || {
        let chunks = post(&simulator, "/v1/chat/completions", &chat(&prompt, 2)).chunks();
        let usage = &chunks.last().unwrap()["usage"];
        usage["prompt_tokens_details"]["cached_tokens"]
            .as_u64()
            .unwrap()
    };
    assert_eq!(cached(), 0);
    assert!(cached() >= 240);
    assert_eq!(
        post(&simulator, "/reset_prefix_cache", &json!({})).status,
        200
    );
    assert_eq!(cached(), 0);
}

#[test]
fn a_stop_string_is_cut_and_named() {
    let simulator = start(fast()).unwrap();
    let mut body = chat("Write a sentence.", 40);
    let whole = post(&simulator, "/v1/chat/completions", &body).text();
    let stop = &whole[20..26];
    body["stop"] = json!([stop]);
    let reply = post(&simulator, "/v1/chat/completions", &body);
    assert_eq!(reply.text(), whole[..whole.find(stop).unwrap()]);
    let chunks = reply.chunks();
    let last = &chunks[chunks.len() - 2]["choices"][0];
    assert_eq!(last["finish_reason"], "stop");
    assert_eq!(last["stop_reason"], *stop);
}

#[test]
fn errors_are_vllms() {
    let mut config = fast();
    config.served_models = vec!["tiny".to_owned()];
    config.preset.max_model_len = 4096;
    let simulator = start(config).unwrap();
    let ask = |change: &dyn Fn(&mut Value)| {
        let mut body = chat("Say hello.", 12);
        body["model"] = json!("tiny");
        change(&mut body);
        let reply = post(&simulator, "/v1/chat/completions", &body);
        (reply.status, reply.body_text())
    };
    assert_eq!(ask(&|_| ()).0, 200);
    assert_eq!(
        ask(&|body| body["model"] = json!("no-such-model")),
        (404, r#"{"error":{"message":"The model `no-such-model` does not exist. Valid aliases: tiny.","type":"NotFoundError","param":"model","code":404}}"#.to_owned())
    );
    assert_eq!(
        ask(&|body| body["max_tokens"] = json!(1_000_000)),
        (400, r#"{"error":{"message":"max_tokens=1000000 cannot be greater than max_model_len=4096. Please request fewer output tokens. (parameter=max_tokens, value=1000000)","type":"BadRequestError","param":"max_tokens","code":400}}"#.to_owned())
    );
    assert_eq!(
        ask(&|body| body["temperature"] = json!(-5)),
        (400, r#"{"error":{"message":"temperature must be non-negative, got -5.0. (parameter=temperature, value=-5.0)","type":"BadRequestError","param":"temperature","code":400}}"#.to_owned())
    );
    let (status, text) =
        ask(&|body| body["messages"][0]["content"] = json!("load test ".repeat(4000)));
    assert!(status == 400 && text.contains("maximum context length is 4096 tokens"));
    let (status, text) = ask(&|body| body["messages"] = Value::Null);
    assert!(status == 400 && text.contains("Field required"));
    let broken = exchange(
        simulator.addr(),
        &request("POST", "/v1/chat/completions", "{\"model\": "),
    );
    assert_eq!(broken.status, 400);
    let unknown = post(&simulator, "/v1/nothing-here", &json!({}));
    assert_eq!(
        (unknown.status, unknown.body_text().as_str()),
        (404, r#"{"detail":"Not Found"}"#)
    );
    let wrong = get(&simulator, "/v1/chat/completions");
    assert_eq!((wrong.status, wrong.header("allow")), (405, "POST"));
}

#[test]
fn an_api_key_is_asked_for_under_v1_only() {
    let mut config = fast();
    config.api_key = Some("secret".to_owned());
    let simulator = start(config).unwrap();
    let refused = get(&simulator, "/v1/models");
    assert_eq!(
        (refused.status, refused.body_text().as_str()),
        (401, r#"{"error":"Unauthorized"}"#)
    );
    assert_eq!(get(&simulator, "/health").status, 200);
    let text = "GET /v1/models HTTP/1.1\r\nhost: s\r\nauthorization: Bearer secret\r\nconnection: close\r\n\r\n";
    assert_eq!(exchange(simulator.addr(), text).status, 200);
}

#[test]
fn everything_says_that_it_is_simulated() {
    let simulator = start(fast()).unwrap();
    assert_eq!(get(&simulator, "/version").json()["simulated"], true);
    let models = get(&simulator, "/v1/models").json();
    assert_eq!(models["data"][0]["owned_by"], "scenario-simulator");
    assert_eq!(models["data"][0]["max_model_len"], 8192);
    assert_eq!(get(&simulator, "/scenario/gpu").json()["simulated"], true);
    assert!(simulator.gpu().name.contains("simulated"));
    let tokens = post(&simulator, "/tokenize", &json!({"prompt": "Hello, world"})).json();
    assert_eq!(tokens["count"], 3);
}

#[test]
fn a_client_that_leaves_frees_its_place() {
    let mut config = fast();
    config.preset.parameters.max_sequences = 1;
    let simulator = start(config).unwrap();
    let mut client = TcpStream::connect(simulator.addr()).unwrap();
    let body = chat("Talk on and on.", 8000).to_string();
    client
        .write_all(request("POST", "/v1/chat/completions", &body).as_bytes())
        .unwrap();
    read_until(&mut client, "\"content\":\" ");
    wait_for(&simulator, "vllm:num_requests_running{", 1.0);
    assert!(simulator.gpu().utilization > 0.0);
    let busy = simulator.gpu().energy_joules;
    drop(client);
    wait_for(&simulator, "vllm:num_requests_running{", 0.0);
    assert!(simulator.gpu().energy_joules > busy);
    // The only place is free again.
    assert_eq!(
        post(&simulator, "/v1/chat/completions", &chat("Next.", 3))
            .chunks()
            .len(),
        5
    );
}

#[test]
fn a_client_that_leaves_before_its_whole_answer_frees_its_place() {
    let simulator = start(fast()).unwrap();
    let mut client = TcpStream::connect(simulator.addr()).unwrap();
    let mut body = chat("Talk on and on.", 8000);
    body["stream"] = json!(false);
    let text = request("POST", "/v1/chat/completions", &body.to_string());
    client.write_all(text.as_bytes()).unwrap();
    wait_for(&simulator, "vllm:num_requests_running{", 1.0);
    drop(client);
    wait_for(&simulator, "vllm:num_requests_running{", 0.0);
}

#[test]
fn many_streams_at_once_all_get_their_tokens() {
    let simulator = start(fast()).unwrap();
    let mut clients: Vec<TcpStream> = (0..200)
        .map(|number| {
            let mut client = TcpStream::connect(simulator.addr()).unwrap();
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            let body = chat(&format!("Question {number}"), 30).to_string();
            client
                .write_all(request("POST", "/v1/chat/completions", &body).as_bytes())
                .unwrap();
            client
        })
        .collect();
    for client in &mut clients {
        let reply = Reply::read(client);
        assert!(reply.complete);
        assert_eq!(
            reply.chunks().last().unwrap()["usage"]["completion_tokens"],
            30
        );
    }
    let page = get(&simulator, "/metrics").body_text();
    assert_eq!(metric(&page, "vllm:generation_tokens_total{"), 6000.0);
}

#[test]
fn a_connection_carries_one_answer_after_another() {
    let simulator = start(fast()).unwrap();
    let mut client = TcpStream::connect(simulator.addr()).unwrap();
    for _ in 0..2 {
        let body = chat("Again.", 3).to_string();
        let text =
            request("POST", "/v1/chat/completions", &body).replace("connection: close\r\n", "");
        client.write_all(text.as_bytes()).unwrap();
        read_until(&mut client, "data: [DONE]\n\n\r\n0\r\n\r\n");
    }
}

#[test]
fn tokens_come_no_faster_than_the_model_has_them() {
    let mut config = fast();
    config.preset.parameters.step.base_ms = 4.0;
    config.preset.parameters.step.jitter = 0.0;
    let simulator = start(config).unwrap();
    let start = Instant::now();
    post(&simulator, "/v1/chat/completions", &chat("Hello.", 50));
    assert!(start.elapsed() >= Duration::from_millis(50 * 4));
}

#[test]
fn a_stopped_simulator_breaks_off_and_is_gone() {
    let mut config = fast();
    config.preset.parameters.cold_start = PATIENCE;
    let simulator = start(config).unwrap();
    let address = simulator.addr();
    let mut client = TcpStream::connect(address).unwrap();
    let body = chat("Hello.", 3).to_string();
    client
        .write_all(request("POST", "/v1/chat/completions", &body).as_bytes())
        .unwrap();
    read_until(&mut client, "text/event-stream");
    simulator.stop();
    assert!(!Reply::bytes(&mut client).0.ends_with(b"0\r\n\r\n"));
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn only_loopback_is_served_unless_asked() {
    let mut config = fast();
    config.address = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let error = start(config).unwrap_err().to_string();
    assert_eq!(
        error,
        "0.0.0.0 is not a loopback address; allow remote clients to listen there"
    );
}

#[test]
fn refusing_faults_hit_by_number() {
    let simulator = with_faults(&["error-500:every=2", "error-429:every=3,retry_after=7"]);
    let ask = || post(&simulator, "/v1/chat/completions", &chat("Hello.", 2));
    assert_eq!(ask().status, 200);
    assert_eq!(ask().status, 500);
    let limited = ask();
    assert_eq!((limited.status, limited.header("retry-after")), (429, "7"));
    assert_eq!(ask().status, 500);
    assert_eq!(ask().status, 200);
}

#[test]
fn an_error_event_ends_a_stream_properly() {
    let reply = faulty("error-event:after=3", 10);
    let events = reply.events();
    assert!(reply.complete && reply.status == 200);
    assert_eq!(events.len(), 1 + 3 + 2);
    let error: Value = serde_json::from_str(&events[4]).unwrap();
    assert_eq!(error["error"]["code"], 500);
    assert_eq!(events[5], "[DONE]");
}

#[test]
fn a_truncated_stream_lacks_its_last_chunk() {
    let reply = faulty("truncate:after=5", 10);
    assert!(!reply.complete && !reply.was_reset);
    assert_eq!(reply.events().len(), 1 + 5);
}

#[test]
fn a_reset_stream_ends_with_a_reset() {
    let reply = faulty("reset:after=2", 10);
    assert!(reply.was_reset);
    assert_eq!(reply.events().len(), 1 + 2);
}

#[test]
fn a_stalled_stream_stays_open_in_silence() {
    let simulator = with_faults(&["stall:after=4,every=2"]);
    post(&simulator, "/v1/chat/completions", &chat("Hello.", 10));
    let mut client = TcpStream::connect(simulator.addr()).unwrap();
    let body = chat("Hello.", 10).to_string();
    client
        .write_all(request("POST", "/v1/chat/completions", &body).as_bytes())
        .unwrap();
    // The engine is rid of the request, and the client was told nothing of it.
    wait_for(&simulator, "vllm:generation_tokens_total{", 15.0);
    wait_for(&simulator, "vllm:num_requests_running{", 0.0);
    read_while(&mut client, |text| text.matches("data: ").count() < 1 + 4);
    client.set_nonblocking(true).unwrap();
    let end = client.read(&mut [0; 64]).unwrap_err();
    assert_eq!(end.kind(), std::io::ErrorKind::WouldBlock);
}

#[test]
fn slow_headers_are_slow() {
    let simulator = with_faults(&["slow-headers:ms=200"]);
    let start = Instant::now();
    assert!(post(&simulator, "/v1/chat/completions", &chat("Hello.", 2)).complete);
    assert!(start.elapsed() >= Duration::from_millis(200));
}

#[test]
fn endings_can_lack_done_or_usage() {
    let reply = faulty("no-done", 3);
    assert!(reply.complete && reply.events().iter().all(|event| event != "[DONE]"));
    let reply = faulty("no-usage", 3);
    assert!(reply.complete && !reply.body_text().contains("usage"));
    assert_eq!(reply.events().last().unwrap(), "[DONE]");
}

#[test]
fn the_role_can_come_before_the_prompt_is_worked_on() {
    let mut config = fast();
    config.faults = vec!["role-first".parse().unwrap()];
    config.preset.parameters.cold_start = PATIENCE;
    let simulator = start(config).unwrap();
    let mut client = TcpStream::connect(simulator.addr()).unwrap();
    let body = chat("Hello.", 3).to_string();
    client
        .write_all(request("POST", "/v1/chat/completions", &body).as_bytes())
        .unwrap();
    read_until(&mut client, "\"role\":\"assistant\"");
}

#[test]
fn a_malformed_event_is_no_json_and_the_others_are() {
    let events = faulty("malformed:after=2", 5).events();
    let broken: Vec<usize> = (0..events.len() - 1)
        .filter(|index| serde_json::from_str::<Value>(&events[*index]).is_err())
        .collect();
    assert_eq!(broken, [3]);
}

#[test]
fn an_empty_answer_ends_properly_without_tokens() {
    let reply = faulty("empty", 5);
    assert_eq!(reply.text(), "");
    let chunks = reply.chunks();
    assert_eq!(chunks.last().unwrap()["usage"]["completion_tokens"], 0);
    assert_eq!(chunks[1]["choices"][0]["finish_reason"], "stop");
}

#[test]
fn a_connection_can_close_unannounced_after_its_answer() {
    let simulator = with_faults(&["close-after-response"]);
    let mut client = TcpStream::connect(simulator.addr()).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    let body = chat("Hello.", 3).to_string();
    let text = request("POST", "/v1/chat/completions", &body).replace("connection: close\r\n", "");
    client.write_all(text.as_bytes()).unwrap();
    let reply = Reply::read(&mut client);
    assert!(reply.complete && !reply.was_reset);
    assert_eq!(reply.header("connection"), "");
}

#[test]
fn several_tokens_can_share_an_event() {
    let reply = faulty("multi-token:n=4", 10);
    let words: Vec<usize> = reply
        .chunks()
        .iter()
        .filter_map(|chunk| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        })
        .map(|text| text.matches([' ', ',', '.']).count())
        .collect();
    // The role, then the first token alone, then four at a time.
    assert_eq!(words, [0, 1, 4, 4, 1]);
    assert_eq!(
        reply.chunks().last().unwrap()["usage"]["completion_tokens"],
        10
    );
}

#[test]
fn lines_can_end_with_cr_lf_and_comments_can_stand_between() {
    let reply = faulty("crlf", 3);
    let text = reply.body_text();
    assert_eq!(
        text.matches("\r\n\r\n").count(),
        text.matches('\n').count() / 2
    );
    let text = faulty("comment-pings", 3).body_text();
    assert_eq!(text.matches(": ping\n\n").count(), 3);
}

#[test]
fn events_can_be_cut_at_odd_bytes() {
    let plain = faulty("no-done:every=1000", 4);
    let split = faulty("split-writes", 4);
    assert_eq!(split.text(), plain.text());
    assert!(split.http_chunks > plain.http_chunks);
}

#[test]
fn a_loading_server_says_so_and_then_serves() {
    let simulator = with_faults(&["loading:ms=100"]);
    let deadline = Instant::now() + PATIENCE;
    let mut statuses = vec![get(&simulator, "/health").status];
    while statuses.last() != Some(&200) {
        assert!(Instant::now() < deadline, "still loading");
        statuses.push(get(&simulator, "/health").status);
    }
    assert_eq!(statuses[0], 503);
    assert!(post(&simulator, "/v1/chat/completions", &chat("Hello.", 2)).complete);
}

fn fast() -> SimulatorConfig {
    SimulatorConfig::named("fast").unwrap()
}

fn with_faults(faults: &[&str]) -> SimulatorHandle {
    let mut config = fast();
    config.faults = faults.iter().map(|fault| fault.parse().unwrap()).collect();
    start(config).unwrap()
}

/// The answer of `tokens` tokens that a server with this fault gives.
fn faulty(fault: &str, tokens: u32) -> Reply {
    let simulator = with_faults(&[fault]);
    post(
        &simulator,
        "/v1/chat/completions",
        &chat("Say hello.", tokens),
    )
}

fn chat(content: &str, max_tokens: u32) -> Value {
    json!({
        "model": "any",
        "messages": [{"role": "user", "content": content}],
        "max_tokens": max_tokens,
        "ignore_eos": true,
        "stream": true,
        "stream_options": {"include_usage": true},
    })
}

/// What came back, taken apart.
struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
    http_chunks: usize,
    /// The body ended as its head announced.
    complete: bool,
    was_reset: bool,
}

impl Reply {
    /// Reads until the connection ends.
    fn read(stream: &mut TcpStream) -> Reply {
        let (bytes, was_reset) = Reply::bytes(stream);
        let end = find(&bytes, b"\r\n\r\n").expect("a response head");
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
        let mut reply = Reply {
            status: head.split(' ').nth(1).unwrap().parse().unwrap(),
            head,
            body: bytes[end + 4..].to_vec(),
            http_chunks: 0,
            complete: true,
            was_reset,
        };
        if reply.header("transfer-encoding") == "chunked" {
            reply.join_chunks();
        }
        reply
    }

    /// Everything up to the connection's end, and whether that was a reset.
    fn bytes(stream: &mut TcpStream) -> (Vec<u8>, bool) {
        let (mut bytes, mut part) = (Vec::new(), [0; 16 * 1024]);
        loop {
            match stream.read(&mut part) {
                Ok(0) => return (bytes, false),
                Ok(count) => bytes.extend_from_slice(&part[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {
                    return (bytes, true);
                }
                Err(error) => panic!("reading the answer: {error}"),
            }
        }
    }

    fn join_chunks(&mut self) {
        let mut rest = std::mem::take(&mut self.body);
        self.complete = false;
        while let Some(end) = find(&rest, b"\r\n") {
            let size = std::str::from_utf8(&rest[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            if size == 0 {
                self.complete = true;
                return;
            }
            let Some(chunk) = rest.get(end + 2..end + 2 + size) else {
                return;
            };
            self.body.extend_from_slice(chunk);
            self.http_chunks += 1;
            rest.drain(..end + 2 + size + 2);
        }
    }

    fn header(&self, name: &str) -> &str {
        let value = self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        });
        value.unwrap_or("")
    }

    fn body_text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    /// The payloads of all events, `[DONE]` included.
    fn events(&self) -> Vec<String> {
        let text = self.body_text();
        let data = text.lines().filter_map(|line| line.strip_prefix("data: "));
        data.map(str::to_owned).collect()
    }

    fn chunks(&self) -> Vec<Value> {
        let events = self.events();
        let payloads = events.iter().filter(|event| *event != "[DONE]");
        payloads
            .map(|event| serde_json::from_str(event).unwrap())
            .collect()
    }

    fn text(&self) -> String {
        let chunks = self.chunks();
        let content = |chunk: &Value| {
            chunk["choices"][0]["delta"]["content"]
                .as_str()
                .map(str::to_owned)
        };
        chunks.iter().filter_map(content).collect()
    }
}

fn get(simulator: &SimulatorHandle, path: &str) -> Reply {
    exchange(simulator.addr(), &request("GET", path, ""))
}

fn post(simulator: &SimulatorHandle, path: &str, body: &Value) -> Reply {
    exchange(simulator.addr(), &request("POST", path, &body.to_string()))
}

fn request(method: &str, path: &str, body: &str) -> String {
    format!(
        "{method} {path} HTTP/1.1\r\nhost: simulator\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn exchange(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    Reply::read(&mut stream)
}

/// Reads until `text` has come.
fn read_until(stream: &mut TcpStream, text: &str) {
    read_while(stream, |seen| !seen.contains(text));
}

fn read_while(stream: &mut TcpStream, go_on: impl Fn(&str) -> bool) {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let (mut seen, mut part) = (String::new(), [0; 4096]);
    while go_on(&seen) {
        let count = stream.read(&mut part).unwrap();
        assert!(count > 0, "the connection ended early, after {seen:?}");
        seen.push_str(std::str::from_utf8(&part[..count]).unwrap());
    }
}

/// Asks for the metrics until `name` has this value.
fn wait_for(simulator: &SimulatorHandle, name: &str, expected: f64) {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let value = metric(&get(simulator, "/metrics").body_text(), name);
        if value == expected {
            return;
        }
        assert!(
            Instant::now() < deadline,
            "{name} is {value}, not {expected}"
        );
    }
}

fn metric(page: &str, start: &str) -> f64 {
    let line = page.lines().find(|line| line.starts_with(start));
    let value = line.and_then(|line| line.rsplit(' ').next());
    value
        .unwrap_or_else(|| panic!("no {start} in the metrics"))
        .parse()
        .unwrap()
}

fn find(bytes: &[u8], wanted: &[u8]) -> Option<usize> {
    bytes
        .windows(wanted.len())
        .position(|window| window == wanted)
}
