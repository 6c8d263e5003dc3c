//! Chat templates: what a conversation looks like to the model, as the model's own files say.

use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, context};
use serde_json::Value;

use super::error::WorkloadError;
use super::tokenizer::{TokenizerFiles, read, wrong};

/// A model's chat template.
pub struct ChatTemplate {
    environment: Environment<'static>,
    /// Where it was read, for messages.
    path: std::path::PathBuf,
    bos: String,
    eos: String,
}

const NAME: &str = "chat";
/// Templates of models loop over messages; none needs this many steps for a message.
const FUEL: u64 = 10_000_000;

impl ChatTemplate {
    /// The template of a tokenizer, if it has one.
    pub(super) fn open(files: &TokenizerFiles) -> Result<Option<ChatTemplate>, WorkloadError> {
        let config: Value = match &files.config {
            Some(path) => serde_json::from_slice(&read(path)?)
                .map_err(|error| wrong(path, format!("is not JSON: {error}")))?,
            None => Value::Null,
        };
        let (path, text) = match (&files.template, template_of(&config), &files.config) {
            (Some(path), _, _) => {
                let text = String::from_utf8(read(path)?)
                    .map_err(|_| wrong(path, "is not UTF-8".to_owned()))?;
                (path.clone(), text)
            }
            (None, Some(text), Some(path)) => (path.clone(), text),
            _ => return Ok(None),
        };
        let mut environment = Environment::new();
        // As transformers sets its own up.
        environment.set_syntax(
            SyntaxConfig::builder()
                .trim_blocks(true)
                .lstrip_blocks(true)
                .build()
                .expect("the usual delimiters"),
        );
        environment.set_fuel(Some(FUEL));
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_function(
            "raise_exception",
            |message: String| -> Result<String, Error> {
                Err(Error::new(ErrorKind::InvalidOperation, message))
            },
        );
        environment
            .add_template_owned(NAME, text)
            .map_err(|error| wrong(&path, format!("its chat template is wrong: {error}")))?;
        Ok(Some(ChatTemplate {
            environment,
            path,
            bos: special(&config, "bos_token"),
            eos: special(&config, "eos_token"),
        }))
    }

    /// The text that the model continues after these messages, each a role and what it says.
    ///
    /// # Errors
    /// The template refuses the messages.
    pub fn render(&self, messages: &[(&str, &str)]) -> Result<String, WorkloadError> {
        let messages: Vec<_> = messages
            .iter()
            .map(|&(role, content)| context! { role, content })
            .collect();
        self.environment
            .get_template(NAME)
            .and_then(|template| {
                template.render(context! {
                    messages,
                    add_generation_prompt => true,
                    bos_token => self.bos.clone(),
                    eos_token => self.eos.clone(),
                })
            })
            .map_err(|error| wrong(&self.path, format!("its chat template fails: {error}")))
    }
}

impl std::fmt::Debug for ChatTemplate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ChatTemplate")
            .field("path", &self.path)
            .finish_non_exhaustive()
    }
}

/// The template in a configuration: a text, or a list of named ones of which one is the default.
fn template_of(config: &Value) -> Option<String> {
    match config.get("chat_template")? {
        Value::String(text) => Some(text.clone()),
        Value::Array(named) => named
            .iter()
            .find(|entry| entry["name"] == "default")
            .and_then(|entry| entry["template"].as_str())
            .map(str::to_owned),
        _ => None,
    }
}

/// A special token: a text, or an object with its `content`.
fn special(config: &Value, key: &str) -> String {
    let token = &config[key];
    token
        .as_str()
        .or_else(|| token["content"].as_str())
        .unwrap_or_default()
        .to_owned()
}
