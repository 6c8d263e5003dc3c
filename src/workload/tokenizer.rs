//! Tokenizers: how many tokens the engine will make of a text, told by the engine's own vocabulary.

use std::path::{Path, PathBuf};

use super::error::WorkloadError;
use super::template::ChatTemplate;

/// A model's tokenizer, with its chat template where one lies beside it.
pub struct Tokenizer {
    inner: Box<tokenizers::Tokenizer>,
    digest: String,
    template: Option<ChatTemplate>,
    overhead: u32,
}

/// The files of a tokenizer; only the first must exist.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenizerFiles {
    /// `tokenizer.json`.
    pub tokenizer: PathBuf,
    /// `tokenizer_config.json`, which may hold the chat template.
    pub config: Option<PathBuf>,
    /// `chat_template.jinja`, which wins over the one in the configuration.
    pub template: Option<PathBuf>,
}

/// The names of a tokenizer's files, in its folder and on a hub.
pub const TOKENIZER_FILE: &str = "tokenizer.json";
pub(super) const CONFIG_FILE: &str = "tokenizer_config.json";
pub(super) const TEMPLATE_FILE: &str = "chat_template.jinja";

impl TokenizerFiles {
    /// The files at `path`: a folder, or the `tokenizer.json` itself, whose neighbours are then taken, too.
    pub fn at(path: &Path) -> TokenizerFiles {
        let (tokenizer, folder) = if path.is_dir() {
            (path.join(TOKENIZER_FILE), path)
        } else {
            (path.to_path_buf(), path.parent().unwrap_or(Path::new("")))
        };
        let beside = |name: &str| Some(folder.join(name)).filter(|file| file.is_file());
        TokenizerFiles {
            tokenizer,
            config: beside(CONFIG_FILE),
            template: beside(TEMPLATE_FILE),
        }
    }
}

impl Tokenizer {
    /// Reads a tokenizer.
    ///
    /// # Errors
    /// A file cannot be read, is no tokenizer, or holds a chat template that cannot be used.
    pub fn open(files: &TokenizerFiles) -> Result<Tokenizer, WorkloadError> {
        let bytes = read(&files.tokenizer)?;
        let mut inner = tokenizers::Tokenizer::from_bytes(&bytes)
            .map_err(|error| wrong(&files.tokenizer, format!("is no tokenizer: {error}")))?;
        inner.with_padding(None);
        inner
            .with_truncation(None)
            .map_err(|error| wrong(&files.tokenizer, error.to_string()))?;
        let template = ChatTemplate::open(files)?;
        let mut tokenizer = Tokenizer {
            inner: Box::new(inner),
            digest: blake3::hash(&bytes).to_hex().to_string(),
            template,
            overhead: 0,
        };
        tokenizer.overhead = tokenizer
            .request_tokens("word")?
            .saturating_sub(tokenizer.count("word"));
        Ok(tokenizer)
    }

    /// Tokens of the text alone: nothing is put in front of it or behind.
    pub fn count(&self, text: &str) -> u32 {
        self.encoded(text, false)
    }

    /// Tokens of each part of a text; `ends` are the bytes behind each part. A token belongs to the part that it ends in.
    pub fn count_parts(&self, text: &str, ends: &[u32]) -> Vec<u32> {
        let mut counts = vec![0; ends.len()];
        let Ok(encoded) = self.inner.encode(text, false) else {
            return Vec::new();
        };
        for &(_, end) in encoded.get_offsets() {
            let part = ends.partition_point(|&behind| (behind as usize) < end);
            if let Some(count) = counts.get_mut(part) {
                *count += 1;
            }
        }
        counts
    }

    /// Tokens that the engine sees when the text is all that a user says: with the chat template around it if there is one,
    /// else with the tokens that the tokenizer itself adds.
    ///
    /// # Errors
    /// The chat template cannot be filled.
    pub fn request_tokens(&self, text: &str) -> Result<u32, WorkloadError> {
        match &self.template {
            // A template writes its special tokens itself.
            Some(template) => Ok(self.encoded(&template.render(&[("user", text)])?, false)),
            None => Ok(self.encoded(text, true)),
        }
    }

    /// Tokens that stand around a single message: those of the chat template, or those that the tokenizer adds.
    pub fn overhead(&self) -> u32 {
        self.overhead
    }

