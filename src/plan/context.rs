//! What becomes of prompts that do not fit the model's context: `over_context`.

use std::sync::Arc;

use super::conversations::takes_messages;
use super::prompts::{self, LoadedSet};
use super::{Backend, Model, RequestParameters};
use crate::diagnostic::{Diagnostic, Span};
use crate::spec::{OverContext, PromptsSpec};
use crate::workload::Context;

/// By which arguments engines are told their context, in tokens.
const ARGUMENTS: [&str; 5] = [
    "--max-model-len",
    "--context-length",
    "--ctx-size",
    "--max-seq-len",
    "-c",
];

/// The set as it fits the model's context: `None` inside where it is as it was, nothing where that is a mistake.
pub(super) fn fitted(
    set: &LoadedSet,
    written: Option<&PromptsSpec>,
    model: &Model,
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
    let told = model.context.or_else(|| launched_with(backend));
    let tokens = match (what, told) {
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
    if beyond == 0 {
        return Some(None);
    }
    let how_many = match beyond {
        1 => format!("1 prompt of `{}` does not fit", set.name),
        _ => format!("{beyond} prompts of `{}` do not fit", set.name),
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
        (OverContext::Clip, 1) => "it is cut",
        (OverContext::Clip, _) => "they are cut",
        (OverContext::Skip | OverContext::Error, 1) => "it is left out",
        (OverContext::Skip | OverContext::Error, _) => "they are left out",
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

/// The context that a launched engine is told by an argument.
fn launched_with(backend: &Backend) -> Option<u32> {
    let words = &backend.launch.as_ref()?.words;
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
