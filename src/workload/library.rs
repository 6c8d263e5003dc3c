//! Files that are not here yet: of a model hub, or behind a URL. Each is fetched once and then kept.
//!
//! The hub is spoken to as its own tools do: `HF_ENDPOINT`, `HF_TOKEN`, `HF_HUB_OFFLINE`, `HF_HOME` and `HF_HUB_CACHE` mean here
//! what they mean there, and its cache is shared with them.

use std::fs::File;
use std::io::{BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use hf_hub::api::sync::{Api, ApiBuilder, ApiError};
use hf_hub::{Cache, Repo, RepoType};
use sha2::{Digest, Sha256};

use super::client::{self, PATIENCE};
use super::error::WorkloadError;
use super::objects::{Objects, StoreSettings};
use super::tokenizer::{CONFIG_FILE, TEMPLATE_FILE, TOKENIZER_FILE, TokenizerFiles};

/// Where files come from that are not here.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Library {
    /// The hub's address.
    pub endpoint: String,
    /// The token that opens gated repositories.
    pub token: Option<String>,
    /// Nothing is fetched: only what was fetched before is there.
    pub offline: bool,
    /// The hub's own cache.
    pub hub_cache: PathBuf,
    /// Our cache, for files behind URLs.
    pub cache: PathBuf,
    /// Who may use object stores, and where they are.
    pub stores: StoreSettings,
}

/// What kind of repository of a hub.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HubKind {
    /// A model, which brings a tokenizer.
    Model,
    /// A data set.
    Dataset,
}

/// The endings of files that hold data.
const DATA: [&str; 4] = [".parquet", ".jsonl", ".json", ".csv"];

