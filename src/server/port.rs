//! TCP ports of this machine: a free one, and who holds one that is not.

use std::fmt;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};

/// A program that listens on a port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    /// Its process, when it may be looked at.
    pub process: Option<(i32, String)>,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, name)) => write!(f, "`{name}`, process {pid}"),
            None => f.write_str("a process of another user"),
        }
    }
}

/// Ports below the system's own range that are tried.
const BELOW: u16 = 12_000;

/// A port that nobody listens on, and that no outgoing connection is given: one of those could take it before an engine does.
///
/// # Errors
/// The machine has none left.
pub fn free_port() -> std::io::Result<u16> {
    let range = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range");
    let lowest = range.ok().and_then(|text| lowest_outgoing(&text));
    let is_free = |port: &u16| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    if let Some(found) = candidates(lowest.unwrap_or(32_768)).find(is_free) {
        return Ok(found);
    }
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?
        .local_addr()?
        .port())
}

/// The lowest port that outgoing connections are given.
fn lowest_outgoing(range: &str) -> Option<u16> {
    range.split_ascii_whitespace().next()?.parse().ok()
}

/// The ports below, each once; every process and every call begin elsewhere, so that two of them seldom meet.
fn candidates(lowest: u16) -> impl Iterator<Item = u16> {
    static CALLS: AtomicU32 = AtomicU32::new(0);
    let count = u32::from(BELOW.min(lowest.saturating_sub(1024)));
    let first = lowest - count as u16;
    let start = std::process::id()
        .wrapping_mul(7919)
        .wrapping_add(CALLS.fetch_add(97, Ordering::Relaxed));
    (0..count).map(move |step| first + (start.wrapping_add(step) % count) as u16)
}

/// Who listens on a port, if anybody does.
pub fn holder(port: u16) -> Option<Holder> {
    let listening = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .find_map(|table| listener(&std::fs::read_to_string(table).ok()?, port));
    match listening {
        Some(inode) => Some(Holder {
            process: process_of(inode),
        }),
        // A socket that is bound and does not listen holds the port, too.
        None => match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                Some(Holder { process: None })
            }
            _ => None,
        },
    }
}

/// The socket's number of the listener on a port, from the kernel's table.
fn listener(table: &str, port: u16) -> Option<u64> {
    const LISTEN: &str = "0A";
    table.lines().skip(1).find_map(|line| {
        let fields: Vec<&str> = line.split_ascii_whitespace().collect();
        let (_, hex) = fields.get(1)?.rsplit_once(':')?;
        let here = u16::from_str_radix(hex, 16).ok()? == port && *fields.get(3)? == LISTEN;
        here.then(|| fields.get(9)?.parse().ok()).flatten()
    })
}

/// The process that has a socket open.
fn process_of(inode: u64) -> Option<(i32, String)> {
    let wanted = format!("socket:[{inode}]");
    let entries = std::fs::read_dir("/proc").ok()?.flatten();
    entries
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .find(|(_, path)| has_open(path, &wanted))
        .map(|(pid, path)| {
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            (pid, name.trim().to_owned())
        })
}

fn has_open(process: &Path, wanted: &str) -> bool {
    let open = std::fs::read_dir(process.join("fd"))
        .into_iter()
        .flatten()
        .flatten();
    open.filter_map(|fd| std::fs::read_link(fd.path()).ok())
        .any(|target| target.as_os_str() == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holder_of_a_port_is_told_by_name() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let (pid, _) = holder(port).unwrap().process.unwrap();
        assert_eq!(pid, std::process::id() as i32);
        drop(listener);
        assert_eq!(holder(port), None);
    }

    #[test]
    fn free_ports_are_none_that_outgoing_connections_are_given() {
        assert_eq!(lowest_outgoing("32768\t60999\n"), Some(32_768));
        let mut ports: Vec<u16> = candidates(32_768).collect();
        ports.sort_unstable();
        assert_eq!(
            (ports.len(), ports[0], ports[11_999]),
            (12_000, 20_768, 32_767)
        );
        ports.dedup();
        assert_eq!(ports.len(), 12_000);
        assert_eq!(candidates(1024).count(), 0);
        assert_ne!(free_port().unwrap(), free_port().unwrap());
    }

    #[test]
    fn a_listener_is_found_in_the_kernels_table() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
                     0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0 100 0 0 10 0\n   \
                     1: 0100007F:1F91 0100007F:1F90 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0 100 0 0 10 0\n";
        assert_eq!(listener(table, 8080), Some(4711));
        assert_eq!(listener(table, 8081), None);
    }
}
