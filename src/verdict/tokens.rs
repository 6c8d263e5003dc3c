//! Whether the engine's usage and the model's tokenizer agree on how long prompts are: where they do not, the engine serves another
//! model than the one on the label, or puts something before each prompt.

use super::guards::{Doubt, GuardTold, share_told};
use super::slice::Slice;
use crate::observation::TokenSource;
use crate::plan::{BackendKind, Guard};

/// Requests that are counted again; they are the first ones of the stage.
const COUNTED: usize = 200;

/// What the guard `tokens` says; nothing where there is no tokenizer, or nothing that it could be compared with.
pub(super) fn guard(slice: &Slice, guard: Guard) -> Option<GuardTold> {
    let cell = slice.cell;
    // The simulator makes tokens of characters, and later turns hold more than their prompt.
    if cell.backend.kind == BackendKind::Simulator || cell.dialogue.is_some() {
        return None;
    }
    let first = u64::from(slice.seen.repeat) * cell.prompts_per_repeat
        + cell.stages[slice.stage].prompt_offset;
    let (mut differing, mut counted) = (0u64, 0u64);
    let told = slice
        .scheduled()
        .filter(|record| record.measured && record.tokens.source == TokenSource::Usage);
    for record in told.take(COUNTED) {
        let Some((prompt, own)) = cell.counted_prompt(first + record.index) else {
            continue;
        };
        if let (Some(told), true) = (record.tokens.input, prompt == record.prompt) {
            differing += u64::from(told.abs_diff(own));
            counted += u64::from(own);
        }
    }
    (counted > 0).then(|| {
        share_told(
            "tokens",
            guard,
            "prompt tokens by which usage and tokenizer differ",
            differing,
            counted,
            Doubt::None,
            "is it the model's own tokenizer, and does the engine serve this model with its usual chat template?",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::super::fixture::{open_cell, ramp, seen};
    use super::*;
    use crate::plan::Level;
    use crate::plan::fixture::counting_tokens;
    use crate::verdict::State;

    const GUARD: Guard = Guard {
        limit: Some(0.02),
        level: Level::Warn,
    };

    /// What the guard says when usage tells so many tokens more than there are, for each of ten prompts.
    fn told(more: u32) -> Option<GuardTold> {
        let cell = counting_tokens(open_cell());
        let (prompt, own) = cell.counted_prompt(0).unwrap();
        let mut records = ramp(10);
        for record in &mut records {
            record.prompt = prompt.clone();
            record.tokens.source = TokenSource::Usage;
            record.tokens.input = Some(own + more);
        }
        let seen = seen(records, 1);
        guard(&Slice::stage(&cell, &seen, 0), GUARD)
    }

    #[test]
    fn what_is_added_to_a_prompt_unseen_is_not_compared() {
        let counts = |change: fn(&mut crate::plan::RequestParameters)| {
            let mut cell = counting_tokens(open_cell());
            change(&mut cell.request);
            cell.counted_prompt(0).is_some()
        };
        assert!(counts(|_| {}));
        assert!(!counts(|request| request.wishes.thinking = Some(true)));
        assert!(!counts(
            |request| request.wishes.tools = vec![serde_json::Map::new()]
        ));
        assert!(!counts(|request| {
            let told = serde_json::json!({ "reasoning_effort": "low" });
            request
                .extra
                .insert("chat_template_kwargs".to_owned(), told);
        }));
    }

    #[test]
    fn usage_that_is_not_the_tokenizers_is_doubted() {
        let right = told(0).unwrap();
        assert_eq!((right.key, &right.state), ("tokens", &State::Pass));
        let wrong = told(5).unwrap();
        assert!(matches!(wrong.state, State::Inconclusive(_)), "{wrong:?}");
    }
}
