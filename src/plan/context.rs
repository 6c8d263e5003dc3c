//! What becomes of prompts that do not fit the model's context: `over_context`.

use std::sync::Arc;

use super::conversations::takes_messages;
use super::prompts::{self, LoadedSet};
use super::{Backend, Model, RequestParameters, backends, launch};
use crate::diagnostic::{Diagnostic, Sources, Span};
use crate::spec::{BackendSpec, Entry, OverContext, PromptsSpec};
use crate::workload::{Beyond, Context};

/// By which arguments engines are told their context, in tokens.
const ARGUMENTS: [&str; 5] = [
    "--max-model-len",
    "--context-length",
    "--ctx-size",
    "--max-seq-len",
    "-c",
];

/// The set as it fits the model's context, or else what the engine is told of it (`started_with`): `None` inside where it is as it
/// was, nothing where that is a mistake.
pub(super) fn fitted(
    set: &LoadedSet,
    written: Option<&PromptsSpec>,
    model: &Model,
    started_with: Option<u32>,
    backend: &Backend,
    request: &RequestParameters,
    found: &mut Vec<Diagnostic>,
) -> Option<Option<LoadedSet>> {
    let over = written.and_then(|written| written.use_as.over_context.as_ref());
    let what = over.map_or(OverContext::Error, |over| over.value);
    let place = match (over, written) {
        (Some(over), _) => over.span,
        (None, Some(written)) => prompts::place(written),
        (None, None) => return Some(None),
    };
    let tokens = match (what, model.context.or(started_with)) {
        (OverContext::Error, _) => model.context,
        (OverContext::Skip | OverContext::Clip, None) => {
            found.push(unknown(what, model, place));
            return None;
        }
        (OverContext::Skip | OverContext::Clip, told) => told,
    };
    let Some(tokens) = tokens else {
        return Some(None);
    };
    let context = Context {
        tokens,
        answer: request.max_tokens,
        chat: takes_messages(backend.api),
        tokenizer: model.tokenizer.clone(),
    };
    let beyond = set.workload.beyond(&context);
    let Some(how_many) = how_many(beyond, what, &set.name) else {
        return Some(None);
    };
    let how_many = format!(
        "{how_many} the context of model `{}`, {tokens} tokens with the answer",
        model.key
    );
    if what == OverContext::Error {
        let error = Diagnostic::error("S161", how_many).at(place, "");
        found.push(error.help("leave them out by `over_context: skip`, or cut them by `clip`"));
        return None;
    }
    let Some(workload) = set.workload.within(&context, what == OverContext::Clip) else {
        let error = Diagnostic::error("S161", format!("{how_many}: none is left"));
        found.push(error.at(place, ""));
        return None;
    };
    let fate = match (what, beyond) {
        (_, Beyond::Made { .. }) => "longer ones are made shorter",
        (OverContext::Clip, Beyond::Prompts(1)) => "it is cut",
        (OverContext::Clip, Beyond::Prompts(_)) => "they are cut",
        (OverContext::Skip | OverContext::Error, Beyond::Prompts(1)) => "it is left out",
        (OverContext::Skip | OverContext::Error, Beyond::Prompts(_)) => "they are left out",
    };
    found.push(Diagnostic::warning("L152", format!("{how_many}: {fate}")).at(place, ""));
    Some(Some(LoadedSet {
        id: set.id.clone(),
        name: set.name.clone(),
        tokenizer: set.tokenizer.clone(),
        cache: set.cache,
        workload: Arc::new(workload),
    }))
}

/// How many prompts do not fit, in words that the context follows; nothing where all do. That one may come which does not is no error.
fn how_many(beyond: Beyond, what: OverContext, set: &str) -> Option<String> {
    let (prompts, of) = match beyond {
        Beyond::Prompts(0) => return None,
        Beyond::Made { prompts: 0, .. } if what == OverContext::Error => return None,
        Beyond::Made { prompts: 0, .. } => return Some(format!("prompts of `{set}` may not fit")),
        Beyond::Prompts(prompts)
        | Beyond::Made {
            prompts,
            of_first: None,
        } => (prompts, String::new()),
        Beyond::Made {
            prompts,
            of_first: Some(first),
        } => (prompts, format!("of the first {first} ")),
    };
    Some(match (prompts, of.is_empty()) {
        (1, true) => format!("1 prompt of `{set}` does not fit"),
        (1, false) => format!("1 {of}prompts of `{set}` does not fit"),
        _ => format!("{prompts} {of}prompts of `{set}` do not fit"),
    })
}

fn unknown(what: OverContext, model: &Model, place: Span) -> Diagnostic {
    let what = what.name();
    Diagnostic::error(
        "S161",
        format!(
            "`over_context: {what}`, and the context of model `{}` is not known",
            model.key
        ),
    )
    .at(place, "")
    .help("give the model its `context` in tokens, like `context: 8192`")
}

/// The context that the engine of a backend is told by an argument when it is started, also where the simulator stands in for it.
pub(super) fn started_with(
    entry: &Entry<BackendSpec>,
    model: &Model,
    sources: &Sources,
) -> Option<u32> {
    // What is wrong with it is told where it is started.
    let wrong = &mut Vec::new();
    let launch = launch::launch(entry, backends::kind(entry), Some(model), sources, wrong)?;
    told_in(&launch.words)
}

fn told_in(words: &[String]) -> Option<u32> {
    words
        .iter()
        .zip(words.iter().skip(1).map(Some).chain([None]))
        .find_map(|(word, next)| {
            let (name, value) = match word.split_once('=') {
                Some((name, value)) => (name, Some(value)),
                None => (word.as_str(), next.map(String::as_str)),
            };
            ARGUMENTS.contains(&name).then(|| value?.parse().ok())?
        })
}
