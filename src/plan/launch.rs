//! How engines are started: what the scenario says, on top of what their kind is known to need.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::backends::from_environment;
use super::{Api, BackendKind, HeaderValue, Model, OfflineMode};
use crate::diagnostic::{Diagnostic, Sources, Spanned};
use crate::spec::{
    ArgsSpec, BackendSpec, CommandSpec, ContainerEngine, DockerSpec, Entry, HeaderSpec, JsonMap,
    LaunchSpec, Mode,
};

pub use crate::spec::{Lifetime, PortSpec as Port, StopSignal};

/// Stands for the port in a launched engine's words and variables.
pub const PORT: &str = "{port}";
/// Stands for the name of its container.
pub const NAME: &str = "{name}";
/// Stands for the model.
const MODEL: &str = "{model}";
/// Stands for the address that it listens on.
const HOST: &str = "{host}";

/// How long a launched engine may take to be ready.
pub(super) const READY: Duration = Duration::from_secs(600);
/// Between two probes of a server that does not answer yet.
const INTERVAL: Duration = Duration::from_millis(250);
const GRACE: Duration = Duration::from_secs(30);
/// The port inside of a container.
const INSIDE: u16 = 8000;

/// How an engine is started and stopped. `{port}` and `{name}` in its words are filled in when it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The program and its arguments.
    pub words: Vec<String>,
    /// Environment variables.
    pub env: Vec<(String, HeaderValue)>,
    /// The folder that it runs in.
    pub cwd: Option<PathBuf>,
    /// A virtual environment, or an interpreter in one, whose programs come first.
    pub python: Option<PathBuf>,
    /// Where its output goes; `None`: among the results.
    pub log: Option<PathBuf>,
    /// The port that it listens on.
    pub port: Port,
    /// How long one process serves.
    pub lifetime: Lifetime,
    /// The signal that asks it to stop.
    pub signal: StopSignal,
    /// How long it may take to stop.
    pub grace: Duration,
    /// A command that runs in every case when it has ended.
    pub after: Vec<String>,
    /// The engine lives in this child, an adapter, and has no server.
    pub offline: Option<Offline>,
}

/// How an adapter is asked to load its engine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Offline {
    /// How it works.
    pub mode: OfflineMode,
    /// Arguments of the engine, as a JSON object.
    pub args: serde_json::Value,
}

/// Stands for the folder of the adapters that come with this program.
pub const ADAPTERS: &str = "{adapters}";

/// When a backend counts as ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadyRule {
    /// The page that is asked first.
    pub path: Option<String>,
    /// What it must answer.
    pub status: u16,
    /// Between two probes.
    pub interval: Duration,
    /// How long it may take.
    pub timeout: Duration,
    /// The engine must list the model.
    pub model_listed: bool,
    /// One token must have been streamed.
    pub first_token: bool,
}

/// What is known of a kind of engine.
struct Known {
    /// What starts it.
    command: &'static [&'static str],
    /// How it is told where to listen.
    listen: &'static [&'static str],
    env: &'static [(&'static str, &'static str)],
    /// The flag that gives the model another name.
    alias: Option<&'static str>,
    /// The page that tells that it is ready.
    health: &'static str,
    /// It lists what it serves.
    lists: bool,
    /// The program that its image starts by itself and that must be told anew.
    entry_point: Option<&'static str>,
    /// What `docker run` needs for it.
    docker: &'static [&'static str],
    /// It cannot do without a GPU.
    gpus: bool,
    /// Flags of up to so many letters stand behind one dash.
    short_flags: usize,
}

const LISTEN: &[&str] = &["--host", HOST, "--port", PORT];

