//! What can be known of the outside world before anything is sent: `scenario check --live`.
//!
//! In: a plan. Out: [`Finding`]s, each with a remedy where something is missing. Nothing is started and no prompt is sent.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::sys::statvfs::statvfs;

use crate::plan::{Backend, Cell, EngineMetrics, Gpus, HeaderValue, Launch, Plan};
use crate::server::{self, Environment, NotReady};
use crate::telemetry::dcgm::DcgmSource;
use crate::telemetry::{host_facts, local_gpus, nvml};
use crate::units::{format_bytes, format_duration};
use crate::workload::{HubKind, Library, WorkloadError};

/// Something that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What: `clock`, `backend vllm`.
    pub subject: String,
    /// What it means for a run.
    pub grade: Grade,
    /// What was found.
    pub told: String,
    /// What to do about it.
    pub remedy: Option<String>,
}

/// What a finding means for a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// It is as it should be.
    Fine,
    /// A run is possible, and worse than it could be.
    Doubtful,
    /// A run cannot measure this.
    Wrong,
}

impl Finding {
    fn fine(subject: &str, told: impl Into<String>) -> Finding {
        Finding {
            subject: subject.to_owned(),
            grade: Grade::Fine,
            told: told.into(),
            remedy: None,
        }
    }

    fn bad(grade: Grade, subject: &str, told: impl Into<String>, remedy: &str) -> Finding {
        Finding {
            subject: subject.to_owned(),
            grade,
            told: told.into(),
            remedy: Some(remedy.to_owned()),
        }
    }
}

/// What is looked at.
#[derive(Clone, Copy)]
pub struct Outside<'a> {
    /// Environment variables.
    pub environment: Environment<'a>,
    /// Where models come from.
    pub library: &'a Library,
    /// Where results would go.
    pub results: &'a Path,
}

/// Looks at everything that a run of this plan needs.
pub fn preflight(plan: &Plan, outside: Outside<'_>) -> Vec<Finding> {
    let mut found = vec![clock(), memory(), disk(outside.results)];
    let mut seen: Vec<&Cell> = Vec::new();
    for cell in &plan.cells {
        let same = |other: &&Cell| {
            (&other.backend.id, &other.backend.launch, &other.model.key)
                == (&cell.backend.id, &cell.backend.launch, &cell.model.key)
        };
        if !seen.iter().any(same) {
            found.extend(backend(plan, cell, outside));
            seen.push(cell);
        }
    }
    // What is the same for two models of one backend is told once.
    let mut distinct: Vec<Finding> = Vec::new();
    for finding in found {
        if !distinct.contains(&finding) {
            distinct.push(finding);
        }
    }
    distinct
}

// ---- this machine ----

/// Reading the clock may not take longer.
const CLOCK_READ: Duration = Duration::from_micros(1);

fn clock() -> Finding {
    const READS: u32 = 1000;
    let began = Instant::now();
    let mut last = began;
    for _ in 0..READS {
        last = Instant::now();
    }
    clock_is(host_facts().clocksource.as_deref(), (last - began) / READS)
}

fn clock_is(source: Option<&str>, read: Duration) -> Finding {
    let source = source.unwrap_or("unknown");
    let told = format!("clock source {source}, read in {} ns", read.as_nanos());
    if read > CLOCK_READ {
        let remedy = "choose a faster one: `echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource`";
        Finding::bad(Grade::Doubtful, "clock", told, remedy)
    } else {
        Finding::fine("clock", told)
    }
}

/// With less memory than this a long run may end early.
const LITTLE_MEMORY: u64 = 512 << 20;

fn memory() -> Finding {
    let text = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let available = text.lines().find_map(|line| {
        let rest = line.strip_prefix("MemAvailable:")?;
        rest.trim()
            .trim_end_matches("kB")
            .trim()
            .parse::<u64>()
            .ok()
    });
    match available.map(|kib| kib * 1024) {
        None => Finding::fine("memory", "not told by this system"),
        Some(bytes) if bytes < LITTLE_MEMORY => Finding::bad(
            Grade::Doubtful,
            "memory",
            format!("{} available", format_bytes(bytes)),
            "end what else runs here: the kernel kills the largest process first, which may be the engine",
        ),
        Some(bytes) => Finding::fine("memory", format!("{} available", format_bytes(bytes))),
    }
}

/// With less than this left the results of a run may not fit.
const LITTLE_DISK: u64 = 1 << 30;
/// With less than this left nothing fits.
const NO_DISK: u64 = 16 << 20;

