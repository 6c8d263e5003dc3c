//! One small request and its whole answer: probes, model lists, metrics pages.

use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::Request;
use hyper::header::HeaderMap;

use super::connection::{Connection, OpenError, StreamError};
use super::endpoint::Endpoint;
use super::stamp::{StampClock, Stamps};
use crate::clock::Clock;

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
    match tokio::time::timeout(
        within,
        exchange(endpoint, path, headers, body, within, &url),
    )
    .await
    {
        Ok(answer) => answer,
        Err(_) => Err(FetchError::TimedOut { url, within }),
    }
}

async fn exchange(
    endpoint: &Endpoint,
    path: &str,
    headers: &HeaderMap,
    body: Option<Bytes>,
    within: Duration,
    url: &str,
) -> Result<Answer, FetchError> {
    let broken = |error| FetchError::Stream {
        url: url.to_owned(),
        error,
    };
    let clock = Rc::new(StampClock::new(Clock::start()));
    let mut connection = Connection::open(endpoint, &clock, Stamps::default(), within).await?;
    let mut request = Request::builder()
        .method(if body.is_some() { "POST" } else { "GET" })
        .uri(format!("{}{path}", endpoint.prefix))
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
    let (head, mut incoming) = connection.head(request).await.map_err(broken)?.into_parts();
    let mut whole = Vec::new();
    while let Some(piece) = connection.frame(&mut incoming).await {
        whole.extend_from_slice(&piece.map_err(broken)?);
        if whole.len() > LIMIT {
            return Err(FetchError::TooLarge {
                url: url.to_owned(),
            });
        }
    }
    Ok(Answer {
        status: head.status.as_u16(),
        body: String::from_utf8_lossy(&whole).into_owned(),
    })
}
