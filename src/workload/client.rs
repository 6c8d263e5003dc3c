//! The HTTP client of what is fetched and put: it gives up a host that falls silent, however far an exchange has come.

use std::time::Duration;

use ureq::config::ConfigBuilder;
use ureq::typestate::AgentScope;

use crate::units::format_duration;

/// Nothing is heard of a host for this long: it is given up.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// A client that waits so long for each connection, each answer, and each piece of a body; a whole body may take longer.
pub(super) fn waiting(patience: Duration) -> ConfigBuilder<AgentScope> {
    ureq::Agent::config_builder()
        .timeout_connect(Some(patience))
        .timeout_recv_response(Some(patience))
        .timeout_per_read(Some(patience))
        .timeout_per_write(Some(patience))
}

/// Why an exchange over that client failed.
pub(super) fn told(error: &ureq::Error) -> String {
    match error {
        ureq::Error::Timeout(_) => format!("nothing came for {}", format_duration(PATIENCE)),
        ureq::Error::Io(error) => error.to_string(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use super::*;

    /// A server that falls silent behind these bytes; it goes when its client does.
    fn silent_after(told: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            stream.write_all(told).unwrap();
            while stream.read(&mut [0; 512]).is_ok_and(|read| read > 0) {}
        });
        url
    }

    fn fetched(url: &str) -> Result<Vec<u8>, ureq::Error> {
        let agent: ureq::Agent = waiting(Duration::from_millis(100)).build().into();
        agent.get(url).call()?.body_mut().read_to_vec()
    }

    #[test]
    fn a_host_that_falls_silent_is_given_up_before_its_answer_and_within_it() {
        for told in [
            &b""[..],
            b"HTTP/1.1 200 OK\r\ncontent-le",
            b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhal",
        ] {
            let ended = fetched(&silent_after(told));
            assert_eq!(super::told(&ended.unwrap_err()), "nothing came for 30s");
        }
    }

    #[test]
    fn what_comes_bit_by_bit_is_waited_for() {
        let whole = b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nall";
        assert_eq!(fetched(&silent_after(whole)).unwrap(), b"all");
    }
}