fn disk(results: &Path) -> Finding {
    let here = PathBuf::from(".");
    let folder = results
        .ancestors()
        .find(|folder| folder.exists())
        .unwrap_or(&here);
    match free(folder) {
        Err(problem) => Finding::bad(
            Grade::Wrong,
            "disk",
            format!("`{}`: {problem}", folder.display()),
            "name another folder with --out",
        ),
        Ok(bytes) => disk_has(folder, bytes),
    }
}

fn disk_has(folder: &Path, bytes: u64) -> Finding {
    let told = format!("{} free in `{}`", format_bytes(bytes), folder.display());
    let grade = match bytes {
        bytes if bytes < NO_DISK => Grade::Wrong,
        bytes if bytes < LITTLE_DISK => Grade::Doubtful,
        _ => return Finding::fine("disk", told),
    };
    Finding::bad(
        grade,
        "disk",
        told,
        "make room, or name another folder with --out",
    )
}

/// Free bytes where a folder lies; an error where nothing can be written.
fn free(folder: &Path) -> Result<u64, String> {
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    nix::unistd::access(folder, nix::unistd::AccessFlags::W_OK)
        .map_err(|error| error.desc().to_owned())?;
    let facts = statvfs(folder).map_err(|error| error.desc().to_owned())?;
    Ok(facts.blocks_available() as u64 * facts.fragment_size() as u64)
}

// ---- one backend ----

fn backend(plan: &Plan, cell: &Cell, outside: Outside<'_>) -> Vec<Finding> {
    let backend = &cell.backend;
    let subject = format!("backend {}", backend.id);
    if backend.is_simulated() {
        let preset = backend.preset.as_deref().unwrap_or("fast");
        return vec![Finding::fine(
            &subject,
            format!("embedded simulator, preset {preset}"),
        )];
    }
    let mut found = secrets(backend, &subject, outside);
    let unset = found.iter().any(|finding| finding.grade == Grade::Wrong);
    match &backend.launch {
        Some(launch) => {
            found.extend(startable(backend, launch, &subject, outside));
            found.extend(weights(cell, launch, &subject, outside));
        }
        // Its first request would be refused.
        None if unset => {}
        None if !backend.up.is_empty() => {
            found.push(Finding::fine(&subject, "is brought up by its `up` command"));
        }
        None => found.extend(answers(cell, &subject, outside)),
    }
    if cell.model.tokenizer.is_some() {
        found.push(Finding::fine(
            &format!("model {}", cell.model.key),
            "its tokenizer is here",
        ));
    }
    found.extend(gpus(plan, cell, &subject));
    if backend.optional {
        // What is missing there skips its cells.
        for finding in &mut found {
            finding.grade = finding.grade.min(Grade::Doubtful);
        }
    }
    found
}

fn secrets(backend: &Backend, subject: &str, outside: Outside<'_>) -> Vec<Finding> {
    let of_launch = backend.launch.iter().flat_map(|launch| &launch.env);
    backend
        .headers
        .iter()
        .chain(of_launch)
        .filter_map(|(name, value)| match value {
            HeaderValue::Literal(_) => None,
            HeaderValue::Environment { name: variable, .. } => Some((name, variable)),
        })
        .map(|(name, variable)| match (outside.environment)(variable) {
            Some(_) => Finding::fine(subject, format!("`{variable}` is set, for {name}")),
            None => Finding::bad(
                Grade::Wrong,
                subject,
                format!("`{variable}` is not set, for {name}"),
                &format!("export {variable}=…"),
            ),
        })
        .collect()
}

/// The program of a launched engine, its folder, its virtual environment, its port.
fn startable(
    backend: &Backend,
    launch: &Launch,
    subject: &str,
    outside: Outside<'_>,
) -> Vec<Finding> {
    let looked = server::could_start(backend, launch, outside.environment);
    let mut found: Vec<Finding> = looked
        .into_iter()
        .map(|look| match look {
            Ok(text) => Finding::fine(subject, text),
            Err(NotReady(problem)) => wrong_with_advice(subject, &problem),
        })
        .collect();
    let container = launch.words.first().filter(|_| !launch.after.is_empty());
    let program_is_there = found.iter().all(|finding| finding.grade == Grade::Fine);
    if let Some(program) = container.filter(|_| program_is_there) {
        found.push(match server::answers(program, &["version"]) {
            Ok(()) => Finding::fine(subject, format!("`{program}` answers")),
            Err(problem) => Finding::bad(
                Grade::Wrong,
                subject,
                format!("`{program} version`: {problem}"),
                "start its daemon, or join the group that may speak to it",
            ),
        });
    }
    found
}