impl Library {
    /// The library that the environment describes; `variable` reads one of its variables, an empty one counts as unset.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> Library {
        let set = |name: &str| variable(name).filter(|value| !value.is_empty());
        let home = PathBuf::from(set("HOME").unwrap_or_else(|| ".".to_owned()));
        let caches = set("XDG_CACHE_HOME").map_or(home.join(".cache"), PathBuf::from);
        let hub_home = set("HF_HOME").map_or(caches.join("huggingface"), PathBuf::from);
        let yes = |value: String| {
            matches!(
                value.to_ascii_uppercase().as_str(),
                "1" | "ON" | "YES" | "TRUE"
            )
        };
        let kept_token = || {
            let token = std::fs::read_to_string(hub_home.join("token")).ok()?;
            Some(token.trim().to_owned()).filter(|token| !token.is_empty())
        };
        Library {
            endpoint: set("HF_ENDPOINT")
                .map(|url| url.trim_end_matches('/').to_owned())
                .unwrap_or_else(|| "https://huggingface.co".to_owned()),
            token: set("HF_TOKEN").or_else(kept_token),
            offline: set("HF_HUB_OFFLINE").is_some_and(yes),
            hub_cache: set("HF_HUB_CACHE").map_or(hub_home.join("hub"), PathBuf::from),
            cache: caches.join("scenario"),
            stores: StoreSettings::of_environment(&variable),
        }
    }

    /// Where prepared sets are kept; `None` for a library without a cache.
    pub fn prepared(&self) -> Option<PathBuf> {
        let cache = &self.cache;
        (!cache.as_os_str().is_empty()).then(|| cache.join("prepared"))
    }

    /// The files of a tokenizer: `named` is a file or folder, seen from `folder`, or else the name of a model on the hub, like
    /// `owner/name` or `owner/name@revision`.
    ///
    /// # Errors
    /// There is no such file, and the hub does not give one.
    pub fn tokenizer(&self, named: &str, folder: &Path) -> Result<TokenizerFiles, WorkloadError> {
        let path = folder.join(named);
        let looks_like_a_path =
            named.starts_with(['.', '/']) || named.ends_with(".json") || !named.contains('/');
        if looks_like_a_path || path.exists() {
            return Ok(TokenizerFiles::at(&path));
        }
        let optional = |file: &str| {
            self.hub_file(HubKind::Model, named, file)
                .map(Some)
                .or_else(absent)
        };
        Ok(TokenizerFiles {
            tokenizer: self.hub_file(HubKind::Model, named, TOKENIZER_FILE)?,
            config: optional(CONFIG_FILE)?,
            template: optional(TEMPLATE_FILE)?,
        })
    }

    /// A file of a repository of the hub, like `owner/name` or `owner/name@revision`.
    ///
    /// # Errors
    /// It is not in the cache, and cannot be fetched.
    pub fn hub_file(
        &self,
        kind: HubKind,
        repository: &str,
        file: &str,
    ) -> Result<PathBuf, WorkloadError> {
        let repo = repo(kind, repository);
        let what = format!("{file} of {repository}");
        if let Some(path) = Cache::new(self.hub_cache.clone())
            .repo(repo.clone())
            .get(file)
        {
            return Ok(path);
        }
        if self.offline {
            return Err(WorkloadError::NotCached {
                what,
                cache: self.hub_cache.clone(),
            });
        }
        let fetched = self.api().and_then(|api| api.repo(repo).get(file));
        fetched.map_err(|error| self.refused(&error, &what))
    }

    /// A file of a data set on the hub, like `owner/name` or `owner/name@revision`; without one named, the only file of the
    /// repository that holds data.
    ///
    /// # Errors
    /// It cannot be fetched, or it is not clear which file is meant.
    pub fn dataset(&self, repository: &str, file: Option<&str>) -> Result<PathBuf, WorkloadError> {
        if let Some(file) = file {
            return self.hub_file(HubKind::Dataset, repository, file);
        }
        let what = format!("the files of {repository}");
        if self.offline {
            return Err(WorkloadError::NotCached {
                what,
                cache: self.hub_cache.clone(),
            });
        }
        let repo = repo(HubKind::Dataset, repository);
        let told = self.api().and_then(|api| api.repo(repo).info());
        let files = told.map_err(|error| self.refused(&error, &what))?.siblings;
        let data: Vec<String> = files
            .into_iter()
            .map(|file| file.rfilename)
            .filter(|name| DATA.iter().any(|ending| name.ends_with(ending)))
            .collect();
        match data.as_slice() {
            [only] => self.hub_file(HubKind::Dataset, repository, only),
            [] => Err(WorkloadError::Fetch {
                absent: true,
                message: "there is no file with prompts in it".to_owned(),
                what,
                from: self.endpoint.clone(),
            }),
            several => Err(WorkloadError::Fetch {
                absent: false,
                message: format!("name one of them: {}", several.join(", ")),
                what,
                from: self.endpoint.clone(),
            }),
        }
    }

    fn api(&self) -> Result<Api, ApiError> {
        ApiBuilder::new()
            .with_endpoint(self.endpoint.clone())
            .with_cache_dir(self.hub_cache.clone())
            .with_token(self.token.clone())
            .with_progress(false)
            .with_user_agent("scenario", env!("CARGO_PKG_VERSION"))
            .build()
    }

    fn refused(&self, error: &ApiError, what: &str) -> WorkloadError {
        WorkloadError::Fetch {
            absent: status_of(error) == Some(404),
            message: self.told(error),
            what: what.to_owned(),
            from: self.endpoint.clone(),
        }
    }

    /// The file behind a URL with this SHA-256, as hex; what does not have it is not kept.
    ///
    /// # Errors
    /// It is not in the cache, and cannot be fetched or is another file.
    pub fn download(&self, url: &str, sha256: &str) -> Result<PathBuf, WorkloadError> {
        let failed = |message: String| refused(url, message);
        self.kept(url, sha256, |out| {
            let agent: ureq::Agent = client::waiting(PATIENCE).build().into();
            let mut answer = agent
                .get(url)
                .call()
                .map_err(|error| failed(client::told(&error)))?;
            std::io::copy(&mut answer.body_mut().as_reader(), out)
                .map(drop)
                .map_err(|error| failed(client::told(&error.into())))
        })
    }

    /// The object of a store, like `s3://bucket/key`: the one with this SHA-256, or else the one that is there now.
    ///
    /// # Errors
    /// It is not in the cache, and cannot be fetched or is another one.
    pub fn object(&self, url: &str, sha256: Option<&str>) -> Result<PathBuf, WorkloadError> {
        if let Some(sha256) = sha256 {
            return self.kept(url, sha256, |mut out| {
                Objects::at(url, &self.stores)?.read(&mut out)
            });
        }
        let folder = self.cache.join("objects");
        if self.offline {
            return Err(WorkloadError::NotCached {
                what: url.to_owned(),
                cache: folder,
            });
        }
        let object = Objects::at(url, &self.stores)?;
        let version = object.version()?;
        let name = blake3::hash(format!("{url}\n{version}").as_bytes()).to_hex();
        let path = folder.join(format!("{name}{}", ending(url)));
        if !path.is_file() {
            keep(&path, |mut out| object.read(&mut out))?;
        }
        Ok(path)
    }

    /// The file with this SHA-256, which `fetch` writes where it is not in the cache; what has another one is not kept.
    fn kept(
        &self,
        url: &str,
        sha256: &str,
        fetch: impl FnOnce(&mut dyn Write) -> Result<(), WorkloadError>,
    ) -> Result<PathBuf, WorkloadError> {
        let wanted = sha256.to_ascii_lowercase();
        let folder = self.cache.join("downloads");
        let path = folder.join(format!("{wanted}{}", ending(url)));
        if path.is_file() && digest_of(&path).map_err(unreadable(&path))? == wanted {
            return Ok(path);
        }
        if self.offline {
            return Err(WorkloadError::NotCached {
                what: url.to_owned(),
                cache: folder,
            });
        }
        keep(&path, |out| {
            let mut digested = Digested::new(out);
            fetch(&mut digested)?;
            let found = digested.digest();
            if found == wanted {
                return Ok(());
            }
            let message = format!("it has sha256 {found}, and {wanted} is asked for");
            Err(refused(url, message))
        })?;
        Ok(path)
    }

    /// Whether a file here has this SHA-256, as hex.
    ///
    /// # Errors
    /// It cannot be read, or has another one.
    pub fn verify(&self, path: &Path, sha256: &str) -> Result<(), WorkloadError> {
        let found = digest_of(path).map_err(|error| WorkloadError::Read {
            path: path.to_path_buf(),
            error,
        })?;
        if found.eq_ignore_ascii_case(sha256) {
            return Ok(());
        }
        Err(WorkloadError::Format {
            path: path.to_path_buf(),
            line: None,
            column: None,
            message: format!("it has sha256 {found}, and {sha256} is asked for"),
        })
    }

    /// What an error of the hub means to a user.
    fn told(&self, error: &ApiError) -> String {
        match status_of(error) {
            Some(401 | 403) if self.token.is_none() => {
                "it is gated, or there is none: set HF_TOKEN to a token that may read it".to_owned()
            }
            Some(401 | 403) => "the token in HF_TOKEN may not read it".to_owned(),
            Some(404) => "there is no such file".to_owned(),
            _ => error.to_string(),
        }
    }
}