fn known(kind: BackendKind) -> Option<Known> {
    let known = Known {
        command: &[],
        listen: LISTEN,
        env: &[],
        alias: None,
        health: "/health",
        lists: true,
        entry_point: None,
        docker: &[],
        gpus: false,
        short_flags: 1,
    };
    Some(match kind {
        BackendKind::Vllm => Known {
            command: &["vllm", "serve", MODEL],
            // Only then can its prefix cache be reset between cells.
            env: &[("VLLM_SERVER_DEV_MODE", "1")],
            alias: Some("--served-model-name"),
            entry_point: Some("vllm"),
            docker: &["--ipc", "host"],
            gpus: true,
            ..known
        },
        BackendKind::Sglang => Known {
            command: &[
                "python3",
                "-m",
                "sglang.launch_server",
                "--model-path",
                MODEL,
                "--enable-metrics",
            ],
            alias: Some("--served-model-name"),
            docker: &["--ipc", "host", "--shm-size", "32g"],
            gpus: true,
            ..known
        },
        BackendKind::TensorrtLlm => Known {
            command: &["trtllm-serve", MODEL],
            docker: &[
                "--ipc",
                "host",
                "--ulimit",
                "memlock=-1",
                "--ulimit",
                "stack=67108864",
            ],
            gpus: true,
            ..known
        },
        BackendKind::LlamaCpp => Known {
            command: &["llama-server", "--metrics"],
            alias: Some("--alias"),
            entry_point: Some("/app/llama-server"),
            // `-np`, `-ngl`, `-ctk`.
            short_flags: 3,
            ..known
        },
        BackendKind::Ollama => Known {
            command: &["ollama", "serve"],
            listen: &[],
            env: &[("OLLAMA_HOST", "{host}:{port}")],
            health: "/api/version",
            lists: false,
            entry_point: Some("ollama"),
            ..known
        },
        BackendKind::Transformers => Known {
            command: &["transformers", "serve", MODEL],
            lists: false,
            ..known
        },
        BackendKind::Friendli | BackendKind::Openai | BackendKind::Simulator => return None,
    })
}

