//! Conversations as written become a set of them, and how they are held.

use std::path::PathBuf;
use std::time::Duration;

use super::loads::think;
use super::{Api, Backend, Dialogue, Distribution, Model};
use crate::diagnostic::{Diagnostic, Span, Spanned};
use crate::spec::{
    ConversationsSource, DistributionSpec, History, LoadForm, PromptsSpec, SourceSpec,
};
use crate::workload::{Filter, Source, TurnFilter, Workload};

/// The set, whose file is at `path`.
pub(super) fn source(written: &ConversationsSource, path: PathBuf) -> Source {
    let turns = |bound: &Option<Spanned<u32>>| bound.as_ref().map(|turns| turns.value);
    Source::Conversations {
        path,
        filter: filter(written),
        turns: TurnFilter {
            min_turns: turns(&written.min_turns).unwrap_or(1),
            max_turns: turns(&written.max_turns).unwrap_or(u32::MAX),
            recorded: history(written) == History::Recorded,
        },
    }
}

/// Which conversations are wanted, by what is said first.
pub(super) fn filter(written: &ConversationsSource) -> Filter {
    let length = |bound: &Option<Spanned<u32>>| bound.as_ref().map(|bound| bound.value as usize);
    Filter {
        min_chars: length(&written.min_chars),
        max_chars: length(&written.max_chars),
        min_tokens: written.min_input_tokens.as_ref().map(|least| least.value),
        max_tokens: written.max_input_tokens.as_ref().map(|most| most.value),
        matches: written.matches.as_ref().map(|text| text.value.clone()),
    }
}

fn history(written: &ConversationsSource) -> History {
    let history = written.history.as_ref();
    history.map_or(History::Live, |history| history.value)
}

/// How the conversations of a set are held, if it is a set of conversations; `between` is what the load says of the time from
/// an answer to the next request.
pub(super) fn dialogue(
    written: Option<&PromptsSpec>,
    workload: &Workload,
    between: Option<&DistributionSpec<Duration>>,
) -> Option<Dialogue> {
    let SourceSpec::Conversations(conversations) = &written?.source.value else {
        return None;
    };
    let time = conversations.think.as_ref().or(between);
    Some(Dialogue {
        history: history(conversations),
        think: time.map_or(Distribution::Fixed(0.0), think),
        turns: workload.facts().turns.mean,
    })
}

/// What conversations need that this load or this backend does not have.
pub(super) fn check(
    form: &Spanned<LoadForm>,
    backend: &Backend,
    model: &Model,
    workload: &Workload,
    place: Span,
    found: &mut Vec<Diagnostic>,
) {
    if matches!(form.value, LoadForm::Batch(_)) {
        found.push(
            Diagnostic::error(
                "S157",
                "a batch sends single prompts, and conversations go turn by turn",
            )
            .at(form.span, "")
            .help(
                "give the load users or a rate, or leave the combination out by `matrix.exclude`",
            ),
        );
    }
    if takes_messages(backend.api) {
        return;
    }
    let tokenizer = model.tokenizer.as_ref();
    let Some(template) = tokenizer.and_then(|tokenizer| tokenizer.template()) else {
        let message = format!(
            "`{}` takes a text, and what a conversation looks like to model `{}` is not known",
            backend.api.name(),
            model.key
        );
        found.push(
            Diagnostic::error("S158", message).at(place, "").help(
                "give the model a `tokenizer` with a chat template, or the backend `api: chat`",
            ),
        );
        return;
    };
    let mut turns = vec![("user", "One?"), ("assistant", "Yes."), ("user", "Two?")];
    if workload.has_system_messages() {
        turns.insert(0, ("system", "Be short."));
    }
    if let Err(error) = template.render(&turns) {
        let message = format!(
            "the chat template of model `{}` takes no such conversations: {error}",
            model.key
        );
        found.push(Diagnostic::error("S158", message).at(place, ""));
    }
}

/// Whether a language has messages of its own; in the others the chat template makes one text of them.
pub fn takes_messages(api: Api) -> bool {
    match api {
        Api::Chat | Api::Responses | Api::Messages | Api::Ollama => true,
        Api::Completions | Api::Generate | Api::Triton | Api::Tgi | Api::Offline => false,
    }
}
