//! The context of a model, which a prompt and its answer share: what does not fit is left out or cut.

use std::sync::Arc;

use super::conversation::Conversation;
use super::prompt::{Prompt, estimated_tokens};
use super::tokenizer::Tokenizer;

/// Tokens that a chat template puts around a message, where no tokenizer tells them: those of Llama 3, which the simulator has, too.
pub(super) const TEMPLATE_TOKENS: u32 = 14;

/// The room that a model has.
#[derive(Clone, Debug)]
pub struct Context {
    /// Tokens of a prompt and its answer together.
    pub tokens: u32,
    /// The longest answer that is asked for; a prompt may ask for a shorter one.
    pub answer: u32,
    /// Whether a chat template is put around each message.
    pub chat: bool,
    /// What counts tokens; without one they are estimated.
    pub tokenizer: Option<Arc<Tokenizer>>,
}

/// What of a set does not fit a context.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Beyond {
    /// So many of its prompts, none perhaps.
    Prompts(u64),
    /// Prompts that are made: some may be too long, and so many of the first ones are.
    Made {
        /// How many are too long.
        prompts: u64,
        /// Among how many of the first ones; `None`: among all.
        of_first: Option<u64>,
    },
}

impl Context {
    /// The prompt, if it fits behind `before` tokens that are put before it; or else, where it may be cut, as much of it as does. `None`
    /// where nothing of it fits, or it may not be cut.
    pub(super) fn fit(&self, prompt: &Prompt, before: u32, clip: bool) -> Option<Prompt> {
        let answer = self.answer_of(prompt.max_tokens);
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

    /// The longest answer to a prompt that asks for so much by itself: as in its request, the smaller of the two.
    pub(super) fn answer_of(&self, own: Option<u32>) -> u32 {
        own.map_or(self.answer, |own| own.min(self.answer))
    }

    /// Tokens that the engine puts around a prompt.
    pub(super) fn around(&self) -> u32 {
        around(self.tokenizer.as_ref(), self.chat)
    }

    /// Tokens of a text that stands between others.
    pub(super) fn count_within(&self, text: &str) -> u32 {
        match &self.tokenizer {
            Some(tokenizer) => tokenizer.count(text),
            None => estimated_tokens(text.chars().count()),
        }
    }

    /// Tokens of a message with what is put around it.
    fn count(&self, text: &str) -> u32 {
        match (&self.tokenizer, self.chat) {
            (Some(tokenizer), true) => tokenizer
                .request_tokens(text)
                .unwrap_or_else(|_| tokenizer.count(text) + tokenizer.overhead()),
            _ => self.count_within(text) + self.around(),
        }
    }
}

/// Tokens that an engine puts around a prompt: with or without a chat template.
pub(super) fn around(tokenizer: Option<&Arc<Tokenizer>>, chat: bool) -> u32 {
    match (tokenizer, chat) {
        (Some(tokenizer), true) => tokenizer.overhead(),
        (Some(tokenizer), false) => tokenizer.added(),
        (None, true) => TEMPLATE_TOKENS,
        (None, false) => 0,
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
        // The answer alone is as long as the context.
        let nothing = Context {
            answer: 100,
            ..context()
        };
        assert_eq!(nothing.fit(&fitting, 0, true), None);
    }

    #[test]
    fn an_answer_is_capped_by_the_smaller_of_two() {
        let asking = |own| Prompt {
            max_tokens: Some(own),
            ..Prompt::new("a", "word".repeat(96))
        };
        let room = |own| context().fit(&asking(own), 0, true).unwrap().text.len() / 4;
        assert_eq!([4, 10, 50].map(room), [96, 90, 90]);
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
