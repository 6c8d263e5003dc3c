//! Where to listen, and who may ask.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Where to listen: `127.0.0.1:8700`, `[::1]:8700`, or a port alone, which is on the loopback interface. Port 0 takes any free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address(pub SocketAddr);

/// It is no address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not an address like `127.0.0.1:8700` or `8700` (a file stands before this option)"
)]
pub struct WrongAddress(String);

impl FromStr for Address {
    type Err = WrongAddress;

    fn from_str(text: &str) -> Result<Address, WrongAddress> {
        let port_alone = text.strip_prefix(':').unwrap_or(text);
        if let Ok(port) = port_alone.parse::<u16>() {
            return Ok(Address(SocketAddr::from((Ipv4Addr::LOCALHOST, port))));
        }
        let text_of_ip = text.replace("localhost:", "127.0.0.1:");
        text_of_ip
            .parse()
            .map(Address)
            .map_err(|_| WrongAddress(text.to_owned()))
    }
}

/// Who may ask. The loopback interface is for everybody on this machine, but not for a page of another site whose name was made
/// to point here: the name that was asked for must be one of this machine. Elsewhere a token is needed.
#[derive(Clone, Debug)]
pub(super) struct Guard {
    loopback: bool,
    /// Compared as digests: in the same time, however much of a guess is right.
    token: Option<blake3::Hash>,
}

/// Why a request is turned away.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// The token is missing or another one.
    Token,
    /// The name that was asked for is none of this machine.
    Host,
}

impl Guard {
    pub(super) fn new(address: SocketAddr, token: Option<&str>) -> Guard {
        Guard {
            loopback: address.ip().is_loopback(),
            token: token.map(|token| blake3::hash(token.as_bytes())),
        }
    }

    /// Whether a request may pass: its `Host`, its `Authorization`, and the query of its path.
    pub(super) fn admit(
        &self,
        host: Option<&str>,
        authorization: Option<&str>,
        query: Option<&str>,
    ) -> Result<(), Refusal> {
        if self.loopback && !host.is_some_and(is_this_machine) {
            return Err(Refusal::Host);
        }
        let Some(token) = self.token else {
            return Ok(());
        };
        let bearer = authorization.and_then(|value| value.strip_prefix("Bearer "));
        let asked = query.unwrap_or_default().split('&');
        let told = asked.filter_map(|pair| pair.strip_prefix("token="));
        let admitted = told
            .chain(bearer)
            .any(|told| blake3::hash(told.as_bytes()) == token);
        if admitted {
            Ok(())
        } else {
            Err(Refusal::Token)
        }
    }
}

/// `localhost:8700`, `127.0.0.1`, `[::1]:8700`.
fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name == "localhost" || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> Result<String, String> {
        let read: Result<Address, _> = text.parse();
        read.map(|Address(at)| at.to_string())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_is_an_ip_and_a_port_or_a_port() {
        assert_eq!(address("8700").unwrap(), "127.0.0.1:8700");
        assert_eq!(address(":8700").unwrap(), "127.0.0.1:8700");
        assert_eq!(address("localhost:0").unwrap(), "127.0.0.1:0");
        assert_eq!(address("0.0.0.0:9").unwrap(), "0.0.0.0:9");
        assert_eq!(address("[::1]:9").unwrap(), "[::1]:9");
        assert_eq!(
            address("gate.yaml").unwrap_err(),
            "`gate.yaml` is not an address like `127.0.0.1:8700` or `8700` (a file stands before this option)"
        );
    }

    #[test]
    fn on_loopback_only_names_of_this_machine_are_served() {
        let guard = Guard::new("127.0.0.1:8700".parse().unwrap(), None);
        for host in [
            "localhost:8700",
            "127.0.0.1:8700",
            "[::1]:8700",
            "127.0.0.1",
        ] {
            assert_eq!(guard.admit(Some(host), None, None), Ok(()), "{host}");
        }
        for host in [Some("evil.example:8700"), Some("10.0.0.1:8700"), None] {
            assert_eq!(
                guard.admit(host, None, None),
                Err(Refusal::Host),
                "{host:?}"
            );
        }
    }

    #[test]
    fn a_token_is_told_in_the_query_or_as_a_bearer() {
        let guard = Guard::new("0.0.0.0:8700".parse().unwrap(), Some("s3cret"));
        let asked = |bearer, query| guard.admit(Some("bench-03:8700"), bearer, query);
        assert_eq!(asked(None, Some("token=s3cret")), Ok(()));
        assert_eq!(asked(None, Some("a=b&token=s3cret")), Ok(()));
        assert_eq!(asked(Some("Bearer s3cret"), None), Ok(()));
        for (bearer, query) in [
            (None, None),
            (None, Some("token=s3cre")),
            (Some("Bearer other"), None),
            (Some("s3cret"), None),
        ] {
            assert_eq!(asked(bearer, query), Err(Refusal::Token));
        }
    }
}
