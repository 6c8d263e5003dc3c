//! The bytes of an answer. Its events are all alike, so a place in the stream is a number and nothing is written per event.

use std::io::IoSlice;

/// Events that lie ready in one piece: the most that one call sends.
const BLOCK: usize = 256;

/// The events of an API, as HTTP chunks one after another.
#[derive(Debug)]
pub(super) struct Events {
    /// Bytes of one event with its chunk framing.
    pub(super) size: usize,
    /// One event more than a call sends, so that a call may begin within one.
    block: Vec<u8>,
}

/// Which API was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Api {
    Chat,
    Completions,
}

impl Api {
    fn name(self) -> &'static str {
        match self {
            Api::Chat => "chat.completion.chunk",
            Api::Completions => "text_completion",
        }
    }

    /// The event of one token, as vLLM writes it.
    fn token(self) -> String {
        let choice = match self {
            Api::Chat => r#""delta":{"content":" token"}"#,
            Api::Completions => r#""text":" token""#,
        };
        format!(
            r#"data: {}"choices":[{{"index":0,{choice},"logprobs":null,"finish_reason":null,"token_ids":null}}]}}"#,
            self.opening()
        )
    }

    fn opening(self) -> String {
        format!(
            r#"{{"id":"chatcmpl-0123456789abcdef","object":"{}","created":1700000000,"model":"truth","#,
            self.name()
        )
    }

    /// What follows the last token: the reason, the usage, the end.
    pub(super) fn ending(self, events: usize, prompt_tokens: usize) -> Vec<u8> {
        let choice = match self {
            Api::Chat => r#""delta":{}"#,
            Api::Completions => r#""text":"""#,
        };
        let opening = self.opening();
        let reason = format!(
            r#"data: {opening}"choices":[{{"index":0,{choice},"finish_reason":"length"}}]}}"#
        );
        let usage = format!(
            r#"data: {opening}"choices":[],"usage":{{"prompt_tokens":{prompt_tokens},"total_tokens":{},"completion_tokens":{events}}}}}"#,
            prompt_tokens + events
        );
        let mut bytes = Vec::new();
        for event in [reason.as_str(), usage.as_str(), "data: [DONE]"] {
            bytes.extend_from_slice(&chunk(event));
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }
}

fn chunk(event: &str) -> Vec<u8> {
    format!("{:x}\r\n{event}\n\n\r\n", event.len() + 2).into_bytes()
}

impl Events {
    pub(super) fn of(api: Api) -> Events {
        let one = chunk(&api.token());
        Events {
            size: one.len(),
            block: one.repeat(BLOCK + 1),
        }
    }

    /// The next bytes to send of an answer of which `sent` were sent and `allowed` may be: of its events, and of its ending once
    /// all of them are allowed.
    pub(super) fn slices<'a>(
        &'a self,
        sent: usize,
        allowed: usize,
        events: usize,
        ending: &'a [u8],
    ) -> [IoSlice<'a>; 2] {
        let within = sent % self.size;
        let left = (allowed * self.size).saturating_sub(sent);
        let now = left.min(BLOCK * self.size);
        let all_events = events * self.size;
        let tail = if allowed == events && left == now {
            &ending[sent.saturating_sub(all_events)..]
        } else {
            &[]
        };
        [
            IoSlice::new(&self.block[within..within + now]),
            IoSlice::new(tail),
        ]
    }
}
