//! Proxies: which one the environment names for a URL, and the tunnel through it.

use std::io;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// The most that a proxy may say before a tunnel is open.
const HEAD_LIMIT: usize = 16 << 10;

/// A proxy that requests go through.
#[derive(Clone, PartialEq, Eq)]
pub struct Proxy {
    /// Its address as it may be shown: without credentials.
    pub url: String,
    /// The addresses behind its name.
    pub addresses: Vec<SocketAddr>,
    /// What it wants to hear of who asks.
    pub authorization: Option<String>,
}

/// The proxy that the environment names for a URL; `variable` reads one of its variables. `http_proxy` is for `http`,
/// `https_proxy` for `https`, `all_proxy` for both, and hosts in `no_proxy` need none; as curl reads them.
pub fn of_environment(
    scheme: &str,
    host: &str,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<String> {
    // `HTTP_PROXY` in capitals is what a CGI script is told by whoever asks it: nobody reads it.
    let names: &[&str] = match scheme {
        "https" => &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"],
        _ => &["http_proxy", "all_proxy", "ALL_PROXY"],
    };
    let proxy = names
        .iter()
        .find_map(|name| variable(name).filter(|url| !url.trim().is_empty()))?;
    let exempt = variable("no_proxy").or_else(|| variable("NO_PROXY"));
    let is_exempt = exempt.is_some_and(|list| list.split(',').any(|entry| covers(entry, host)));
    (!is_exempt).then_some(proxy)
}

/// Whether an entry of `no_proxy` means this host: itself, a domain that it is in, or `*`.
fn covers(entry: &str, host: &str) -> bool {
    let entry = entry.trim().trim_start_matches('.').to_lowercase();
    let host = host.to_lowercase();
    entry == "*"
        || (!entry.is_empty()
            && (host == entry
                || host
                    .strip_suffix(&entry)
                    .is_some_and(|rest| rest.ends_with('.'))))
}

impl Proxy {
    /// Reads a proxy's URL and resolves its host.
    ///
    /// # Errors
    /// It is no http URL, or its name has no address: in words.
    pub async fn resolve(url: &str) -> Result<Proxy, String> {
        let with_scheme = if url.contains("://") {
            url.to_owned()
        } else {
            format!("http://{url}")
        };
        let bad = |reason: &str| format!("the proxy `{}` {reason}", without_credentials(url));
        let uri: hyper::Uri = with_scheme
            .trim()
            .trim_end_matches('/')
            .parse()
            .map_err(|_| bad("is no URL"))?;
        if uri.scheme_str() != Some("http") {
            return Err(bad("is not spoken to by http://, as this tool does"));
        }
        let host = uri.host().ok_or_else(|| bad("names no host"))?;
        let port = uri.port_u16().unwrap_or(80);
        let addresses: Vec<SocketAddr> =
            tokio::net::lookup_host((host.trim_matches(['[', ']']), port))
                .await
                .map_err(|error| bad(&format!("cannot be resolved: {error}")))?
                .collect();
        let authority = uri.authority().map_or("", |authority| authority.as_str());
        let credentials = authority.rsplit_once('@').map(|(before, _)| before);
        Ok(Proxy {
            url: format!("http://{host}:{port}"),
            addresses,
            authorization: credentials.map(|text| format!("Basic {}", STANDARD.encode(text))),
        })
    }

    /// Opens a tunnel to `authority`, `host:port`, on a fresh connection to the proxy.
    ///
    /// # Errors
    /// The proxy refuses, or says something else.
    pub async fn tunnel(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        authority: &str,
    ) -> io::Result<()> {
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nhost: {authority}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("proxy-authorization: {authorization}\r\n"));
        }
        request.push_str("\r\n");
        stream.write_all(request.as_bytes()).await?;
        stream.flush().await?;
        // A byte at a time: what follows the head belongs to the server.
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            if head.len() > HEAD_LIMIT {
                return Err(io::Error::other("the proxy's answer has no end"));
            }
            head.push(stream.read_u8().await?);
        }
        let head = String::from_utf8_lossy(&head);
        let line = head.lines().next().unwrap_or_default();
        match line.split(' ').nth(1) {
            Some("200") => Ok(()),
            _ => Err(io::Error::other(format!("the proxy answers `{line}`"))),
        }
    }
}

impl std::fmt::Debug for Proxy {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.url)
    }
}

fn without_credentials(url: &str) -> String {
    match (url.split_once("://"), url.rsplit_once('@')) {
        (Some((scheme, _)), Some((_, host))) => format!("{scheme}://{host}"),
        (None, Some((_, host))) => host.to_owned(),
        (_, None) => url.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_environment_names_a_proxy_for_each_scheme() {
        let named = |scheme: &str, host: &str, set: &[(&str, &str)]| {
            of_environment(scheme, host, |name| {
                let found = set.iter().find(|(known, _)| *known == name);
                found.map(|(_, value)| (*value).to_owned())
            })
        };
        let both = [("http_proxy", "http://a:1"), ("HTTPS_PROXY", "http://b:2")];
        assert_eq!(named("http", "x", &both).as_deref(), Some("http://a:1"));
        assert_eq!(named("https", "x", &both).as_deref(), Some("http://b:2"));
        assert_eq!(named("http", "x", &[("HTTP_PROXY", "http://a:1")]), None);
        let all = |exempt| [("all_proxy", "p:3"), ("no_proxy", exempt)];
        for (exempt, host, proxied) in [
            ("localhost,.corp.example", "api.corp.example", false),
            ("corp.example", "corp.example", false),
            ("corp.example", "mycorp.example", true),
            ("*", "anything", false),
            ("", "anything", true),
        ] {
            let found = named("http", host, &all(exempt));
            assert_eq!(found.is_some(), proxied, "{exempt} {host}");
        }
    }

    #[test]
    fn credentials_are_sent_and_never_shown() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let proxy = runtime
            .block_on(Proxy::resolve("http://me:secret@127.0.0.1:3128/"))
            .unwrap();
        assert_eq!(proxy.url, "http://127.0.0.1:3128");
        assert_eq!(proxy.authorization.as_deref(), Some("Basic bWU6c2VjcmV0"));
        assert!(!format!("{proxy:?}").contains("secret"));
        let refused = runtime
            .block_on(Proxy::resolve("socks5://me:secret@127.0.0.1:1080"))
            .unwrap_err();
        assert_eq!(
            refused,
            "the proxy `socks5://127.0.0.1:1080` is not spoken to by http://, as this tool does"
        );
    }
}