/// A problem whose text says behind a colon what to do about it.
fn wrong_with_advice(subject: &str, problem: &str) -> Finding {
    // A colon in quoted text, like `port: auto`, is no end of anything.
    let mut in_code = false;
    let colon = problem.char_indices().find(|(at, letter)| {
        in_code ^= *letter == '`';
        !in_code && problem[*at..].starts_with(": ")
    });
    match colon {
        Some((at, _)) => Finding::bad(Grade::Wrong, subject, &problem[..at], &problem[at + 2..]),
        None => Finding::bad(
            Grade::Wrong,
            subject,
            problem,
            "see `launch` of this backend",
        ),
    }
}

/// The weights of a launched engine: a path that is there, or a model that the hub gives.
fn weights(cell: &Cell, launch: &Launch, subject: &str, outside: Outside<'_>) -> Option<Finding> {
    let id = cell.model.id.as_deref()?;
    // Only where the engine is told the model does it have to find it.
    let is_told = launch.words.iter().any(|word| word == id) || launch.offline.is_some();
    let in_container = !launch.after.is_empty();
    if !is_told {
        return None;
    }
    let folder = launch.cwd.clone().unwrap_or_default();
    if folder.join(id).exists() && !in_container {
        return Some(Finding::fine(subject, format!("model `{id}` is here")));
    }
    let is_path = id.starts_with(['.', '/', '~']) || id.ends_with(".gguf") || !id.contains('/');
    if is_path {
        return (!in_container).then(|| {
            Finding::bad(
                Grade::Wrong,
                subject,
                format!("model `{id}` is not here"),
                "give the path of its weights, or its name on the hub",
            )
        });
    }
    let name = id.split(':').next().unwrap_or(id);
    Some(
        match outside
            .library
            .hub_file(HubKind::Model, name, "config.json")
        {
            Ok(_) => Finding::fine(subject, format!("model `{name}` is known to the hub")),
            // A repository without that file, as those with GGUF files are, is there all the same.
            Err(WorkloadError::Fetch { absent: true, .. }) if id.contains(':') => Finding::fine(
                subject,
                format!("model `{name}` is asked for when it starts"),
            ),
            Err(error) => Finding::bad(
                Grade::Wrong,
                subject,
                format!("model `{name}`: {error}"),
                "check its name; a gated model needs HF_TOKEN, and without a network it has to be in the cache",
            ),
        },
    )
}

/// Whether an engine that is there already answers, and how.
fn answers(cell: &Cell, subject: &str, outside: Outside<'_>) -> Vec<Finding> {
    let backend = &cell.backend;
    let mut once = |problem: &str| Err(NotReady(problem.to_owned()));
    let asked = server::bring_up(backend, &cell.model, 1, outside.environment, &mut once);
    let ready = match asked {
        Ok(ready) => ready,
        Err(NotReady(problem)) => {
            let remedy = if problem.contains("under `models`") {
                "write the name that it lists under `models`, or `served_as`"
            } else {
                "start it, correct its `url`, or have it started with `launch`"
            };
            return vec![Finding::bad(Grade::Wrong, subject, problem, remedy)];
        }
    };
    let version = ready.facts.version.as_deref();
    let version = version.map_or(String::new(), |version| format!(", version {version}"));
    let told = format!(
        "answers at {} as `{}`{version}",
        ready.facts.url, ready.model
    );
    let mut found = vec![Finding::fine(subject, told)];
    match (server::metrics_page(backend, &ready), &backend.metrics) {
        (Ok(Some(_)), _) => found.push(Finding::fine(subject, "has a metrics page")),
        (Ok(None), EngineMetrics::Auto) => found.push(Finding::bad(
            Grade::Doubtful,
            subject,
            "has no metrics page: queue and KV cache stay unknown",
            "start it with its metrics (`--enable-metrics`, `--metrics`), or write `metrics: none`",
        )),
        (Ok(None), EngineMetrics::Off | EngineMetrics::Url(_)) => {}
        (Err(problem), _) => found.push(Finding::bad(
            Grade::Doubtful,
            subject,
            problem,
            "correct its `metrics`, or write `metrics: none`",
        )),
    }
    found
}

/// Memory of a GPU that is in use by others before an engine comes.
const GPU_MEMORY_IN_USE: u64 = 1 << 30;

