//! Engines behind a proxy of the environment.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use crate::tls::Front;
use crate::tool::{Desk, Ended, Mock, scenario};

/// A proxy that notes the first line of each connection and its credentials, and passes everything on.
struct Between {
    address: String,
    lines: Arc<Mutex<Vec<String>>>,
}

impl Between {
    fn new() -> Between {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let lines = Arc::new(Mutex::new(Vec::new()));
        let noted = lines.clone();
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let noted = noted.clone();
                std::thread::spawn(move || pass(client, &noted));
            }
        });
        Between { address, lines }
    }

    fn lines(&self) -> Vec<String> {
        self.lines.lock().unwrap().clone()
    }
}

fn pass(mut client: TcpStream, noted: &Mutex<Vec<String>>) -> Option<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        client.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let text = String::from_utf8_lossy(&head).into_owned();
    let line = text.lines().next()?.to_owned();
    let asks = text
        .lines()
        .find(|line| line.starts_with("proxy-authorization: "));
    noted
        .lock()
        .unwrap()
        .push(format!("{line} {}", asks.unwrap_or_default()));
    let target = line.split(' ').nth(1)?;
    let is_tunnel = line.starts_with("CONNECT ");
    let authority = target.trim_start_matches("http://").split('/').next()?;
    let mut server = TcpStream::connect(authority).ok()?;
    if is_tunnel {
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").ok()?;
    } else {
        server.write_all(&head).ok()?;
    }
    let (mut from, mut to) = (client.try_clone().ok()?, server.try_clone().ok()?);
    let upwards = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut client);
    let _ = client.shutdown(Shutdown::Both);
    let _ = upwards.join();
    Some(())
}

const TEN: &str = "{ levels: { users: 2, requests: 10, warmup: 0s } }";

fn run(engine: &str, variables: &[(&str, &str)]) -> Ended {
    let text = scenario(engine, TEN, "slos: { errors: error count == 0 }\n");
    // What the machine that runs the tests says of its own proxies says nothing here.
    let mut all = vec![
        ("no_proxy", "nowhere.invalid"),
        ("NO_PROXY", "nowhere.invalid"),
    ];
    all.extend(variables);
    Desk::new().start_run(&text, &[], &all).end()
}

#[test]
fn a_proxy_of_the_environment_is_used_where_the_file_says_so_and_told() {
    let (mock, between) = (Mock::start(&[]), Between::new());
    let engine = |proxy: &str| {
        format!(
            "{{ kind: vllm, url: \"http://{}\"{proxy} }}",
            mock.address()
        )
    };
    let proxy = format!("http://me:secret@{}", between.address);
    // Not without the file.
    run(&engine(""), &[("http_proxy", &proxy)]).with_code(0);
    assert_eq!(between.lines(), [""; 0]);

    let ended = run(&engine(", proxy: env"), &[("http_proxy", &proxy)]).with_code(0);
    let lines = between.lines();
    let request = format!(
        "POST http://{}/v1/chat/completions HTTP/1.1 proxy-authorization: Basic bWU6c2VjcmV0",
        mock.address()
    );
    assert!(lines.contains(&request), "{lines:?}");
    let report = ended.report();
    let told = format!("http://{}", between.address);
    assert_eq!(report["environment"]["engines"][0]["proxy"], told);
    assert!(
        ended.out.contains("its time is in every latency"),
        "{}",
        ended.out
    );
    let texts = [
        ended.text("report.json"),
        ended.out.clone(),
        ended.err.clone(),
    ];
    assert!(texts.iter().all(|text| !text.contains("secret")));

    // A host that needs none goes past it.
    let before = between.lines().len();
    let past = [("http_proxy", proxy.as_str()), ("no_proxy", "127.0.0.1")];
    run(&engine(", proxy: env"), &past).with_code(0);
    assert_eq!(between.lines().len(), before);
}

#[test]
fn https_goes_through_a_tunnel() {
    let (mock, between) = (Mock::start(&[]), Between::new());
    let front = Front::before(&mock);
    let engine = format!(
        "{{ kind: vllm, url: \"https://{}\", proxy: env, tls: {{ insecure: true }} }}",
        front.address
    );
    run(&engine, &[("https_proxy", &between.address)]).with_code(0);
    let lines = between.lines();
    let tunnel = format!("CONNECT {} HTTP/1.1 ", front.address);
    assert!(
        !lines.is_empty() && lines.iter().all(|line| *line == tunnel),
        "{lines:?}"
    );
}

#[test]
fn a_proxy_that_is_not_there_is_told() {
    let mock = Mock::start(&[]);
    let engine = format!(
        "{{ kind: vllm, url: \"http://{}\", proxy: env, ready: {{ timeout: 300ms }} }}",
        mock.address()
    );
    let ended = run(&engine, &[("http_proxy", "socks5://127.0.0.1:1")]).with_code(3);
    let why = ended.report()["cells"][0]["runs"][0]["reason"].clone();
    assert!(
        why.as_str()
            .unwrap()
            .contains("is not spoken to by http://"),
        "{why}"
    );
}
