//! Conversations: what a person says, turn by turn, and what was answered when it was recorded.

use std::sync::Arc;

use serde_json::Value;

use super::facts::DropReason;
use super::images::{self, Named};
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
    /// The images that are shown with it: the parts of a message that hold them, each behind a comma.
    pub images: Option<Arc<str>>,
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
    /// The conversation that a list of messages holds, and the images that are named in it.
    ///
    /// Several messages of one speaker in a row are one turn; those that say and show nothing are passed over.
    pub(super) fn of(
        messages: Value,
        wanted: &TurnFilter,
    ) -> Result<(Conversation, Vec<Named>), Unfit> {
        let Value::Array(messages) = messages else {
            return Err(Unfit::Bad(format!(
                "is {}, not a list of messages",
                row::shown(&messages)
            )));
        };
        let mut system: Option<String> = None;
        let mut turns: Vec<(String, Option<String>)> = Vec::new();
        let mut shown: Vec<Named> = Vec::new();
        for (number, mut message) in messages.into_iter().enumerate() {
            let speaker = message.get("from").or_else(|| message.get("role"));
            let Some(word) = speaker.and_then(Value::as_str) else {
                return Err(Unfit::Bad(format!(
                    "nobody says message {}: it has no `from` or `role`",
                    number + 1
                )));
            };
            let role = Role::of(word);
            let content = ["value", "content", "text"]
                .iter()
                .find_map(|key| message.get_mut(*key).map(Value::take));
            let images = content.as_ref().map(images::named_in).unwrap_or_default();
            let text = content.and_then(said).unwrap_or_default();
            if let (Some(role @ (Role::System | Role::Assistant)), [_, ..]) =
                (role, images.as_slice())
            {
                return Err(Unfit::Bad(format!(
                    "message {} of `{}` shows an image, and only a person shows any",
                    number + 1,
                    role.name()
                )));
            }
            if text.trim().is_empty() && images.is_empty() {
                continue;
            }
            match (role, turns.last_mut()) {
                (Some(Role::System), None) => join(&mut system, text),
                (Some(Role::User), Some((said, None))) => {
                    if !said.is_empty() && !text.is_empty() {
                        said.push_str("\n\n");
                    }
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
            shown.extend(images.into_iter().map(|image| Named {
                turn: turns.len() - 1,
                image,
            }));
        }
        if turns.is_empty() {
            return Err(Unfit::Dropped(DropReason::NoText));
        }
        if turns.len() < wanted.min_turns as usize {
            return Err(Unfit::Dropped(DropReason::FewTurns));
        }
        turns.truncate(wanted.max_turns as usize);
        shown.retain(|named| named.turn < turns.len());
        let conversation = Conversation {
            system: system.map(Arc::from),
            turns: turns
                .into_iter()
                .map(|(said, answer)| Turn {
                    said: said.into(),
                    answer: answer.filter(|_| wanted.recorded).map(Arc::from),
                    images: None,
                })
                .collect(),
        };
        Ok((conversation, shown))
    }

    /// The same conversation with what is shown in each of its turns.
    pub(super) fn showing(mut self, images: impl Fn(usize) -> Option<Arc<str>>) -> Conversation {
        for (number, turn) in self.turns.iter_mut().enumerate() {
            turn.images = images(number);
        }
        self
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
        Conversation::of(messages, &wanted).map(|(conversation, _)| conversation)
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
    fn images_belong_to_the_turn_that_shows_them() {
        let image = |name: &str| json!({ "type": "image_url", "image_url": { "url": name } });
        let text = |said: &str| json!({ "type": "text", "text": said });
        let wanted = TurnFilter {
            min_turns: 1,
            max_turns: 2,
            recorded: true,
        };
        let messages = json!([
            { "role": "user", "content": [image("a.png")] },
            { "role": "user", "content": "What is it?" },
            { "role": "assistant", "content": "A cat." },
            { "role": "user", "content": [text("And these?"), image("b.png"), image("c.png")] },
            { "role": "assistant", "content": "Dogs." },
            { "role": "user", "content": [image("d.png")] },
        ]);
        let (conversation, shown) = Conversation::of(messages, &wanted).unwrap();
        assert_eq!(
            told(&conversation),
            [
                ("What is it?", Some("A cat.")),
                ("And these?", Some("Dogs."))
            ]
        );
        let shown: Vec<_> = shown.iter().map(|one| (one.turn, &*one.image)).collect();
        assert_eq!(shown, [(0, "a.png"), (1, "b.png"), (1, "c.png")]);
        let answered = json!([
            { "role": "user", "content": "Draw." },
            { "role": "assistant", "content": [image("a.png")] },
        ]);
        assert_eq!(
            read(answered).unwrap_err(),
            Unfit::Bad(
                "message 2 of `assistant` shows an image, and only a person shows any".to_owned()
            )
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