impl std::fmt::Debug for Library {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Library")
            .field("endpoint", &self.endpoint)
            .field("token", &self.token.as_ref().map(|_| "***"))
            .field("offline", &self.offline)
            .finish_non_exhaustive()
    }
}

fn repo(kind: HubKind, named: &str) -> Repo {
    let (id, revision) = named.split_once('@').unwrap_or((named, "main"));
    let kind = match kind {
        HubKind::Model => RepoType::Model,
        HubKind::Dataset => RepoType::Dataset,
    };
    Repo::with_revision(id.to_owned(), kind, revision.to_owned())
}

/// A file that need not exist.
fn absent(error: WorkloadError) -> Result<Option<PathBuf>, WorkloadError> {
    match error {
        WorkloadError::Fetch { absent: true, .. } | WorkloadError::NotCached { .. } => Ok(None),
        other => Err(other),
    }
}

fn status_of(error: &ApiError) -> Option<u16> {
    match error {
        ApiError::RequestError(error) => match **error {
            ureq::Error::StatusCode(status) => Some(status),
            _ => None,
        },
        ApiError::TooManyRetries(error) => status_of(error),
        _ => None,
    }
}

fn refused(url: &str, message: String) -> WorkloadError {
    WorkloadError::Fetch {
        absent: false,
        message,
        what: "the file".to_owned(),
        from: url.to_owned(),
    }
}

fn unreadable(path: &Path) -> impl Fn(std::io::Error) -> WorkloadError {
    let path = path.to_path_buf();
    move |error| WorkloadError::Read {
        path: path.clone(),
        error,
    }
}

/// How the file behind a URL ends, with its dot.
fn ending(url: &str) -> String {
    let path = Path::new(url.split(['?', '#']).next().unwrap_or(url));
    path.extension().map_or(String::new(), |ending| {
        format!(".{}", ending.to_string_lossy())
    })
}

/// Makes a file of what `write` writes, whole or not at all.
fn keep(
    path: &Path,
    write: impl FnOnce(&mut dyn Write) -> Result<(), WorkloadError>,
) -> Result<(), WorkloadError> {
    let folder = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(folder).map_err(unreadable(folder))?;
    let mut part = tempfile::NamedTempFile::new_in(folder).map_err(unreadable(folder))?;
    let mut out = BufWriter::new(part.as_file_mut());
    write(&mut out)?;
    out.flush().map_err(unreadable(folder))?;
    drop(out);
    let kept = part.persist(path);
    kept.map(drop)
        .map_err(|error| unreadable(path)(error.error))
}

