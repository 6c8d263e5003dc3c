//! One small request and its whole answer: probes, model lists, metrics pages.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use hyper::Request;
use hyper::client::conn::http1;
use hyper::header::HeaderMap;
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::connection::{OpenError, StreamError};
use super::endpoint::Endpoint;

/// The most that is read of an answer.
const LIMIT: usize = 8 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No connection.
    #[error(transparent)]
    Open(#[from] OpenError),
    /// The exchange broke off.
    #[error("{url}: {error}")]
    Stream {
        /// What was asked for.
        url: String,
        /// How it broke off.
        error: StreamError,
    },
    /// It took too long.
    #[error("{url} did not answer within {}", crate::units::format_duration(*.within))]
    TimedOut {
        /// What was asked for.
        url: String,
        /// The limit.
        within: Duration,
    },
    /// The answer is larger than is sensible.
    #[error("{url} answered more than {} MiB", LIMIT >> 20)]
    TooLarge {
        /// What was asked for.
        url: String,
    },
}

/// A whole answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// HTTP status.
    pub status: u16,
    /// The body, invalid UTF-8 replaced.
    pub body: String,
}

/// Asks for `path` (appended to the endpoint's prefix) with GET, or with POST when there is a body. Runs on a thread with a
/// current-thread runtime.
///
/// # Errors
/// See [`FetchError`]. An HTTP status is an answer, whatever it is.
pub async fn fetch(
    endpoint: &Endpoint,
    path: &str,
    headers: &HeaderMap,
    body: Option<Bytes>,
    within: Duration,
) -> Result<Answer, FetchError> {
    let url = format!("{endpoint}{path}");
    match tokio::time::timeout(within, exchange(endpoint, path, headers, body, &url)).await {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::TimedOut { url, within }),
    }
}

async fn exchange(
    endpoint: &Endpoint,
    path: &str,
    headers: &HeaderMap,
    body: Option<Bytes>,
    url: &str,
) -> Result<Answer, FetchError> {
    let broken = |error| FetchError::Stream {
        url: url.to_owned(),
        error,
    };
    let mut request = Request::builder()
        .method(if body.is_some() { "POST" } else { "GET" })
        .uri(endpoint.target(path))
        .header("host", endpoint.authority())
        .header("accept", "*/*")
        .header(
            "user-agent",
            concat!("scenario/", env!("CARGO_PKG_VERSION")),
        )
        .header("connection", "close");
    if body.is_some() {
        request = request.header("content-type", "application/json");
    }
    let mut request = request
        .body(Full::new(body.unwrap_or_default()))
        .map_err(|error| broken(StreamError::Malformed(error.to_string())))?;
    request.headers_mut().extend(headers.clone());
    if let Some(authorization) = endpoint.proxy_authorization() {
        let value = authorization
            .parse()
            .map_err(|_| broken(StreamError::Malformed("the proxy's credentials".to_owned())))?;
        request.headers_mut().insert("proxy-authorization", value);
    }
    let refused = |error| OpenError::Connect {
        endpoint: endpoint.to_string(),
        error,
    };
    let mut stream = TcpStream::connect(endpoint.addresses.as_slice())
        .await
        .map_err(refused)?;
    if let (Some(proxy), Some(_)) = (&endpoint.proxy, &endpoint.tls) {
        let authority = format!("{}:{}", endpoint.host, endpoint.port);
        proxy
            .tunnel(&mut stream, &authority)
            .await
            .map_err(refused)?;
    }
    match &endpoint.tls {
        None => ask(TokioIo::new(stream), request, url).await,
        Some(config) => {
            let failed = |error| OpenError::Tls {
                endpoint: endpoint.to_string(),
                error,
            };
            let name = ServerName::try_from(endpoint.host.clone())
                .map_err(|error| failed(io::Error::new(io::ErrorKind::InvalidInput, error)))?;
            let stream = TlsConnector::from(config.clone())
                .connect(name, stream)
                .await
                .map_err(failed)?;
            ask(TokioIo::new(stream), request, url).await
        }
    }
}

async fn ask(
    transport: impl hyper::rt::Read + hyper::rt::Write + Unpin,
    request: Request<Full<Bytes>>,
    url: &str,
) -> Result<Answer, FetchError> {
    let broken = |error: hyper::Error| FetchError::Stream {
        url: url.to_owned(),
        error: stream_error(&error),
    };
    let (mut sender, driver) = http1::handshake(transport).await.map_err(broken)?;
    // The connection ends when nobody can send on it any more.
    let answer = async move {
        let response = sender.send_request(request).await.map_err(broken)?;
        let status = response.status().as_u16();
        let body = Limited::new(response.into_body(), LIMIT).collect().await;
        let body = body.map_err(|error| match error.downcast::<hyper::Error>() {
            Ok(error) => broken(*error),
            Err(error) => {
                debug_assert!(error.is::<LengthLimitError>());
                FetchError::TooLarge {
                    url: url.to_owned(),
                }
            }
        })?;
        Ok(Answer {
            status,
            body: String::from_utf8_lossy(&body.to_bytes()).into_owned(),
        })
    };
    // What the driver has to say, the exchange says.
    let (answer, _) = tokio::join!(answer, driver);
    answer
}

fn stream_error(error: &hyper::Error) -> StreamError {
    if error.is_incomplete_message() || error.is_canceled() || error.is_closed() {
        return StreamError::Truncated;
    }
    let cause =
        std::error::Error::source(error).and_then(|cause| cause.downcast_ref::<io::Error>());
    match cause {
        Some(system) if system.kind() == io::ErrorKind::UnexpectedEof => StreamError::Truncated,
        Some(system) => StreamError::Reset(system.to_string()),
        None => StreamError::Malformed(error.to_string()),
    }
}
