//! What the fields of a record must keep to together, and the ranges of numbers.

use super::decode::Problems;
use super::tree::Map;
use super::types::{
    BackendSpec, BatchSize, BatchSpec, ConversationsSource, CostSpec, DockerSpec, DriveSpec,
    HeaderSpec, InlineSource, Interface, LaunchSpec, LevelsSpec, ModelSpec, OutputFormat,
    OutputKind, ProcessSpec, PromptsUse, ReadySpec, RequestSpec, RunSpec, StageSpec, TargetSpec,
    TraceFormat, TraceLoadSpec, TraceSource, WorkersSpec,
};
use super::values::Table;
use crate::diagnostic::{Span, Spanned};
use crate::secret::is_secret;

/// The keys that say how far a stage or level goes.
pub(super) const EXTENTS: &[&str] = &["for", "requests", "requests_per_user"];

/// Headers whose value is always a secret.
const SECRET_HEADERS: &[&str] = &[
    "authorization",
    "proxy-authorization",
    "cookie",
    "x-api-key",
    "api-key",
];

pub(super) fn output(spec: &OutputFormat, map: &Map, problems: &mut Problems) {
    let format = &spec.format;
    let is_sent = matches!(format.value, OutputKind::Otlp | OutputKind::Prometheus);
    if is_sent && spec.url.is_none() {
        problems.error(
            "S018",
            "nothing says where this is sent to",
            format.span,
            "",
        );
        problems.advise("write `url: http://…` beside it");
    }
    let wrong: &[&str] = if is_sent {
        &["path"]
    } else {
        &["url", "headers"]
    };
    for key in wrong {
        if let Some((key, _)) = problems.find(map, key) {
            let span = key.span;
            let (said, hint) = if is_sent {
                (
                    "what is sent has no `path`",
                    "write `url`, or another format",
                )
            } else {
                (
                    "a file has neither `url` nor `headers`",
                    "they belong to `otlp` and `prometheus`",
                )
            };
            problems.error("S018", said, span, "");
            problems.advise(hint);
        }
    }
    for header in spec.headers.iter().flatten() {
        let secret = SECRET_HEADERS.contains(&header.key.value.to_ascii_lowercase().as_str());
        if let (true, HeaderSpec::Literal(literal)) = (secret, &header.value) {
            literal_secret(
                &format!("the header `{}`", header.key.value),
                literal.span,
                problems,
            );
        }
    }
}

pub(super) fn backend(spec: &BackendSpec, map: &Map, problems: &mut Problems) {
    problems.only_one_of(
        map,
        &["url", "launch"],
        "a launched engine listens where its `launch` says",
    );
    problems.only_one_of(
        map,
        &["launch", "up"],
        "an engine is launched, or brought up by a command",
    );
    let offline = spec
        .interface
        .as_ref()
        .is_some_and(|interface| interface.value == Interface::Offline);
    if offline {
        for key in ["url", "api", "metrics", "auth", "headers"] {
            problems.only_one_of(
                map,
                &["interface", key],
                "an engine without a server has no such thing",
            );
        }
    } else if let Some((key, _)) = problems.find(map, "mode") {
        let span = key.span;
        problems.error("S018", "`mode` is for offline engines", span, "");
        problems.advise("write `interface: offline` beside it, or leave it out");
    }
    if let (None, false, Some((key, _))) = (&spec.launch, offline, problems.find(map, "stop")) {
        let span = key.span;
        problems.error("S018", "`stop` has nothing to stop", span, "");
        problems.advise("it belongs to `launch`; what `up` brought up is taken down by `down`");
    }
    for header in spec.headers.iter().flatten() {
        let secret = SECRET_HEADERS.contains(&header.key.value.to_ascii_lowercase().as_str());
        if let (true, HeaderSpec::Literal(literal)) = (secret, &header.value) {
            literal_secret(&header.key.value, literal.span, problems);
        }
    }
    if let Some(url) = &spec.url
        && url.value.as_str().contains(['?', '#'])
    {
        problems.error(
            "S023",
            "the address of a backend has no `?` and no `#`",
            url.span,
            "",
        );
        problems.advise("requests go to pages behind it; what each of them asks stands under `request.extra` or `headers`");
    }
    if let Some(limit) = spec
        .limit
        .as_ref()
        .and_then(|limit| limit.in_flight.as_ref())
    {
        problems.at_least_one("in_flight", limit);
    }
}

pub(super) fn model(spec: &ModelSpec, _map: &Map, problems: &mut Problems) {
    for adapter in spec.lora.iter().flatten() {
        if !(adapter.value.value.is_finite() && adapter.value.value > 0.0) {
            problems.error("S024", "a weight must be above 0", adapter.value.span, "");
            problems.advise("leave an adapter out that no request should ask for");
        }
    }
}

