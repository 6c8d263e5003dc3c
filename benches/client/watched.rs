//! What it costs the thread that measures when somebody looks on: the same load with and without a dashboard and metrics that are
//! asked for every second.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::clients;
use super::server::Server;
use super::table::{Goal, median, row};

/// Streams that are open all the time, with twenty events a second each.
const STREAMS: usize = 500;
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(2);

/// CPU time of the load thread, in seconds of each second, without and with somebody who looks on.
pub(crate) fn rows(folder: &Path, rounds: usize, seconds: u64) {
    let (mut alone, mut watched, mut more) = (Vec::new(), Vec::new(), Vec::new());
    let mut looks = 0;
    let server = Server::start(folder, 50, 50, true);
    let load = format!(
        "{{ stages: [{{ name: full, users: {STREAMS}, for: {seconds}s }}], ramp_down: cancel }}"
    );
    let share = |flags: &[&str]| {
        let (_, written) = clients::scenario(folder, &server.address, &load, 100, flags);
        let client = &written.report()["cells"][0]["runs"][0]["client"];
        client["worker_cpu_max"].as_f64().expect("one load thread")
    };
    for round in 0..2 * rounds {
        // Each is first in every second round, so that a machine that slows down hits both.
        match (round + round / 2) % 2 {
            0 => alone.push(share(&[])),
            _ => {
                let ports = [free_port(), free_port()];
                let [page, metrics] = ports.map(|port| format!("127.0.0.1:{port}"));
                let flags = ["--dashboard", page.as_str(), "--metrics", metrics.as_str()];
                watched.push(while_looking(ports, &mut looks, || share(&flags)));
            }
        }
    }
    server.stop();
    for (one, other) in alone.iter().zip(&watched) {
        more.push((other - one) * 100.0);
    }
    let (before, with) = (median(alone), median(watched));
    let name = |what: &str| format!("{STREAMS} streams: {what}");
    row(
        &name("load thread, share of its core"),
        before * 100.0,
        "%",
        Goal::None,
    );
    row(
        &name("the same while somebody looks on"),
        with * 100.0,
        "%",
        Goal::None,
    );
    row(
        &name("pages and metrics that were fetched"),
        looks as f64,
        "",
        Goal::Least(1.0),
    );
    row(
        &name("what looking on costs, of a core"),
        median(more),
        "%",
        Goal::Most(1.0),
    );
    row(
        &name("multiple of the load thread's own"),
        with / before,
        "",
        Goal::None,
    );
}

/// Asks for page and metrics every second until `run` is over.
fn while_looking<T>(ports: [u16; 2], looks: &mut usize, run: impl FnOnce() -> T) -> T {
    let (over, seen) = (AtomicBool::new(false), AtomicUsize::new(0));
    let done = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut next = Instant::now();
            while !over.load(Ordering::Relaxed) {
                for (port, path) in ports.iter().zip(["/page", "/metrics"]) {
                    seen.fetch_add(usize::from(fetched(*port, path)), Ordering::Relaxed);
                }
                next += LOOK_EVERY;
                std::thread::sleep(next.saturating_duration_since(Instant::now()));
            }
        });
        let done = run();
        over.store(true, Ordering::Relaxed);
        done
    });
    *looks += seen.into_inner();
    done
}

/// Whether there was an answer with something in it.
fn fetched(port: u16, path: &str) -> bool {
    let ask = || -> std::io::Result<usize> {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut stream = TcpStream::connect_timeout(&address, PATIENCE)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nconnection: close\r\n\r\n"
        )?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        Ok(if answer.starts_with(b"HTTP/1.1 200") {
            answer.len()
        } else {
            0
        })
    };
    ask().is_ok_and(|length| length > 0)
}

/// One that nobody listens on just now.
fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port is free");
    listener.local_addr().expect("it is bound").port()
}
