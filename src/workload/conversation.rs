//! Conversations: what a person says, turn by turn, and what was answered when it was recorded.

use std::sync::Arc;

use serde_json::Value;

use super::facts::DropReason;
use super::row::{self, said};
use super::select::Unfit;

/// A conversation that is sent turn by turn.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Conversation {
    /// What the model is told before anybody speaks.
    pub system: Option<Arc<str>>,
    /// What is said and answered; never empty.
    pub turns: Vec<Turn>,
}

/// What a person says, and what was answered then.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    /// What the person says.
    pub said: Arc<str>,
    /// The recorded answer. Only the last turn may have none.
    pub answer: Option<Arc<str>>,
}

/// Which conversations of a file are wanted, and how much of each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TurnFilter {
    /// Conversations with fewer turns are left out.
    pub min_turns: u32,
    /// Longer ones end after so many.
    pub max_turns: u32,
    /// Whether recorded answers are part of what is sent.
    pub recorded: bool,
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// What the model is told before anybody speaks.
    System,
    /// The person.
    User,
    /// The model.
    Assistant,
}

impl Role {
    /// The word of chat APIs and chat templates.
    pub fn name(self) -> &'static str {
        match self {
            Role::System => "system",
            Role::User => "user",
            Role::Assistant => "assistant",
        }
    }

    /// The role that a data set's word means.
    fn of(word: &str) -> Option<Role> {
        Some(match word.to_ascii_lowercase().as_str() {
            "system" => Role::System,
            "human" | "user" => Role::User,
            "gpt" | "assistant" | "chatgpt" | "bing" | "bard" | "model" | "bot" => Role::Assistant,
            _ => return None,
        })
    }
}

impl Conversation {
    /// The conversation that a list of messages holds.
    ///
    /// Several messages of one speaker in a row are one turn; those without a text are passed over.
    pub(super) fn of(messages: Value, wanted: &TurnFilter) -> Result<Conversation, Unfit> {
        let Value::Array(messages) = messages else {
            return Err(Unfit::Bad(format!(
                "is {}, not a list of messages",
                row::shown(&messages)
            )));
        };
        let mut system: Option<String> = None;
        let mut turns: Vec<(String, Option<String>)> = Vec::new();
        for (number, mut message) in messages.into_iter().enumerate() {
            let speaker = message.get("from").or_else(|| message.get("role"));
            let Some(word) = speaker.and_then(Value::as_str) else {
                return Err(Unfit::Bad(format!(
                    "nobody says message {}: it has no `from` or `role`",
                    number + 1
                )));
            };
            let role = Role::of(word);
            let text = ["value", "content", "text"]
                .iter()
                .find_map(|key| message.get_mut(*key).map(Value::take))
                .and_then(said)
                .filter(|text| !text.trim().is_empty());
            let Some(text) = text else { continue };
            match (role, turns.last_mut()) {
                (Some(Role::System), None) => join(&mut system, text),
                (Some(Role::User), Some((said, None))) => {
                    said.push_str("\n\n");
                    said.push_str(&text);
                }
                (Some(Role::User), _) => turns.push((text, None)),
                (Some(Role::Assistant), Some((_, answer))) => join(answer, text),
                (Some(Role::Assistant), None) => {
                    return Err(Unfit::Dropped(DropReason::NotHumanFirst));
                }
                (None, _) | (Some(Role::System), Some(_)) => {
                    return Err(Unfit::Dropped(DropReason::OtherSpeaker));
                }
            }
        }
        if turns.is_empty() {
            return Err(Unfit::Dropped(DropReason::NoText));
        }
        if turns.len() < wanted.min_turns as usize {
            return Err(Unfit::Dropped(DropReason::FewTurns));
        }
        turns.truncate(wanted.max_turns as usize);
        Ok(Conversation {
            system: system.map(Arc::from),
            turns: turns
                .into_iter()
                .map(|(said, answer)| Turn {
                    said: said.into(),
                    answer: answer.filter(|_| wanted.recorded).map(Arc::from),
                })
                .collect(),
        })
    }

    /// The same conversation with other words at its beginning.
    pub(super) fn beginning(&self, said: &str) -> Conversation {
        let mut conversation = self.clone();
        if let Some(first) = conversation.turns.first_mut() {
            first.said = said.into();
        }
        conversation
    }
}

fn join(before: &mut Option<String>, text: String) {
    match before {
        Some(before) => {
            before.push_str("\n\n");
            before.push_str(&text);
        }
        None => *before = Some(text),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(messages: Value) -> Result<Conversation, Unfit> {
        let wanted = TurnFilter {
            min_turns: 1,
            max_turns: 2,
            recorded: true,
        };
        Conversation::of(messages, &wanted)
    }

    fn told(conversation: &Conversation) -> Vec<(&str, Option<&str>)> {
        conversation
            .turns
            .iter()
            .map(|turn| (&*turn.said, turn.answer.as_deref()))
            .collect()
    }

    #[test]
    fn turns_are_what_a_person_says_and_what_is_answered() {
        let conversation = read(json!([
            { "role": "system", "content": "Be short." },
            { "role": "user", "content": "One?" },
            { "role": "user", "content": [{ "type": "text", "text": "Two?" }] },
            { "role": "assistant", "content": "Yes." },
            { "from": "human", "value": "Three?" },
            { "from": "gpt", "value": "" },
            { "from": "human", "value": "Four?" },
            { "from": "gpt", "value": "No." },
            { "from": "human", "value": "Five?" },
        ]))
        .unwrap();
        assert_eq!(conversation.system.as_deref(), Some("Be short."));
        assert_eq!(
            told(&conversation),
            [
                ("One?\n\nTwo?", Some("Yes.")),
                ("Three?\n\nFour?", Some("No."))
            ]
        );
    }

    #[test]
    fn what_is_no_conversation_is_told_apart() {
        let reason = |messages| read(messages).unwrap_err();
        let dropped = Unfit::Dropped;
        assert_eq!(reason(json!([])), dropped(DropReason::NoText));
        assert_eq!(
            reason(json!([{ "from": "gpt", "value": "Hello." }])),
            dropped(DropReason::NotHumanFirst)
        );
        assert_eq!(
            reason(json!([{ "from": "human", "value": "Hi." }, { "from": "tool", "value": "{}" }])),
            dropped(DropReason::OtherSpeaker)
        );
        assert_eq!(
            reason(json!([{ "value": "Hi." }])),
            Unfit::Bad("nobody says message 1: it has no `from` or `role`".to_owned())
        );
        assert_eq!(
            reason(json!("Hi.")),
            Unfit::Bad("is `\"Hi.\"`, not a list of messages".to_owned())
        );
        let two = TurnFilter {
            min_turns: 2,
            max_turns: 9,
            recorded: false,
        };
        let one = json!([{ "from": "human", "value": "Hi." }]);
        assert_eq!(
            Conversation::of(one, &two).unwrap_err(),
            dropped(DropReason::FewTurns)
        );
    }
}
