//! One colour for each engine, the same in every chart and every report, light enough for a dark page and dark enough for a
//! white one.

use super::model::Report;

/// The colour of each kind of engine.
const KINDS: [(&str, &str); 6] = [
    ("vllm", "#d1495b"),
    ("sglang", "#2f6fdb"),
    ("tensorrt-llm", "#b8860b"),
    ("friendli", "#2e933c"),
    ("llama.cpp", "#8250c4"),
    ("simulator", "#0f8a92"),
];
/// For backends of another kind, and for the second of one kind.
const OTHERS: [&str; 6] = [
    "#c2571a", "#5b6bb5", "#a0448f", "#6b7a1f", "#3f7f6f", "#7a5c48",
];

/// The colour of each cell's backend, as `#rrggbb`, in the order of the cells.
pub(super) fn of_cells(report: &Report) -> Vec<&'static str> {
    let mut given: Vec<(&str, &'static str)> = Vec::new();
    let mut others = OTHERS.iter().cycle();
    report
        .cells
        .iter()
        .map(|cell| {
            let backend = cell.backend.as_str();
            if let Some((_, colour)) = given.iter().find(|(known, _)| *known == backend) {
                return *colour;
            }
            let own = KINDS
                .iter()
                .find(|(kind, _)| *kind == family(report, backend))
                .map(|(_, colour)| *colour)
                .filter(|colour| given.iter().all(|(_, taken)| taken != colour));
            let colour = own.or_else(|| others.next().copied()).unwrap_or(OTHERS[0]);
            given.push((backend, colour));
            colour
        })
        .collect()
}

/// What a backend is known as: its name where that is an engine's, so that a simulated one keeps the colour of the one that
/// it stands for; else its kind.
fn family<'a>(report: &'a Report, backend: &'a str) -> &'a str {
    let named = KINDS.iter().find(|(kind, _)| backend == *kind);
    let engine = || {
        let engines = report.environment.engines.iter();
        engines
            .filter(|engine| engine.backend == backend)
            .map(|engine| engine.kind.as_str())
            .next()
    };
    named.map(|(kind, _)| *kind).or_else(engine).unwrap_or("")
}
