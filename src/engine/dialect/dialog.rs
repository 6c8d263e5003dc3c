//! The bodies of turns: what was said before stands in front of what is said now.

use bytes::Bytes;

use super::body::BodyTemplate;
use crate::workload::{Prompt, Role, content};

/// Something that was said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// By whom.
    pub role: Role,
    /// What.
    pub text: std::sync::Arc<str>,
    /// What is shown with it: parts of a message that hold images, each behind a comma.
    pub images: Option<std::sync::Arc<str>>,
}

/// How a language writes a list of messages.
#[derive(Clone, Copy, Debug)]
pub(super) struct Listing {
    /// What stands before them.
    pub(super) before: &'static str,
    /// What the model is told beforehand has a field of its own, in front.
    pub(super) system: Option<&'static str>,
}

impl BodyTemplate {
    /// The body for a turn of a conversation, in a language that takes messages; `None` in one that takes a text.
    pub fn fill_messages(&self, prompt: &Prompt, messages: &[Message]) -> Option<Bytes> {
        let (before, system) = self.listing.as_ref()?;
        let mut told = String::with_capacity(64);
        let mut listed = String::new();
        for message in messages {
            match (system, message.role) {
                (Some(field), Role::System) => {
                    told.push_str(&format!("{field}:{},", content(&message.text, None)));
                }
                (_, role) => {
                    let comma = if listed.is_empty() { "" } else { "," };
                    listed.push_str(&format!(
                        r#"{comma}{{"role":"{}","content":{}}}"#,
                        role.name(),
                        content(&message.text, message.images.as_deref())
                    ));
                }
            }
        }
        // The field of its own stands right behind the first brace.
        let (brace, rest) = before.split_at(1);
        let before = format!("{brace}{told}{rest}");
        Some(self.written(&before, &listed, "]", prompt))
    }

    /// The body for a text that a chat template has made of a conversation.
    pub fn fill_text(&self, prompt: &Prompt, text: &str) -> Bytes {
        self.written(&self.before, &content(text, None), self.close, prompt)
    }
}

#[cfg(test)]
mod tests {
    use super::super::Dialect;
    use super::*;
    use crate::plan::{Api, BackendKind, fixture};

    fn body(api: Api) -> Option<serde_json::Value> {
        let dialect = Dialect {
            api,
            kind: BackendKind::Openai,
        };
        let template = BodyTemplate::new(dialect, "m", &fixture::request());
        let said = |role, text: &str| Message {
            role,
            text: text.into(),
            images: None,
        };
        let messages = [
            said(Role::System, "Be \"short\"."),
            said(Role::User, "One?"),
            said(Role::Assistant, "Yes."),
            said(Role::User, "Two?"),
        ];
        let body = template.fill_messages(&Prompt::new("p", "One?"), &messages)?;
        Some(serde_json::from_slice(&body).unwrap())
    }

    #[test]
    fn messages_stand_where_each_language_has_them() {
        let all = serde_json::json!([
            { "role": "system", "content": "Be \"short\"." },
            { "role": "user", "content": "One?" },
            { "role": "assistant", "content": "Yes." },
            { "role": "user", "content": "Two?" },
        ]);
        for (api, key) in [
            (Api::Chat, "messages"),
            (Api::Responses, "input"),
            (Api::Ollama, "messages"),
        ] {
            assert_eq!(body(api).unwrap()[key], all, "{}", api.name());
        }
        let own = body(Api::Messages).unwrap();
        assert_eq!(own["system"], "Be \"short\".");
        assert_eq!(
            own["messages"].as_array().unwrap()[..],
            all.as_array().unwrap()[1..]
        );
        assert_eq!(own["model"], "m");
        for api in [
            Api::Completions,
            Api::Generate,
            Api::Triton,
            Api::Tgi,
            Api::Offline,
        ] {
            assert_eq!(body(api), None, "{}", api.name());
        }
    }
}
