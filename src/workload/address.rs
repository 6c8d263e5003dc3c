//! What is named by an address lies elsewhere: on a hub, in an object store, behind a URL.

use std::path::PathBuf;

use super::error::WorkloadError;
use super::library::Library;

impl Library {
    /// The file that an address names, as it was fetched: `hf://datasets/OWNER/NAME/FILE`, `s3://BUCKET/KEY`, `gs://BUCKET/KEY`, or
    /// a URL, of which the SHA-256 must be known.
    ///
    /// # Errors
    /// It is no address of a file, or the file is not in the cache, and cannot be fetched or is another one.
    pub fn fetched(&self, address: &str, sha256: Option<&str>) -> Result<PathBuf, WorkloadError> {
        let wrong = |message: String, help| Err(WorkloadError::Address { message, help });
        let (scheme, rest) = address.split_once("://").unwrap_or(("", address));
        match (scheme, sha256) {
            ("hf", _) => {
                const NAMED: &str = "write `hf://datasets/OWNER/NAME/FILE`";
                let Some(name) = rest.strip_prefix("datasets/") else {
                    return wrong(format!("`{address}` names no data set"), NAMED);
                };
                let mut parts = name.splitn(3, '/');
                match (parts.next(), parts.next(), parts.next()) {
                    (Some(owner), Some(name), file) => {
                        self.dataset(&format!("{owner}/{name}"), file)
                    }
                    _ => wrong(
                        "a data set on the hub has an owner and a name".to_owned(),
                        NAMED,
                    ),
                }
            }
            ("s3" | "gs", _) => self.object(address, sha256),
            ("http" | "https", Some(sha256)) => self.download(address, sha256),
            ("http" | "https", None) => wrong(
                "a file behind a URL needs its `sha256`".to_owned(),
                "without it nobody knows whether two runs had the same prompts",
            ),
            _ => wrong(
                format!("`{scheme}://` is no place for a data set"),
                "write a path, `hf://datasets/OWNER/NAME/FILE`, `s3://BUCKET/KEY`, `gs://BUCKET/KEY` or an `https` URL",
            ),
        }
    }
}