fn gpus(plan: &Plan, cell: &Cell, subject: &str) -> Vec<Finding> {
    let backend = &cell.backend;
    let is_here = backend.launch.is_some();
    let indices = match &backend.gpus {
        Gpus::Off => return Vec::new(),
        Gpus::Dcgm { url, devices } => return dcgm(plan, backend, (url, devices), subject),
        Gpus::Nvml(indices) => Some(indices.as_slice()),
        Gpus::Auto if is_here && backend.kind.needs_gpus() => None,
        Gpus::Auto => return Vec::new(),
    };
    let source = match local_gpus(indices) {
        Ok(source) => source,
        Err(problem) => {
            let remedy = "install the NVIDIA driver, or write `gpus: none`";
            return vec![Finding::bad(Grade::Doubtful, subject, problem, remedy)];
        }
    };
    let names: Vec<String> = source
        .devices()
        .iter()
        .map(|gpu| format!("GPU {}: {}", gpu.index, gpu.name))
        .collect();
    let mut found = vec![Finding::fine(subject, names.join(", "))];
    let used = nvml::memory_used().filter(|_| is_here).unwrap_or_default();
    found.extend(
        used.iter()
            .enumerate()
            .filter(|(_, bytes)| **bytes > GPU_MEMORY_IN_USE)
            .map(|(index, bytes)| {
                Finding::bad(
                    Grade::Doubtful,
                    subject,
                    format!("{} of GPU {index} are in use already", format_bytes(*bytes)),
                    "`nvidia-smi` shows by whom: end it, or choose others with CUDA_VISIBLE_DEVICES under `launch.env`",
                )
            }),
    );
    found
}

/// How often an exporter reads its GPUs unless it is told otherwise.
const DCGM_EVERY: Duration = Duration::from_secs(30);
/// A stage with fewer samples says little of its GPUs.
const SAMPLES: u32 = 5;

fn dcgm(
    plan: &Plan,
    backend: &Backend,
    (url, devices): (&str, &[u32]),
    subject: &str,
) -> Vec<Finding> {
    let opened = server::page(url, &backend.tls).and_then(|page| DcgmSource::open(page, devices));
    let source = match opened {
        Ok(source) => source,
        Err(problem) => {
            let remedy = "start the DCGM exporter there, or correct `gpus: { dcgm: URL }`";
            return vec![Finding::bad(Grade::Doubtful, subject, problem, remedy)];
        }
    };
    use crate::telemetry::TelemetrySource;
    let count = source.devices().len();
    let told = format!("the DCGM exporter tells of {count} GPUs");
    let mut found = vec![Finding::fine(subject, told)];
    let shortest = plan
        .cells
        .iter()
        .filter(|cell| cell.backend.id == backend.id)
        .flat_map(|cell| &cell.stages)
        .filter(|stage| stage.measured)
        .filter_map(|stage| Duration::try_from_secs_f64(stage.expected.value()?).ok())
        .min();
    if let Some(shortest) = shortest.filter(|shortest| *shortest < DCGM_EVERY * SAMPLES) {
        found.push(Finding::bad(
            Grade::Doubtful,
            subject,
            format!(
                "{} samples of its GPUs in the shortest stage ({}), if the exporter keeps its {}",
                shortest.as_secs() / DCGM_EVERY.as_secs(),
                format_duration(shortest),
                format_duration(DCGM_EVERY)
            ),
            "start the exporter with `--collect-interval 1000`, or make the stage longer",
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_clock_is_doubtful() {
        let fast = clock_is(Some("tsc"), Duration::from_nanos(25));
        assert_eq!(
            (fast.grade, fast.told.as_str()),
            (Grade::Fine, "clock source tsc, read in 25 ns")
        );
        let slow = clock_is(Some("acpi_pm"), Duration::from_nanos(1500));
        assert_eq!(slow.grade, Grade::Doubtful);
        assert!(slow.remedy.unwrap().contains("echo tsc"));
    }

    #[test]
    fn a_disk_without_room_is_told() {
        let folder = Path::new("results");
        let grade = |bytes| disk_has(folder, bytes).grade;
        assert_eq!(grade(2 << 30), Grade::Fine);
        assert_eq!(grade(100 << 20), Grade::Doubtful);
        assert_eq!(grade(1 << 20), Grade::Wrong);
        assert_eq!(
            disk_has(folder, 100 << 20).told,
            "100 MiB free in `results`"
        );
    }

    #[test]
    fn the_advice_of_a_problem_stands_behind_its_colon() {
        for (problem, told, remedy) in [
            (
                "`vllm` is not on the PATH: install it",
                "`vllm` is not on the PATH",
                "install it",
            ),
            (
                "port 1 is held: stop it, or write `port: auto`",
                "port 1 is held",
                "stop it, or write `port: auto`",
            ),
        ] {
            let finding = wrong_with_advice("backend a", problem);
            assert_eq!(finding.told, told);
            assert_eq!(finding.remedy.as_deref(), Some(remedy));
        }
    }
}