    /// Tokens that the tokenizer itself adds to a text, like one for its beginning.
    pub fn added(&self) -> u32 {
        self.encoded("word", true)
            .saturating_sub(self.count("word"))
    }

    /// The model's chat template, if one lies beside the tokenizer.
    pub fn template(&self) -> Option<&ChatTemplate> {
        self.template.as_ref()
    }

    /// blake3 of `tokenizer.json`, as hex.
    pub fn digest(&self) -> &str {
        &self.digest
    }

    fn encoded(&self, text: &str, special: bool) -> u32 {
        // Encoding fails only where a post-processor is inconsistent, which `open` has seen.
        self.inner.encode_fast(text, special).map_or(0, |encoding| {
            u32::try_from(encoding.len()).unwrap_or(u32::MAX)
        })
    }
}

impl std::fmt::Debug for Tokenizer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Tokenizer")
            .field("digest", &self.digest)
            .finish_non_exhaustive()
    }
}

impl PartialEq for Tokenizer {
    fn eq(&self, other: &Tokenizer) -> bool {
        self.digest == other.digest
    }
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, WorkloadError> {
    std::fs::read(path).map_err(|error| WorkloadError::Read {
        path: path.to_path_buf(),
        error,
    })
}

pub(super) fn wrong(path: &Path, message: String) -> WorkloadError {
    WorkloadError::Format {
        path: path.to_path_buf(),
        line: None,
        column: None,
        message,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_belongs_to_the_part_that_it_ends_in() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bytes");
        let tokenizer = Tokenizer::open(&TokenizerFiles::at(&folder)).unwrap();
        let text = "Set them keep make be";
        let whole = tokenizer.count(text);
        let ends = [3, 8, 9, text.len() as u32];
        let parts = tokenizer.count_parts(text, &ends);
        assert_eq!(parts.iter().sum::<u32>(), whole);
        assert_eq!(
            parts[..2],
            [tokenizer.count("Set"), tokenizer.count(" them")]
        );
        // A blank ends no word.
        assert_eq!(parts[2], 0);
    }

    fn fixture(name: &str) -> TokenizerFiles {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers");
        TokenizerFiles::at(&folder.join(name))
    }

    #[test]
    fn a_folder_and_its_file_are_the_same_tokenizer() {
        let folder = Tokenizer::open(&fixture("bytes")).unwrap();
        let file = Tokenizer::open(&fixture("bytes/tokenizer.json")).unwrap();
        assert_eq!(folder, file);
        assert!(file.template().is_some());
        assert_eq!(folder.count(""), 0);
        assert_eq!(folder.count(" the"), 1);
    }

    #[test]
    fn a_request_counts_the_chat_template_and_no_token_twice() {
        let tokenizer = Tokenizer::open(&fixture("bytes")).unwrap();
        let text = "How far is the moon?";
        let template = tokenizer.template().unwrap();
        assert_eq!(
            template
                .render(&[("system", "Be brief."), ("user", text)])
                .unwrap(),
            "<|begin|><|role|>system\nBe brief.<|end|>\n<|role|>user\nHow far is the moon?<|end|>\n<|role|>assistant\n"
        );
        let rendered = template.render(&[("user", text)]).unwrap();
        let whole = tokenizer.request_tokens(text).unwrap();
        assert_eq!(whole, tokenizer.count(&rendered));
        assert_eq!(whole, tokenizer.count(text) + tokenizer.overhead());
    }

    #[test]
    fn without_a_template_a_request_counts_what_the_tokenizer_adds() {
        let mut files = fixture("bytes");
        files.config = None;
        let tokenizer = Tokenizer::open(&files).unwrap();
        assert_eq!(tokenizer.overhead(), 1);
        assert_eq!(Tokenizer::open(&fixture("pieces")).unwrap().overhead(), 0);
    }

    #[test]
    fn what_is_no_tokenizer_is_told_by_name() {
        let error = |name: &str| Tokenizer::open(&fixture(name)).unwrap_err().to_string();
        assert!(
            error("none").contains("tokenizers/none`: No such file"),
            "{}",
            error("none")
        );
        let config = error("bytes/tokenizer_config.json");
        assert!(
            config.contains("tokenizer_config.json`: is no tokenizer: "),
            "{config}"
        );
    }
}
