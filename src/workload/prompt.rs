//! One prompt, ready to be put into a request body.

use std::sync::Arc;

use super::conversation::Conversation;
use super::images;

/// What stands between a prefix and the prompt that it leads.
pub(super) const SEAM: &str = "\n\n";

/// One prompt with its own controls.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    /// Unique in its set.
    pub id: Arc<str>,
    /// What the user says; of a conversation, first.
    pub text: Arc<str>,
    /// The text as a JSON string with its quotes, so that a request body is put together by copying.
    pub json: Arc<str>,
    /// Its category.
    pub category: Option<Arc<str>>,
    /// Its own cap on generated tokens.
    pub max_tokens: Option<u32>,
    /// Its own floor on generated tokens.
    pub min_tokens: Option<u32>,
    /// Its own wish to go on after the end of sequence.
    pub ignore_eos: Option<bool>,
    /// How many tokens a sensible answer has, least and most, when the set says so.
    pub expected_tokens: Option<(u32, u32)>,
    /// Prompt tokens, when they are known or estimated.
    pub tokens: Option<u32>,
    /// The conversation that it begins, where it is no single prompt.
    pub conversation: Option<Arc<Conversation>>,
    /// The images that are shown with the text: the parts of a message that hold them, each behind a comma.
    pub images: Option<Arc<str>>,
}

impl Prompt {
    /// A prompt without controls of its own.
    pub fn new(id: impl Into<Arc<str>>, text: impl Into<Arc<str>>) -> Prompt {
        let text = text.into();
        Prompt {
            id: id.into(),
            json: serde_json::to_string(&*text)
                .expect("a string is always JSON")
                .into(),
            tokens: Some(estimated_tokens(text.chars().count())),
            text,
            category: None,
            max_tokens: None,
            min_tokens: None,
            ignore_eos: None,
            expected_tokens: None,
            conversation: None,
            images: None,
        }
    }

    /// The same prompt with images: the parts of a message that hold them.
    pub(super) fn showing(self, images: Option<Arc<str>>) -> Prompt {
        Prompt {
            json: images::content(&self.text, images.as_deref()).into(),
            images,
            ..self
        }
    }

    /// The same prompt behind a first word that no other prompt begins with, so that no prefix cache knows it.
    pub(super) fn behind(&self, word: &str, id: String) -> Prompt {
        self.text_behind(word, id).showing(self.images.clone())
    }

    /// The same prompt with the beginning of its text alone.
    pub(super) fn cut_to(&self, text: &str) -> Prompt {
        let cut = self.saying(text.to_owned(), self.id.clone());
        cut.showing(self.images.clone())
    }

    /// The same prompt behind a prefix of so many tokens, which other prompts may have, too.
    pub(super) fn led_by(&self, prefix: &str, tokens: u32) -> Prompt {
        let text = format!("{prefix}{SEAM}{}", self.text);
        let longer = self.saying(text, self.id.clone());
        Prompt {
            tokens: self.tokens.map(|own| own.saturating_add(tokens)),
            ..longer.showing(self.images.clone())
        }
    }

    fn text_behind(&self, word: &str, id: String) -> Prompt {
        self.saying(format!("{word}: {}", self.text), id)
    }

    /// The same prompt with another text.
    fn saying(&self, text: String, id: impl Into<Arc<str>>) -> Prompt {
        let conversation = self.conversation.as_ref();
        Prompt {
            category: self.category.clone(),
            max_tokens: self.max_tokens,
            min_tokens: self.min_tokens,
            ignore_eos: self.ignore_eos,
            expected_tokens: self.expected_tokens,
            conversation: conversation.map(|whole| whole.beginning(&text).into()),
            ..Prompt::new(id, text)
        }
    }
}

/// Tokens of a text of this many characters, as a rule of thumb for English: one for four characters.
pub fn estimated_tokens(characters: usize) -> u32 {
    u32::try_from(characters.div_ceil(4)).unwrap_or(u32::MAX)
}
