//! The context of a model, which a prompt and its answer share: what does not fit is left out or cut.

use std::sync::Arc;

use super::conversation::Conversation;
use super::prompt::{Prompt, estimated_tokens};
use super::tokenizer::Tokenizer;

/// Tokens that a chat template puts around a message, where no tokenizer tells them.
const TEMPLATE_TOKENS: u32 = 14;

/// The room that a model has.
#[derive(Clone, Debug)]
pub struct Context {
    /// Tokens of a prompt and its answer together.
    pub tokens: u32,
    /// The longest answer that is asked for, where a prompt does not say.
    pub answer: u32,
    /// Whether a chat template is put around each message.
    pub chat: bool,
    /// What counts tokens; without one they are estimated.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

impl Context {
    /// The prompt, if it fits behind `before` tokens that are put before it; or else, where it may be cut, as much of it as does. `None`
    /// where nothing of it fits, or it may not be cut.
    pub(super) fn fit(&self, prompt: &Prompt, before: u32, clip: bool) -> Option<Prompt> {
        let answer = prompt.max_tokens.unwrap_or(self.answer);
        let room = self.tokens.checked_sub(answer)?.checked_sub(before)?;
        match &prompt.conversation {
            Some(conversation) => self.fit_turns(prompt, conversation, room, answer, clip),
            None => self.fit_text(prompt, room, clip),
        }
    }

    fn fit_text(&self, prompt: &Prompt, room: u32, clip: bool) -> Option<Prompt> {
        if self.count(&prompt.text) <= room {
            return Some(prompt.clone());
        }
        if !clip {
            return None;
        }
        let ends: Vec<usize> = prompt.text.char_indices().map(|(at, _)| at).collect();
        // The longest beginning that fits: more text is never fewer tokens, but for a seam.
        let fitting = ends.partition_point(|&end| self.count(&prompt.text[..end]) <= room);
        let cut = prompt.text[..*ends.get(fitting.checked_sub(1)?)?].trim_end();
        (!cut.is_empty()).then(|| prompt.cut_to(cut))
    }

    /// The turns that fit, each with all that was said before it.
    fn fit_turns(
        &self,
        prompt: &Prompt,
        conversation: &Conversation,
        room: u32,
        answer: u32,
        clip: bool,
    ) -> Option<Prompt> {
        let system = conversation.system.as_deref();
        let mut said = system.map_or(0, |text| self.count(text));
        let mut fitting = 0;
        for turn in &conversation.turns {
            said = said.saturating_add(self.count(&turn.said));
            if said > room {
                break;
            }
            fitting += 1;
            let answered = turn.answer.as_deref().map(|text| self.count(text));
            said = said.saturating_add(answered.unwrap_or(answer));
        }
        match fitting {
            all if all == conversation.turns.len() => Some(prompt.clone()),
            0 => None,
            some if clip => Some(Prompt {
                conversation: Some(Arc::new(Conversation {
                    system: conversation.system.clone(),
                    turns: conversation.turns[..some].to_vec(),
                })),
                ..prompt.clone()
            }),
            _ => None,
        }
    }

    /// Tokens of a message with what is put around it.
    fn count(&self, text: &str) -> u32 {
        match (&self.tokenizer, self.chat) {
            (Some(tokenizer), true) => tokenizer
                .request_tokens(text)
                .unwrap_or_else(|_| tokenizer.count(text) + tokenizer.overhead()),
            (Some(tokenizer), false) => tokenizer.count(text) + tokenizer.added(),
            (None, true) => estimated_tokens(text.chars().count()) + TEMPLATE_TOKENS,
            (None, false) => estimated_tokens(text.chars().count()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::conversation::TurnFilter;
    use super::*;

    /// Room for a hundred tokens, of which the answer takes ten; a token has four characters.
    fn context() -> Context {
        Context {
            tokens: 100,
            answer: 10,
            chat: false,
            tokenizer: None,
        }
    }

    #[test]
    fn what_fits_stays_and_what_does_not_is_left_out_or_cut() {
        let fitting = Prompt::new("a", "word".repeat(90));
        assert_eq!(context().fit(&fitting, 0, false), Some(fitting.clone()));
        assert_eq!(context().fit(&fitting, 1, false), None);
        let cut = context().fit(&fitting, 1, true).unwrap();
        assert_eq!((cut.text.len(), cut.tokens), (4 * 89, Some(89)));
        assert_eq!(&*cut.json, format!("{:?}", cut.text));
        let own = Prompt {
            max_tokens: Some(50),
            ..fitting.clone()
        };
        let cut = context().fit(&own, 0, true).unwrap();
        assert_eq!((cut.text.len(), cut.max_tokens), (4 * 50, Some(50)));
        // The answer alone is as long as the context.
        let nothing = Prompt {
            max_tokens: Some(100),
            ..fitting
        };
        assert_eq!(context().fit(&nothing, 0, true), None);
    }

    #[test]
    fn a_conversation_ends_before_the_turn_that_does_not_fit() {
        let said =
            |role: &str, tokens: usize| json!({ "role": role, "content": "word".repeat(tokens) });
        let turns = TurnFilter {
            min_turns: 1,
            max_turns: 9,
            recorded: true,
        };
        let messages = json!([
            said("user", 30),
            said("assistant", 20),
            said("user", 40),
            said("assistant", 5),
            said("user", 1)
        ]);
        let (conversation, _) = Conversation::of(messages, &turns).unwrap();
        let prompt = Prompt {
            conversation: Some(conversation.into()),
            ..Prompt::new("a", "word".repeat(30))
        };
        assert_eq!(context().fit(&prompt, 0, false), None);
        // 30 + 20 + 40 are the 90 that there are; 5 and 1 more are not.
        let cut = context().fit(&prompt, 0, true).unwrap();
        assert_eq!(cut.conversation.unwrap().turns.len(), 2);
        let cut = context().fit(&prompt, 1, true).unwrap();
        assert_eq!(cut.conversation.unwrap().turns.len(), 1);
        assert_eq!(context().fit(&prompt, 61, true), None);
    }
}