fn digest_of(path: &Path) -> std::io::Result<String> {
    let mut nowhere = std::io::sink();
    let mut digested = Digested::new(&mut nowhere);
    std::io::copy(&mut BufReader::new(File::open(path)?), &mut digested)?;
    Ok(digested.digest())
}

/// Passes on what is written, and takes its SHA-256.
struct Digested<'a> {
    to: &'a mut dyn Write,
    digest: Sha256,
}

impl<'a> Digested<'a> {
    fn new(to: &'a mut dyn Write) -> Digested<'a> {
        Digested {
            to,
            digest: Sha256::new(),
        }
    }

    /// As hex.
    fn digest(self) -> String {
        let digest = self.digest.finalize();
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl Write for Digested<'_> {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        let written = self.to.write(bytes)?;
        self.digest.update(&bytes[..written]);
        Ok(written)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.to.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{BufRead, Write};
    use std::net::{TcpListener, TcpStream};
    use std::sync::{Arc, Mutex};

    use super::super::{Fields, Filter, PromptSource, Source, Workload};
    use super::*;

    const TOKENIZER: &str = r#"{"model":"here"}"#;

    /// Files that are cut off, wrong or empty, and what is told of each.
    const WRONG: [(&str, &str, &str); 4] = [
        (
            "/truncated.jsonl",
            "{\"prompt\": \"One?\"}\n{\"prompt\": \"Tw",
            "1 row is not a prompt\n  line 2: is not JSON: EOF while parsing a string (column 14)",
        ),
        (
            "/malformed.json",
            "[{\"prompt\": \"One?\"},\n {\"prompt\"; 1}]\n",
            "line 2, column 11: is not JSON: expected `:`",
        ),
        (
            "/malformed.csv",
            "prompt,max_tokens\nOne?,5\nTwo?,many\n",
            "1 row is not a prompt\n  line 3: `max_tokens` is `\"many\"`, not a number of tokens",
        ),
        (
            "/empty.jsonl",
            "",
            "prompt set `set` has no prompt left: 0 read",
        ),
    ];

    /// A stand-in for a hub: one public model, one gated data set, and a plain file.
    struct Hub {
        url: String,
        asked: Arc<Mutex<Vec<String>>>,
    }

    impl Hub {
        fn start() -> Hub {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}", listener.local_addr().unwrap());
            let asked = Arc::new(Mutex::new(Vec::new()));
            let log = asked.clone();
            std::thread::spawn(move || {
                for stream in listener.incoming().flatten() {
                    answer(stream, &log);
                }
            });
            Hub { url, asked }
        }

        fn library(&self, folder: &Path) -> Library {
            Library {
                endpoint: self.url.clone(),
                token: None,
                offline: false,
                hub_cache: folder.join("hub"),
                cache: folder.join("cache"),
                stores: StoreSettings::default(),
            }
        }

        fn asked(&self) -> usize {
            self.asked.lock().unwrap().len()
        }
    }

    fn answer(mut stream: TcpStream, log: &Mutex<Vec<String>>) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let mut head = String::new();
        while reader.read_line(&mut head).unwrap() > 2 {}
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        log.lock().unwrap().push(path.clone());
        let head = head.to_ascii_lowercase();
        let (status, body) = match path.as_str() {
            "/own/model/resolve/main/tokenizer.json" => (200, TOKENIZER),
            "/datasets/own/set/resolve/v2/data.jsonl" if head.contains("bearer key") => {
                (200, "{\"prompt\":\"one\"}\n")
            }
            "/datasets/own/set/resolve/v2/data.jsonl" => (401, ""),
            "/plain.csv" => (200, "prompt\nHello\n"),
            _ => match WRONG.iter().find(|(name, ..)| path.ends_with(name)) {
                Some((_, body, _)) => (200, *body),
                None => (404, ""),
            },
        };
        let (status, range, body) = match head.contains("range: bytes=0-0") && status == 200 {
            true => (
                206,
                format!("content-range: bytes 0-0/{}\r\n", body.len()),
                &body[..body.len().min(1)],
            ),
            false => (status, String::new(), body),
        };
        let _ = write!(
            stream,
            "HTTP/1.1 {status} x\r\nx-repo-commit: c0ffee\r\netag: \"{}\"\r\n{range}content-length: {}\r\nconnection: close\r\n\r\n{body}",
            blake3::hash(path.as_bytes()),
            body.len()
        );
    }