/// How the backend of an entry is started for a model.
pub(super) fn launch(
    entry: &Entry<BackendSpec>,
    kind: BackendKind,
    model: Option<&Model>,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Option<Launch> {
    if super::backends::is_offline(&entry.value) {
        return offline(entry, kind, model, sources, found);
    }
    let spec = entry.value.launch.as_ref()?;
    let known = known(kind);
    if known.is_none() && command_of(spec).is_none() {
        found.push(
            Diagnostic::error(
                "S072",
                format!("it is not known how an engine of kind `{}` is started", kind.name()),
            )
            .at(entry.key.span, "its `launch` names no command")
            .help("write `launch: { command: [program, \"--port\", \"{port}\"] }`, or give the backend another `kind`"),
        );
        return None;
    }
    let started = Started {
        entry,
        spec,
        kind,
        known,
        model,
    };
    let (words, env, after) = match &spec.docker {
        Some(docker) => started.in_container(docker),
        None => started.directly(),
    };
    let in_env = env.iter().filter_map(|(_, value)| match value {
        HeaderValue::Literal(text) => Some(text),
        HeaderValue::Environment { .. } => None,
    });
    if !words.iter().chain(in_env).any(|word| word.contains(PORT)) {
        let command = command_of(spec).and_then(|command| command.0.first());
        let error = Diagnostic::error("S073", "the engine is not told its port");
        found.push(
            match command {
                Some(word) => error.at(word.span, ""),
                None => error.at(entry.key.span, ""),
            }
            .help("put `{port}` where the port belongs, like `[server, \"--port\", \"{port}\"]`"),
        );
    }
    Some(Launch {
        words,
        env,
        after,
        ..around(entry, spec, sources)
    })
}

/// The adapter of an engine without a server.
fn offline(
    entry: &Entry<BackendSpec>,
    kind: BackendKind,
    model: Option<&Model>,
    sources: &Sources,
    found: &mut Vec<Diagnostic>,
) -> Option<Launch> {
    let nothing = LaunchSpec::default();
    let spec = entry.value.launch.as_ref().unwrap_or(&nothing);
    let file = match kind {
        BackendKind::Vllm => Some("vllm_adapter.py"),
        BackendKind::Sglang => Some("sglang_adapter.py"),
        BackendKind::TensorrtLlm => Some("tensorrt_llm_adapter.py"),
        BackendKind::Friendli
        | BackendKind::LlamaCpp
        | BackendKind::Ollama
        | BackendKind::Transformers
        | BackendKind::Openai
        | BackendKind::Simulator => None,
    };
    let words = match (&spec.command, file) {
        (Some(command), _) => words(command),
        (None, Some(file)) => vec!["python3".to_owned(), format!("{ADAPTERS}/{file}")],
        (None, None) => {
            found.push(
                Diagnostic::error(
                    "S072",
                    format!("no adapter for an engine of kind `{}` is known", kind.name()),
                )
                .at(entry.key.span, "its `launch` names no command")
                .help("write `launch: { command: [python3, my_adapter.py] }`; adapters/README.md tells how it speaks"),
            );
            return None;
        }
    };
    let started = Started {
        entry,
        spec,
        kind,
        known: None,
        model,
    };
    let mut args = JsonMap::new();
    for given in spec.args.iter().chain(started.model_args()) {
        match given {
            ArgsSpec::Named(map) => args.extend(map.clone()),
            ArgsSpec::Words(words) => {
                let place = words.first().map_or(entry.key.span, |word| word.span);
                found.push(
                    Diagnostic::error("S075", "an adapter takes its arguments by name")
                        .at(place, "")
                        .help("write `args: { max_model_len: 4096 }`"),
                );
            }
        }
    }
    // A removed argument is not one that is null.
    args.retain(|_, value| !value.is_null());
    let mode = entry.value.mode.as_ref().map(|mode| mode.value);
    Some(Launch {
        words: words
            .iter()
            .map(|word| started.filled(word, "", PORT))
            .collect(),
        env: started.directly().1,
        offline: Some(Offline {
            mode: match mode {
                Some(Mode::Generate) => OfflineMode::Generate,
                Some(Mode::Stream) | None => OfflineMode::Stream,
            },
            args: Value::Object(args),
        }),
        ..around(entry, spec, sources)
    })
}

/// What is said around the command.
fn around(entry: &Entry<BackendSpec>, spec: &LaunchSpec, sources: &Sources) -> Launch {
    let path = |path: &Spanned<PathBuf>| sources.directory(path.span.source).join(&path.value);
    let python = spec.python.as_ref().map(|python| {
        // A bare name is looked for on the PATH, `~` is the home of who runs it.
        if python.value.starts_with("~") || python.value.components().count() == 1 {
            python.value.clone()
        } else {
            path(python)
        }
    });
    let stop = entry.value.stop.as_ref();
    Launch {
        words: Vec::new(),
        env: Vec::new(),
        cwd: spec.cwd.as_ref().map(path),
        python,
        log: spec.log.as_ref().map(path),
        port: spec.port.as_ref().map_or(Port::Auto, |port| port.value),
        lifetime: spec
            .lifetime
            .as_ref()
            .map_or(Lifetime::Backend, |lifetime| lifetime.value),
        signal: stop
            .and_then(|stop| stop.signal.as_ref())
            .map_or(StopSignal::Term, |signal| signal.value),
        grace: stop
            .and_then(|stop| stop.grace.as_ref())
            .map_or(GRACE, |grace| grace.value),
        after: Vec::new(),
        offline: None,
    }
}

/// When the backend of an entry counts as ready.
pub(super) fn ready(
    spec: &BackendSpec,
    kind: BackendKind,
    api: Api,
    attached: Duration,
) -> ReadyRule {
    let launched = spec.launch.is_some() || super::backends::is_offline(spec);
    let known = known(kind).filter(|_| launched);
    let written = spec.ready.as_ref();
    ReadyRule {
        path: written
            .and_then(|ready| ready.path.as_ref())
            .map(|path| path.value.clone())
            .or_else(|| known.as_ref().map(|known| known.health.to_owned()))
            // Triton has neither a list of models nor a page for people.
            .or_else(|| (api == Api::Triton).then(|| "/v2/health/ready".to_owned())),
        status: written
            .and_then(|ready| ready.status.as_ref())
            .and_then(|status| u16::try_from(status.value).ok())
            .unwrap_or(200),
        interval: written
            .and_then(|ready| ready.interval.as_ref())
            .map_or(INTERVAL, |interval| interval.value),
        timeout: written.and_then(|ready| ready.timeout.as_ref()).map_or(
            if launched || spec.up.is_some() {
                READY
            } else {
                attached
            },
            |timeout| timeout.value,
        ),
        model_listed: written
            .and_then(|ready| ready.model_listed.as_ref())
            .map_or(known.is_some_and(|known| known.lists), |listed| {
                listed.value
            }),
        first_token: written
            .and_then(|ready| ready.first_token.as_ref())
            .map_or(launched, |token| token.value),
    }
}

/// The words of a command.
pub(super) fn words(command: &CommandSpec) -> Vec<String> {
    command.0.iter().map(|word| word.value.clone()).collect()
}

fn command_of(spec: &LaunchSpec) -> Option<&CommandSpec> {
    match &spec.docker {
        Some(docker) => docker.command.as_ref(),
        None => spec.command.as_ref(),
    }
}

/// One engine about to be started.
struct Started<'a> {
    entry: &'a Entry<BackendSpec>,
    spec: &'a LaunchSpec,
    kind: BackendKind,
    known: Option<Known>,
    model: Option<&'a Model>,
}

/// Words, variables, and what runs afterwards.
type Parts = (Vec<String>, Vec<(String, HeaderValue)>, Vec<String>);

impl ReadyRule {
    /// The rule for an engine that is there already: its list of models answers within this time.
    pub fn attached(timeout: Duration) -> ReadyRule {
        ReadyRule {
            path: None,
            status: 200,
            interval: INTERVAL,
            timeout,
            model_listed: false,
            first_token: false,
        }
    }
}