pub(super) fn ready(spec: &ReadySpec, _map: &Map, problems: &mut Problems) {
    if let Some(path) = &spec.path
        && !path.value.starts_with('/')
    {
        problems.error("S024", "`path` must begin with `/`", path.span, "");
    }
    if let Some(status) = &spec.status
        && !(100..600).contains(&status.value)
    {
        problems.error("S024", "`status` must be an HTTP status", status.span, "");
    }
}

pub(super) fn launch(spec: &LaunchSpec, map: &Map, problems: &mut Problems) {
    no_secrets_in(spec.env.as_ref(), problems);
    for key in ["command", "python", "cwd", "env"] {
        problems.only_one_of(
            map,
            &["docker", key],
            "what runs in a container is said under `docker`",
        );
    }
}

pub(super) fn docker(spec: &DockerSpec, _map: &Map, problems: &mut Problems) {
    if let Some(port) = &spec.port
        && !(1..=u32::from(u16::MAX)).contains(&port.value)
    {
        problems.error("S024", "`port` must be between 1 and 65535", port.span, "");
    }
    no_secrets_in(spec.env.as_ref(), problems);
}

/// Notes variables whose name says that their value is a secret.
fn no_secrets_in(variables: Option<&Table<HeaderSpec>>, problems: &mut Problems) {
    for variable in variables.into_iter().flatten() {
        let secret = is_secret(&variable.key.value);
        if let (true, HeaderSpec::Literal(literal)) = (secret, &variable.value) {
            literal_secret(&variable.key.value, literal.span, problems);
        }
    }
}

/// Notes a secret that stands in the file. The renderer hides what the span covers.
pub(super) fn literal_secret(what: &str, span: Span, problems: &mut Problems) {
    let message = format!("`{what}` holds a secret, which does not belong in a file");
    problems.error("S020", message, span, "");
    problems.advise("put it in an environment variable and write `{ env: NAME_OF_THE_VARIABLE }`");
}

pub(super) fn inline(spec: &InlineSource, map: &Map, problems: &mut Problems) {
    if let (true, Some((key, _))) = (spec.prompts.is_empty(), problems.find(map, "prompts")) {
        problems.error(
            "S025",
            "the list is empty",
            key.span,
            "write at least one prompt",
        );
    }
}

pub(super) fn trace_source(spec: &TraceSource, map: &Map, problems: &mut Problems) {
    let own = matches!(spec.format.value, TraceFormat::Jsonl | TraceFormat::Csv);
    if let (false, Some((key, _))) = (own, problems.find(map, "fields")) {
        let message = format!("`{}` has field names of its own", spec.format.value.name());
        problems.error("S018", message, key.span, "");
        problems.advise("write `format: jsonl` or `format: csv` to name them");
    }
    if let Some(tokens) = &spec.block_tokens {
        problems.at_least_one("block_tokens", tokens);
    }
}

pub(super) fn trace_load(spec: &TraceLoadSpec, _: &Map, problems: &mut Problems) {
    for (name, factor) in [("speed", &spec.speed), ("rate_scale", &spec.rate_scale)] {
        if let Some(factor) = factor
            && !(factor.value.is_finite() && factor.value > 0.0)
        {
            let message = format!("`{name}` must be above 0");
            problems.error("S024", message, factor.span, "");
        }
    }
    if let Some(laps) = &spec.laps {
        problems.at_least_one("loop", laps);
    }
    if let (Some(from), Some(to)) = (&spec.from, &spec.to)
        && from.value >= to.value
    {
        problems.error("S024", "`to` is not after `from`", to.span, "");
    }
}

pub(super) fn conversations(spec: &ConversationsSource, _: &Map, problems: &mut Problems) {
    for (key, turns) in [
        ("min_turns", &spec.min_turns),
        ("max_turns", &spec.max_turns),
    ] {
        if let Some(turns) = turns {
            problems.at_least_one(key, turns);
        }
    }
    if let (Some(least), Some(most)) = (&spec.min_turns, &spec.max_turns)
        && least.value > most.value
    {
        problems.error("S024", "`max_turns` is below `min_turns`", most.span, "");
    }
}

pub(super) fn prompts_use(spec: &PromptsUse, map: &Map, problems: &mut Problems) {
    problems.only_one_of(
        map,
        &["max_tokens", "output_tokens"],
        "`output_tokens` sets every length, `max_tokens` only a cap",
    );
    if let Some(limit) = &spec.limit {
        problems.at_least_one("limit", limit);
    }
    if let Some(max_tokens) = &spec.max_tokens {
        problems.at_least_one("max_tokens", max_tokens);
    }
}