    #[test]
    fn a_tokenizer_is_fetched_from_the_hub_once() {
        let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
        let library = hub.library(folder.path());
        let files = library.tokenizer("own/model", folder.path()).unwrap();
        assert_eq!(
            std::fs::read_to_string(&files.tokenizer).unwrap(),
            TOKENIZER
        );
        assert_eq!((files.config, files.template), (None, None));
        let before = hub.asked();
        library
            .hub_file(HubKind::Model, "own/model", TOKENIZER_FILE)
            .unwrap();
        assert_eq!(hub.asked(), before);
        let offline = Library {
            offline: true,
            ..library
        };
        assert!(offline.tokenizer("own/model", folder.path()).is_ok());
        assert_eq!(hub.asked(), before);
    }

    #[test]
    fn offline_nothing_is_asked_for() {
        let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
        let library = Library {
            offline: true,
            ..hub.library(folder.path())
        };
        let error = library.tokenizer("own/model", folder.path()).unwrap_err();
        assert!(matches!(error, WorkloadError::NotCached { .. }), "{error}");
        assert_eq!(hub.asked(), 0);
    }

    #[test]
    fn a_gated_data_set_needs_the_token_and_takes_a_revision() {
        let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
        let library = hub.library(folder.path());
        let get =
            |library: &Library| library.hub_file(HubKind::Dataset, "own/set@v2", "data.jsonl");
        let error = get(&library).unwrap_err().to_string();
        assert_eq!(
            error.replace(&hub.url, "the hub"),
            "cannot fetch data.jsonl of own/set@v2 from the hub: it is gated, or there is none: set HF_TOKEN to a token that may read it"
        );
        let library = Library {
            token: Some("key".to_owned()),
            ..library
        };
        let path = get(&library).unwrap();
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "{\"prompt\":\"one\"}\n"
        );
        assert!(!format!("{library:?}").contains("key"));
    }

    #[test]
    fn a_download_is_what_its_digest_says_or_is_not_kept() {
        let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
        let library = hub.library(folder.path());
        let url = format!("{}/plain.csv", hub.url);
        let wrong = library
            .download(&url, &"0".repeat(64))
            .unwrap_err()
            .to_string();
        assert!(wrong.contains("and 0000"), "{wrong}");
        let right = wrong.split("sha256 ").nth(1).unwrap()[..64].to_owned();
        let path = library.download(&url, &right).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "prompt\nHello\n");
        assert_eq!(path.extension().unwrap(), "csv");
        let before = hub.asked();
        assert_eq!(library.download(&url, &right.to_uppercase()).unwrap(), path);
        assert_eq!(hub.asked(), before);
        // A kept file that was changed is fetched again.
        std::fs::write(&path, "other").unwrap();
        library.download(&url, &right).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "prompt\nHello\n");
    }

    #[test]
    fn what_is_wrong_with_a_fetched_file_is_told_as_of_one_that_is_here() {
        let (hub, folder) = (Hub::start(), tempfile::tempdir().unwrap());
        let library = hub.library(folder.path());
        for (name, body, told) in WRONG {
            let sha256 = Sha256::digest(body);
            let sha256: String = sha256.iter().map(|byte| format!("{byte:02x}")).collect();
            let url = format!("{}{name}", hub.url);
            let file = name.trim_start_matches('/');
            for path in [
                library.download(&url, &sha256).unwrap(),
                library.dataset("own/open", Some(file)).unwrap(),
            ] {
                let source = PromptSource {
                    id: "set".to_owned(),
                    from: Source::File {
                        path,
                        fields: Fields::default(),
                        filter: Filter::default(),
                    },
                    limit: None,
                    seed: 1,
                    shuffle: false,
                    category: None,
                    tokenizer: None,
                };
                let error = Workload::load(&source).unwrap_err().to_string();
                assert!(error.ends_with(told), "{error}");
            }
        }
    }

    #[test]
    fn the_environment_says_where() {
        let library = Library::of_environment(|name| {
            let value = match name {
                "HF_ENDPOINT" => "http://hub.example/",
                "HF_TOKEN" => "key",
                "HF_HUB_OFFLINE" => "1",
                "HF_HOME" => "/models",
                _ => return None,
            };
            Some(value.to_owned())
        });
        assert_eq!(library.endpoint, "http://hub.example");
        assert_eq!(library.token.as_deref(), Some("key"));
        assert!(library.offline);
        assert_eq!(library.hub_cache, Path::new("/models/hub"));
    }
}