impl Started<'_> {
    fn directly(&self) -> Parts {
        let filled = |text: &str| HeaderValue::Literal(self.filled(text, "127.0.0.1", PORT));
        let known = self
            .known_env()
            .map(|(name, value)| (name.to_owned(), filled(value)));
        let written = self.spec.env.iter().flatten().map(|variable| {
            let value = match &variable.value {
                HeaderSpec::Literal(text) => filled(&text.value),
                HeaderSpec::Environment(secret) => from_environment("", secret),
            };
            (variable.key.value.clone(), value)
        });
        let env = known.chain(written).collect();
        (self.engine("127.0.0.1", PORT), env, Vec::new())
    }

    fn in_container(&self, docker: &DockerSpec) -> Parts {
        let program = docker
            .engine
            .as_ref()
            .map_or(ContainerEngine::Docker, |engine| engine.value)
            .name();
        let name = docker
            .name
            .as_ref()
            .map_or(NAME.to_owned(), |name| name.value.clone());
        let inside = docker
            .port
            .as_ref()
            .map_or(u32::from(INSIDE), |port| port.value)
            .to_string();
        let mut words: Vec<String> = [program, "run", "--rm", "--name", &name]
            .map(str::to_owned)
            .to_vec();
        let mut option =
            |flag: &str, value: &str| words.extend([flag.to_owned(), value.to_owned()]);
        option("--label", "scenario=engine");
        option("--publish", &format!("127.0.0.1:{PORT}:{inside}"));
        let needs_gpus = self.known.as_ref().is_some_and(|known| known.gpus);
        match docker.gpus.as_ref().map(|gpus| gpus.value.as_str()) {
            Some("none") => {}
            Some(gpus) => option("--gpus", gpus),
            None if needs_gpus => option("--gpus", "all"),
            None => {}
        }
        // What the scenario says of a flag stands in place of what the kind needs.
        let texts = |list: &Option<crate::spec::OneOrMany<Spanned<String>>>| -> Vec<String> {
            list.iter()
                .flat_map(|list| list.iter())
                .map(|text| text.value.clone())
                .collect()
        };
        let ulimits = texts(&docker.ulimits);
        for pair in self.known.iter().flat_map(|known| known.docker.chunks(2)) {
            let said = match pair[0] {
                "--ipc" => docker.ipc.is_some(),
                "--ulimit" => !ulimits.is_empty(),
                _ => false,
            };
            if !said {
                option(pair[0], pair[1]);
            }
        }
        docker
            .ipc
            .iter()
            .for_each(|ipc| option("--ipc", &ipc.value));
        ulimits.iter().for_each(|limit| option("--ulimit", limit));
        texts(&docker.ports)
            .iter()
            .for_each(|port| option("--publish", port));
        texts(&docker.volumes)
            .iter()
            .for_each(|volume| option("--volume", volume));
        for (name, value) in self.known_env() {
            option(
                "--env",
                &format!("{name}={}", self.filled(value, "0.0.0.0", &inside)),
            );
        }
        for variable in docker.env.iter().flatten() {
            match &variable.value {
                HeaderSpec::Literal(text) => {
                    option("--env", &format!("{}={}", variable.key.value, text.value))
                }
                HeaderSpec::Environment(_) => option("--env", &variable.key.value),
            }
        }
        let engine = self.engine("0.0.0.0", &inside);
        let own_entry = self
            .known
            .as_ref()
            .and_then(|known| known.entry_point)
            .filter(|_| docker.command.is_none());
        if let Some(entry) = own_entry {
            option("--entrypoint", entry);
        }
        words.extend(texts(&docker.options));
        words.push(docker.image.value.clone());
        words.extend(engine.into_iter().skip(usize::from(own_entry.is_some())));
        // A secret is passed on under the name that the engine wants, by the environment alone.
        let env = docker
            .env
            .iter()
            .flatten()
            .filter_map(|variable| match &variable.value {
                HeaderSpec::Environment(secret) if secret.env.value != variable.key.value => {
                    Some((variable.key.value.clone(), from_environment("", secret)))
                }
                HeaderSpec::Environment(_) | HeaderSpec::Literal(_) => None,
            });
        let after = [program, "rm", "--force", &name]
            .map(str::to_owned)
            .to_vec();
        (words, env.collect(), after)
    }

    fn known_env(&self) -> impl Iterator<Item = (&'static str, &'static str)> {
        self.known.iter().flat_map(|known| known.env).copied()
    }

    /// The command of the engine itself.
    fn engine(&self, host: &str, port: &str) -> Vec<String> {
        let mut engine = match (command_of(self.spec), &self.known) {
            (Some(command), _) => words(command),
            (None, Some(known)) => strings(known.command),
            (None, None) => Vec::new(),
        };
        if let Some(known) = &self.known {
            // A command that places the port itself is complete: a wrapper of the user's own.
            if !engine.iter().any(|word| word.contains(PORT)) {
                engine.extend(self.model_words(known));
                engine.extend(strings(known.listen));
            }
        }
        engine.extend(self.arguments());
        engine
            .iter()
            .map(|word| self.filled(word, host, port))
            .collect()
    }

    /// What tells an engine its model beyond its place in the command.
    fn model_words(&self, known: &Known) -> Vec<String> {
        let Some(model) = self.model else {
            return Vec::new();
        };
        let mut words = Vec::new();
        let id = model.id.as_deref();
        let named = |keys: &[&str]| keys.iter().any(|key| self.names(key));
        if self.kind == BackendKind::LlamaCpp && !named(&["m", "model", "hf-repo", "hf", "hfr"]) {
            let flag = if id.is_some_and(|id| id.ends_with(".gguf")) {
                "--model"
            } else {
                "--hf-repo"
            };
            words.extend(
                id.map(|id| [flag.to_owned(), id.to_owned()])
                    .into_iter()
                    .flatten(),
            );
        }
        let name = model.name_for(&self.entry.key.value);
        // llama.cpp lists the path of its file unless it is told a name.
        let differs = name != id || self.kind == BackendKind::LlamaCpp;
        if let (Some(flag), Some(name), true) = (known.alias, name, differs)
            && !named(&[flag.trim_start_matches('-'), "a"])
        {
            words.extend([flag.to_owned(), name.to_owned()]);
        }
        words
    }

    fn names(&self, key: &str) -> bool {
        let in_args = |args: &ArgsSpec| match args {
            ArgsSpec::Named(map) => map.keys().any(|known| known.trim_start_matches('-') == key),
            ArgsSpec::Words(words) => words.iter().any(|word| {
                word.value
                    .strip_prefix('-')
                    .is_some_and(|flag| flag.trim_start_matches('-') == key)
            }),
        };
        self.spec.args.as_ref().is_some_and(in_args) || self.model_args().is_some_and(in_args)
    }

    fn model_args(&self) -> Option<&ArgsSpec> {
        let model = self.model?;
        model
            .launch_args
            .iter()
            .find(|(backend, _)| *backend == *self.entry.key.value)
            .map(|(_, args)| args)
    }

    /// The arguments of the backend, and those of the model over them.
    fn arguments(&self) -> Vec<String> {
        match (&self.spec.args, self.model_args()) {
            (Some(ArgsSpec::Named(ours)), Some(ArgsSpec::Named(theirs))) => {
                let mut all = ours.clone();
                all.extend(theirs.clone());
                self.flags(&all)
            }
            (ours, theirs) => ours
                .iter()
                .chain(theirs)
                .flat_map(|args| match args {
                    ArgsSpec::Named(map) => self.flags(map),
                    ArgsSpec::Words(words) => words.iter().map(|word| word.value.clone()).collect(),
                })
                .collect(),
        }
    }

    /// Arguments by name as words: `{ max-model-len: 4096, enforce-eager: true }` is `--max-model-len 4096 --enforce-eager`.
    fn flags(&self, args: &JsonMap) -> Vec<String> {
        let short = self.known.as_ref().map_or(1, |known| known.short_flags);
        let mut words = Vec::new();
        for (name, value) in args {
            let flag = match name.chars().count() {
                _ if name.starts_with('-') => name.clone(),
                letters if letters <= short => format!("-{name}"),
                _ => format!("--{name}"),
            };
            match value {
                Value::Null | Value::Bool(false) => {}
                Value::Bool(true) => words.push(flag),
                Value::String(text) => words.extend([flag, text.clone()]),
                Value::Array(items) => {
                    words.push(flag);
                    words.extend(items.iter().map(|item| match item {
                        Value::String(text) => text.clone(),
                        other => other.to_string(),
                    }));
                }
                Value::Number(_) | Value::Object(_) => words.extend([flag, value.to_string()]),
            }
        }
        words
    }

    fn filled(&self, word: &str, host: &str, port: &str) -> String {
        let model = self.model.and_then(|model| model.id.as_deref());
        word.replace(HOST, host)
            .replace(MODEL, model.unwrap_or(MODEL))
            .replace(PORT, port)
    }
}

fn strings(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}
