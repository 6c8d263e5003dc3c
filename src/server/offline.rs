//! An adapter child: the engine lives in its process, and two pipes stand where a server would.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use crate::engine::Adapter;

/// The adapters that come with this program.
const ADAPTERS: [(&str, &str); 3] = [
    (
        "vllm_adapter.py",
        include_str!("../../adapters/vllm_adapter.py"),
    ),
    (
        "sglang_adapter.py",
        include_str!("../../adapters/sglang_adapter.py"),
    ),
    (
        "tensorrt_llm_adapter.py",
        include_str!("../../adapters/tensorrt_llm_adapter.py"),
    ),
];
/// What each of them imports.
const PROTOCOL: (&str, &str) = (
    "scenario_adapter.py",
    include_str!("../../adapters/scenario_adapter.py"),
);

/// The pipes of an adapter, in a folder that goes with them.
#[derive(Debug)]
pub(super) struct Pipes {
    folder: tempfile::TempDir,
}

impl Pipes {
    /// Makes them, beside the adapters that come with this program.
    pub(super) fn new() -> Result<Pipes, String> {
        let made = || -> std::io::Result<Pipes> {
            let folder = tempfile::Builder::new().prefix("scenario-").tempdir()?;
            for (name, text) in ADAPTERS.iter().chain([&PROTOCOL]) {
                std::fs::write(folder.path().join(name), text)?;
            }
            let pipes = Pipes { folder };
            for path in [pipes.to(), pipes.from()] {
                mkfifo(&path, Mode::S_IRUSR | Mode::S_IWUSR)?;
            }
            Ok(pipes)
        };
        made().map_err(|error| format!("cannot make the pipes of an adapter: {error}"))
    }

    fn to(&self) -> PathBuf {
        self.folder.path().join("to")
    }

    fn from(&self) -> PathBuf {
        self.folder.path().join("from")
    }

    /// The folder of the adapters that come with this program.
    pub(super) fn adapters(&self) -> String {
        self.folder.path().display().to_string()
    }

    /// The command that takes them away, should nobody be left to drop them.
    pub(super) fn removal(&self) -> Vec<String> {
        let folder = self.folder.path().display().to_string();
        vec!["rm".to_owned(), "-rf".to_owned(), folder]
    }

    /// The words with the pipes as standard input and output.
    pub(super) fn around(&self, words: &[String]) -> Vec<String> {
        let shell = r#"to=$1 from=$2; shift 2; exec "$@" <"$to" >"$from""#;
        let pipes = [self.to(), self.from()].map(|path| path.display().to_string());
        let mut around = ["sh", "-c", shell, "adapter"].map(str::to_owned).to_vec();
        around.extend(pipes);
        around.extend(words.iter().cloned());
        around
    }

    /// Opens our ends. Both ways at once, so that opening waits for nobody.
    pub(super) fn speak(&self) -> Result<Arc<Adapter>, String> {
        let open = |path: &Path| -> std::io::Result<File> {
            OpenOptions::new().read(true).write(true).open(path)
        };
        let opened = || -> std::io::Result<Adapter> {
            Ok(Adapter::over(open(&self.to())?, open(&self.from())?))
        };
        opened()
            .map(Arc::new)
            .map_err(|error| format!("cannot open the pipes of an adapter: {error}"))
    }
}