pub(super) fn stage(spec: &StageSpec, map: &Map, problems: &mut Problems) {
    problems.only_one_of(
        map,
        &["rate", "users"],
        "a stage has a rate (open loop) or users (closed loop)",
    );
    match (&spec.rate, &spec.users, &spec.to) {
        (Some(_), None, Some(to)) if matches!(to.value, TargetSpec::Users(_)) => {
            problems.error("S015", "`to` has no unit", to.span, "");
            problems.advise("the stage begins with a rate; write a rate here, too, like `16/s`");
        }
        (None, Some(_), Some(to)) if matches!(to.value, TargetSpec::Rate(_)) => {
            problems.error("S013", "`to` is a rate", to.span, "");
            problems.advise("the stage begins with users; write a number of users");
        }
        _ => {}
    }
    let extent = problems.only_one_of(map, EXTENTS, "a stage ends in one way");
    let place = map.entries.first().map(|(key, _)| key.span);
    if let (None, None, Some(place)) = (extent, &spec.burst, place) {
        problems.error(
            "S011",
            "the stage has no end",
            place,
            "one of `for`, `requests`, `requests_per_user` must be given here",
        );
    }
    let measured = spec.measure.as_ref().is_none_or(|measure| measure.value);
    if let (None, true, Some(place)) = (&spec.name, measured, place) {
        problems.error(
            "S011",
            "`name` is missing",
            place,
            "a measured stage needs a name, which SLOs and reports use",
        );
    }
    for (key, value) in [
        ("requests", &spec.requests),
        ("requests_per_user", &spec.requests_per_user),
    ] {
        if let Some(value) = value {
            problems.at_least_one(key, value);
        }
    }
}

pub(super) fn levels(spec: &LevelsSpec, map: &Map, problems: &mut Problems) {
    let kind = problems.only_one_of(
        map,
        &["users", "rate"],
        "levels are numbers of users (closed loop) or rates (open loop)",
    );
    if let (None, Some((first, _))) = (kind, map.entries.first()) {
        problems.error(
            "S011",
            "the levels are missing",
            first.span,
            "`users` or `rate` must be given here",
        );
    }
    problems.only_one_of(map, EXTENTS, "a level ends in one way");
    for users in spec.users.iter().flat_map(|users| users.iter()) {
        problems.at_least_one("users", users);
    }
    for rate in spec.rate.iter().flat_map(|rates| rates.iter()) {
        if rate.value.per_second() == 0.0 {
            problems.error("S024", "a level's rate must be above 0", rate.span, "");
        }
    }
    for (key, value) in [
        ("requests", &spec.requests),
        ("requests_per_user", &spec.requests_per_user),
    ] {
        if let Some(value) = value {
            problems.at_least_one(key, value);
        }
    }
}

pub(super) fn batch(spec: &BatchSpec, _map: &Map, problems: &mut Problems) {
    if let BatchSize::Of(0) = spec.size.value {
        problems.error("S024", "`size` must be at least 1", spec.size.span, "");
    }
    if let Some(requests) = &spec.requests {
        problems.at_least_one("requests", requests);
    }
}

pub(super) fn drive(spec: &DriveSpec, _map: &Map, problems: &mut Problems) {
    if let Some(cap) = &spec.max_in_flight {
        problems.at_least_one("max_in_flight", cap);
    }
    if let Some(process) = &spec.process
        && let ProcessSpec::Gamma(shape) = process.value
        && shape <= 0.0
    {
        problems.error(
            "S024",
            "the shape of `gamma` must be above 0",
            process.span,
            "",
        );
    }
}

pub(super) fn request(spec: &RequestSpec, _map: &Map, problems: &mut Problems) {
    if let Some(max_tokens) = &spec.max_tokens {
        problems.at_least_one("max_tokens", max_tokens);
    }
    within(
        problems,
        "temperature",
        spec.temperature.as_ref(),
        0.0,
        f64::MAX,
        "at least 0",
    );
    within(
        problems,
        "top_p",
        spec.top_p.as_ref(),
        0.0,
        1.0,
        "between 0 and 1",
    );
}

pub(super) fn run(spec: &RunSpec, _map: &Map, problems: &mut Problems) {
    if let Some(repeats) = &spec.repeats {
        problems.at_least_one("repeats", repeats);
    }
    if let Some(workers) = &spec.workers
        && workers.value == WorkersSpec::Of(0)
    {
        problems.error("S024", "`workers` must be at least 1", workers.span, "");
    }
}

pub(super) fn cost(spec: &CostSpec, _map: &Map, problems: &mut Problems) {
    within(
        problems,
        "gpu_hour",
        spec.gpu_hour.as_ref(),
        0.0,
        f64::MAX,
        "at least 0",
    );
}

fn within(
    problems: &mut Problems,
    key: &str,
    value: Option<&Spanned<f64>>,
    low: f64,
    high: f64,
    words: &str,
) {
    if let Some(value) = value
        && !(low..=high).contains(&value.value)
    {
        problems.error("S024", format!("`{key}` must be {words}"), value.span, "");
    }
}
