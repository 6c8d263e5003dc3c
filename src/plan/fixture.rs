//! Cells for tests of this stage and of those above it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use super::{
    Api, Backend, BackendKind, Cell, EngineMetrics, Extent, Gpus, Guards, Model, Planned,
    RequestParameters, Segment, Stage, Timeouts, Tls,
};
use crate::diagnostic::Span;
use crate::workload::{
    InlinePrompt, PrefixCache, PromptSource, Source, Tokenizer, TokenizerFiles, Workload,
};

/// A stage of ten seconds.
pub(crate) fn stage(name: &str, measured: bool, users: Option<u32>) -> Stage {
    Stage {
        name: name.to_owned(),
        measured,
        users,
        rate: None,
        extent: Extent::For(Duration::from_secs(10)),
        requests: Planned::Unknown,
        expected: Planned::Exact(10.0),
        prompt_offset: 0,
        prompts_reused: false,
        tail_fill: false,
        span: Span::default(),
    }
}

/// A cell with one prompt, no goodput bounds and the default guards.
pub(crate) fn cell(
    [backend, model, prompts, load]: [&str; 4],
    stages: Vec<Stage>,
    segments: Vec<Segment>,
) -> Cell {
    let source = PromptSource {
        id: prompts.to_owned(),
        from: Source::Inline(vec![InlinePrompt {
            text: "Hello".to_owned(),
            category: None,
        }]),
        limit: None,
        seed: 1,
        shuffle: false,
        category: None,
        tokenizer: None,
    };
    let second = Duration::from_secs(1);
    Cell {
        id: [backend, model, prompts, load].join("/"),
        backend: Arc::new(Backend {
            id: backend.to_owned(),
            kind: BackendKind::Vllm,
            url: None,
            api: Api::Chat,
            headers: Vec::new(),
            preset: None,
            simulated: crate::plan::SimulatedArgs::default(),
            tls: Tls::default(),
            proxy: false,
            optional: false,
            ready: crate::plan::ReadyRule::attached(second),
            launch: None,
            up: Vec::new(),
            down: Vec::new(),
            metrics: EngineMetrics::Auto,
            gpus: Gpus::Auto,
            external_bench: None,
        }),
        model: Arc::new(Model {
            key: model.to_owned(),
            id: None,
            served_as: Vec::new(),
            tokenizer: None,
            context: None,
            launch_args: Vec::new(),
            lora: Vec::new(),
        }),
        prompts: prompts.to_owned(),
        load: load.to_owned(),
        workload: Arc::new(Workload::load(&source).expect("one prompt is a prompt set")),
        cache: PrefixCache::AsIs,
        request: request(),
        stages,
        segments,
        search: None,
        drain: second,
        cooldown: second,
        goodput: Vec::new(),
        guards: Guards::default(),
        gpu_hour: None,
        dialogue: None,
        prompts_per_repeat: 1,
        digest: String::new(),
    }
}

/// What is asked with each request.
pub(crate) fn request() -> RequestParameters {
    RequestParameters {
        max_tokens: 16,
        timeouts: Timeouts {
            connect: Duration::from_secs(1),
            first_token: Duration::from_secs(10),
            idle: Duration::from_secs(1),
            total: Duration::from_secs(60),
        },
        ..RequestParameters::default()
    }
}

/// The cell, whose model has a tokenizer.
pub(crate) fn counting_tokens(mut cell: Cell) -> Cell {
    let files = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tokenizers/bytes");
    let tokenizer = Tokenizer::open(&TokenizerFiles::at(&files)).expect("a tokenizer");
    Arc::make_mut(&mut cell.model).tokenizer = Some(tokenizer.into());
    cell
}
