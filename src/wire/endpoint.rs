//! Where a server is: host, port, path prefix and the addresses behind the name.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use rustls::ClientConfig;

use super::proxy::Proxy;
use super::tls::TlsError;

/// A server that requests go to, resolved once.
#[derive(Clone)]
pub struct Endpoint {
    /// Host as written, for the `Host` header and TLS.
    pub host: String,
    /// The port.
    pub port: u16,
    /// Path prefix without a trailing slash: `/v1`, or empty.
    pub prefix: String,
    /// The addresses behind the host, in the order that the resolver gave.
    pub addresses: Vec<SocketAddr>,
    /// TLS, when the scheme is `https`.
    pub tls: Option<Arc<ClientConfig>>,
    /// The proxy that stands between; then `addresses` are its own.
    pub proxy: Option<Arc<Proxy>>,
}

/// Why a URL is no endpoint.
#[derive(Debug, thiserror::Error)]
pub enum EndpointError {
    /// Not a URL of the right form.
    #[error("`{url}` is not a URL: {reason}")]
    Url {
        /// What was written.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The name has no address.
    #[error("cannot resolve `{host}`: {error}")]
    Resolve {
        /// The name.
        host: String,
        /// What the resolver said.
        error: std::io::Error,
    },
    /// It is an `https` URL, and nothing can be trusted.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl Endpoint {
    /// Reads a URL and resolves its host. `tls` is asked for `https` only: reading the system's authorities takes milliseconds.
    ///
    /// # Errors
    /// The text is no http or https URL, the name has no address, or `tls` fails.
    pub async fn resolve(
        url: &str,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, TlsError>,
    ) -> Result<Endpoint, EndpointError> {
        Endpoint::resolve_through(None, url, tls).await
    }

    /// The same through a proxy, which resolves the host in our place.
    ///
    /// # Errors
    /// As [`Endpoint::resolve`].
    pub async fn resolve_through(
        proxy: Option<Proxy>,
        url: &str,
        tls: impl FnOnce() -> Result<Arc<ClientConfig>, TlsError>,
    ) -> Result<Endpoint, EndpointError> {
        let bad = |reason: &str| EndpointError::Url {
            url: url.to_owned(),
            reason: reason.to_owned(),
        };
        let uri: hyper::Uri = url
            .trim()
            .parse()
            .map_err(|error: hyper::http::uri::InvalidUri| bad(&error.to_string()))?;
        let secure = match uri.scheme_str() {
            Some("http") => false,
            Some("https") => true,
            _ => return Err(bad("it starts with neither http:// nor https://")),
        };
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(bad(
                "a user name or password in a URL would be printed; use `auth`",
            ));
        }
        let host = uri
            .host()
            .ok_or_else(|| bad("it names no host"))?
            .trim_matches(['[', ']'])
            .to_owned();
        let port = uri.port_u16().unwrap_or(if secure { 443 } else { 80 });
        let addresses: Vec<SocketAddr> = match &proxy {
            Some(proxy) => proxy.addresses.clone(),
            None => tokio::net::lookup_host((host.as_str(), port))
                .await
                .map_err(|error| EndpointError::Resolve {
                    host: host.clone(),
                    error,
                })?
                .collect(),
        };
        let prefix = uri.path().trim_end_matches('/').to_owned();
        Ok(Endpoint {
            host,
            port,
            prefix,
            addresses,
            tls: secure.then(tls).transpose()?,
            proxy: proxy.map(Arc::new),
        })
    }

    /// The same server with another path prefix.
    pub fn with_prefix(&self, prefix: impl Into<String>) -> Endpoint {
        Endpoint {
            prefix: prefix.into(),
            ..self.clone()
        }
    }

    /// The value of the `Host` header.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls.is_some(), self.port) {
            (false, 80) | (true, 443) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// What a request line names: the path, and before it the server where a proxy has to be told.
    pub fn target(&self, path: &str) -> String {
        let server = match (&self.proxy, &self.tls) {
            (Some(_), None) => format!("http://{}", self.authority()),
            // Inside of a tunnel nobody stands between.
            (Some(_), Some(_)) | (None, _) => String::new(),
        };
        format!("{server}{}{path}", self.prefix)
    }

    /// What a proxy wants to hear with each request that it reads.
    pub fn proxy_authorization(&self) -> Option<&str> {
        let proxy = self.proxy.as_ref().filter(|_| self.tls.is_none())?;
        proxy.authorization.as_deref()
    }

    /// Whether every address is this machine, and the server's own.
    pub fn is_loopback(&self) -> bool {
        self.proxy.is_none()
            && !self.addresses.is_empty()
            && self
                .addresses
                .iter()
                .all(|address| address.ip().is_loopback())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}{}", self.authority(), self.prefix)
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn endpoint(url: &str) -> Result<Endpoint, EndpointError> {
        Endpoint::resolve(url, || unreachable!("no https here")).await
    }

    #[tokio::test]
    async fn a_url_is_read_into_its_parts() {
        let read = endpoint("http://127.0.0.1:8000/v1/").await.unwrap();
        assert_eq!(
            (read.port, read.prefix.as_str(), read.to_string().as_str()),
            (8000, "/v1", "http://127.0.0.1:8000/v1")
        );
        assert!(read.is_loopback());
    }

    #[tokio::test]
    async fn other_schemes_and_passwords_are_refused() {
        assert!(
            endpoint("ftp://127.0.0.1")
                .await
                .unwrap_err()
                .to_string()
                .contains("http://")
        );
        assert!(endpoint("127.0.0.1:8000").await.is_err());
        assert!(
            endpoint("http://me:secret@127.0.0.1")
                .await
                .unwrap_err()
                .to_string()
                .contains("`auth`")
        );
    }
}
