//! Requests as bytes: when one is whole, and what it asks for.

use serde::Deserialize;

use super::answer::Api;

/// The most headers that a request may have.
const HEADERS: usize = 64;
/// Tokens of a request that does not say.
const DEFAULT_TOKENS: usize = 16;

/// What came on a connection.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Asked {
    /// More bytes are needed.
    Nothing,
    /// A stream of so many events.
    Stream {
        /// Its bytes in the input.
        size: usize,
        /// Which API.
        api: Api,
        /// Its `x-request-id`.
        id: Option<String>,
        /// How many.
        events: usize,
        /// About how many tokens its prompt has: four bytes each.
        prompt_tokens: usize,
    },
    /// Something else: the answer, whole.
    Other {
        /// Its bytes in the input.
        size: usize,
        /// The response.
        answer: String,
    },
    /// No HTTP.
    Malformed,
}

#[derive(Deserialize)]
struct Body {
    stream: Option<bool>,
    max_tokens: Option<usize>,
    max_completion_tokens: Option<usize>,
}

/// Reads the first request of `input`.
pub(super) fn read(input: &[u8]) -> Asked {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS];
    let mut head = httparse::Request::new(&mut headers);
    let head_size = match head.parse(input) {
        Ok(httparse::Status::Complete(size)) => size,
        Ok(httparse::Status::Partial) => return Asked::Nothing,
        Err(_) => return Asked::Malformed,
    };
    let value = |name: &str| {
        let mut found = head.headers.iter();
        found
            .find(|header| header.name.eq_ignore_ascii_case(name))
            .and_then(|header| std::str::from_utf8(header.value).ok())
    };
    let length = match value("content-length").map(str::parse) {
        None => 0,
        Some(Ok(length)) => length,
        Some(Err(_)) => return Asked::Malformed,
    };
    let Some(body) = input.get(head_size..head_size.saturating_add(length)) else {
        return Asked::Nothing;
    };
    let size = head_size + length;
    let whole = |status: &str, body: &str| Asked::Other {
        size,
        answer: format!(
            "HTTP/1.1 {status}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        ),
    };
    let api = match (head.method, head.path) {
        (Some("POST"), Some("/v1/chat/completions")) => Api::Chat,
        (Some("POST"), Some("/v1/completions")) => Api::Completions,
        (Some("GET"), Some("/v1/models")) => {
            return whole(
                "200 OK",
                r#"{"object":"list","data":[{"id":"truth","object":"model","owned_by":"scenario"}]}"#,
            );
        }
        (Some("GET"), Some("/health")) => return whole("200 OK", "{}"),
        (Some("GET"), Some("/version")) => {
            return whole("200 OK", r#"{"version":"truth","simulated":true}"#);
        }
        _ => return whole("404 Not Found", r#"{"detail":"Not Found"}"#),
    };
    match serde_json::from_slice::<Body>(body) {
        Ok(Body {
            stream: Some(true),
            max_tokens,
            max_completion_tokens,
        }) => Asked::Stream {
            size,
            api,
            id: value("x-request-id").map(str::to_owned),
            events: max_tokens
                .or(max_completion_tokens)
                .unwrap_or(DEFAULT_TOKENS)
                .max(1),
            prompt_tokens: body.len().div_ceil(4),
        },
        Ok(_) => whole(
            "400 Bad Request",
            r#"{"error":{"message":"the truth server only streams: set `stream: true`"}}"#,
        ),
        Err(_) => whole(
            "400 Bad Request",
            r#"{"error":{"message":"the body is no JSON object"}}"#,
        ),
    }
}
