//! The machine and the runner itself, from `/proc`: `host.cpu` and `client.cpu` (0 to 1 of all cores), `client.thread_cpu`
//! (the busiest thread, 0 to 1 of one core), `client.rss` (bytes) and `host.tcp_retransmits` (a counter); and how late the load
//! threads were since the sample before: `client.lag` (the worst read behind the kernel's stamp) and `client.loop` (the longest
//! turn of a thread's loop), both in seconds.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;

use super::{Sample, TelemetrySource};
use crate::units::Moment;
use crate::wire::Pulse;

/// Reads `/proc`; elsewhere than on Linux it says nothing.
#[derive(Debug, Default)]
pub struct HostSource {
    last: Option<Reading>,
    pulse: Arc<Pulse>,
}

/// What `/proc` says at one instant.
#[derive(Clone, Debug, Default, PartialEq)]
struct Reading {
    at: Moment,
    /// Busy and all ticks of all cores.
    machine: Option<(u64, u64)>,
    /// Nanoseconds on a core, by thread.
    threads: BTreeMap<u32, u64>,
    /// Ticks of the own process.
    process: Option<u64>,
    rss: Option<u64>,
    retransmits: Option<u64>,
}

impl HostSource {
    /// A source of this machine and this process, whose load threads tell `pulse` how late they are.
    pub fn new(pulse: Arc<Pulse>) -> HostSource {
        HostSource { last: None, pulse }
    }
}

impl TelemetrySource for HostSource {
    fn name(&self) -> &str {
        "host"
    }

    fn begin(&mut self) {
        self.last = None;
    }

    fn sample(&mut self, at: Moment, into: &mut Vec<Sample>) {
        let now = reading(at);
        into.extend(now.rss.map(|rss| Sample::value("client.rss", rss as f64)));
        into.extend(
            now.retransmits
                .map(|count| Sample::value("host.tcp_retransmits", count as f64)),
        );
        let (lag, turn) = self.pulse.take();
        into.push(Sample::value("client.lag", lag.as_secs_f64()));
        into.push(Sample::value("client.loop", turn.as_secs_f64()));
        if let Some(last) = self.last.take().filter(|last| last.at < now.at) {
            into.extend(shares(&last, &now));
        }
        self.last = Some(now);
    }
}

fn shares(last: &Reading, now: &Reading) -> Vec<Sample> {
    let mut samples = Vec::new();
    if let (Some((busy_before, all_before)), Some((busy, all))) = (last.machine, now.machine)
        && all > all_before
    {
        let ticks = (all - all_before) as f64;
        let busy = busy.saturating_sub(busy_before) as f64 / ticks;
        samples.push(Sample::value("host.cpu", busy));
        if let (Some(before), Some(process)) = (last.process, now.process) {
            let own = process.saturating_sub(before) as f64 / ticks;
            samples.push(Sample::value("client.cpu", own.min(1.0)));
        }
    }
    let elapsed = now.at.since(last.at).as_nanos() as f64;
    let busiest = now
        .threads
        .iter()
        .filter_map(|(id, ns)| Some(ns.saturating_sub(*last.threads.get(id)?)))
        .max();
    samples.extend(
        busiest.map(|ns| Sample::value("client.thread_cpu", (ns as f64 / elapsed).min(1.0))),
    );
    samples
}

fn reading(at: Moment) -> Reading {
    let read = |path: &str| fs::read_to_string(path).ok();
    Reading {
        at,
        machine: read("/proc/stat").and_then(|text| machine_ticks(&text)),
        threads: threads(Path::new("/proc/self/task")),
        process: read("/proc/self/stat").and_then(|text| process_ticks(&text)),
        rss: read("/proc/self/status").and_then(|text| rss_bytes(&text)),
        retransmits: read("/proc/net/snmp").and_then(|text| tcp_retransmits(&text)),
    }
}

fn threads(folder: &Path) -> BTreeMap<u32, u64> {
    let Ok(entries) = fs::read_dir(folder) else {
        return BTreeMap::new();
    };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let id = entry.file_name().to_str()?.parse().ok()?;
            let text = fs::read_to_string(entry.path().join("schedstat")).ok()?;
            Some((id, text.split_whitespace().next()?.parse().ok()?))
        })
        .collect()
}

/// Busy and all ticks: `cpu  user nice system idle iowait irq softirq steal guest guest_nice`; guests are in user already.
fn machine_ticks(stat: &str) -> Option<(u64, u64)> {
    let first = stat.lines().next()?.strip_prefix("cpu ")?;
    let ticks: Vec<u64> = first
        .split_whitespace()
        .take(8)
        .map_while(|field| field.parse().ok())
        .collect();
    let idle = ticks.get(3)? + ticks.get(4).unwrap_or(&0);
    let all: u64 = ticks.iter().sum();
    Some((all - idle, all))
}

/// `utime` and `stime`, the 14th and 15th field; the second is the name in parentheses and may hold anything.
fn process_ticks(stat: &str) -> Option<u64> {
    let after_name = stat.rsplit_once(')')?.1;
    let mut fields = after_name.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse().ok()?;
    Some(kib * 1024)
}

/// `RetransSegs` of the two `Tcp:` lines, names above values.
fn tcp_retransmits(snmp: &str) -> Option<u64> {
    let mut lines = snmp.lines().filter_map(|line| line.strip_prefix("Tcp:"));
    let (names, values) = (lines.next()?, lines.next()?);
    let at = names
        .split_whitespace()
        .position(|name| name == "RetransSegs")?;
    values.split_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_texts_are_read() {
        let stat = "cpu  100 0 50 800 40 5 5 0 0 0\ncpu0 1 2 3\n";
        assert_eq!(machine_ticks(stat), Some((160, 1000)));
        let own = "42 (sce) nario) S 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 4";
        assert_eq!(process_ticks(own), Some(42));
        assert_eq!(rss_bytes("Name:\tx\nVmRSS:\t  2048 kB\n"), Some(2 << 20));
        let snmp = "Ip: A\nIp: 1\nTcp: InSegs RetransSegs\nTcp: 9 7\nUdp: X\nUdp: 0\n";
        assert_eq!(tcp_retransmits(snmp), Some(7));
        assert_eq!(tcp_retransmits(""), None);
    }

    #[test]
    fn shares_are_taken_between_two_readings() {
        let last = Reading {
            at: Moment::from_ms(1000),
            machine: Some((100, 1000)),
            threads: [(1, 0), (2, 0)].into(),
            process: Some(10),
            ..Reading::default()
        };
        let now = Reading {
            at: Moment::from_ms(1250),
            machine: Some((150, 1100)),
            threads: [(1, 25_000_000), (2, 125_000_000), (3, 900_000_000)].into(),
            process: Some(30),
            ..Reading::default()
        };
        let expected = [
            Sample::value("host.cpu", 0.5),
            Sample::value("client.cpu", 0.2),
            Sample::value("client.thread_cpu", 0.5),
        ];
        assert_eq!(shares(&last, &now), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn the_own_process_has_memory() {
        let mut samples = Vec::new();
        HostSource::default().sample(Moment::ZERO, &mut samples);
        let rss = samples.iter().any(|sample| {
            matches!(sample, Sample::Value { metric: "client.rss", value, .. } if *value > 0.0)
        });
        assert!(rss, "{samples:?}");
    }
}
