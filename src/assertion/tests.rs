//! The language by examples: what is written, and its normal form or its diagnostic.

use proptest::prelude::*;

use super::*;
use crate::diagnostic::{Diagnostic, Severity, SourceId, Span};

fn ids() -> Vec<(Dim, String)> {
    [
        (Dim::Backend, "vllm"),
        (Dim::Backend, "sglang"),
        (Dim::Backend, "3b-box"),
        (Dim::Load, "static"),
    ]
    .map(|(dim, id)| (dim, id.to_owned()))
    .into()
}

fn read_as(text: &str, scoped_metric: Option<&str>) -> (Option<Assertion>, Vec<Diagnostic>) {
    let at = Span {
        source: SourceId(0),
        start: 100,
        end: 100 + text.len(),
    };
    parse(
        text,
        at,
        Context {
            ids: &ids(),
            scoped_metric,
        },
    )
}

fn normal(text: &str) -> String {
    match read_as(text, None) {
        (Some(assertion), _) => assertion.normal(),
        (None, wrong) => panic!("{text}: {wrong:?}"),
    }
}

/// Code, the marked text, the label and the message of the first diagnostic.
fn wrong(text: &str) -> (&'static str, &str, String, String) {
    let (assertion, found) = read_as(text, None);
    let first = found
        .into_iter()
        .next()
        .unwrap_or_else(|| panic!("{text} is right"));
    assert_eq!(
        assertion.is_none(),
        first.severity == Severity::Error,
        "{text}"
    );
    let label = first.primary.unwrap();
    let marked = &text[label.span.start - 100..label.span.end - 100];
    (first.code, marked, label.text, first.message)
}

#[test]
fn every_form_has_one_normal_form() {
    for (written, expected) in [
        ("P95 TTFT < 500ms", "ttft.p95 < 500ms"),
        ("p95(ttft) < 500ms", "ttft.p95 < 500ms"),
        ("p(95, ttft) < 500ms", "ttft.p95 < 500ms"),
        ("ttft.p95 < 500 ms", "ttft.p95 < 500ms"),
        ("P95 time to first token under 0.5s", "ttft.p95 < 0.5s"),
        ("sglang.ttft.p99.9 at most 2s", "sglang.ttft.p99.9 <= 2s"),
        ("max(ttft) ≤ 1m", "ttft.max <= 1m"),
        ("median e2e below 2s", "e2e.p50 < 2s"),
        ("error rate < 0.5%", "error_rate < 0.5%"),
        (
            "error rate <= baseline",
            "error_rate <= baseline(error_rate)",
        ),
        (
            "error rate <= baseline + 1pp",
            "error_rate <= baseline(error_rate) + 1pp",
        ),
        ("out tok/s at least 1200 tok/s", "output_tps >= 1200tok/s"),
        ("goodput >= 12 req/s", "goodput >= 12req/s"),
        ("goodput >= 12/s", "goodput >= 12/s"),
        (
            "sglang.output_tps >= 1.2 * vllm.output_tps",
            "sglang.output_tps >= 1.2 * vllm.output_tps",
        ),
        (
            "P95 TTFT <= 1.1 * vllm.ttft.p95",
            "ttft.p95 <= 1.1 * vllm.ttft.p95",
        ),
        (
            "P95 TTFT <= 110% of baseline",
            "ttft.p95 <= 110% * baseline(ttft.p95)",
        ),
        (
            "P95 TTFT <= baseline(mean ttft) + 10%",
            "ttft.p95 <= baseline(ttft.mean) + 10%",
        ),
        (
            "P95 TTFT <= baseline + max(10%, 20ms)",
            "ttft.p95 <= baseline(ttft.p95) + max(10%, 20ms)",
        ),
        (
            "max gpu.memory_used < 78 GiB",
            "gpu.memory_used.max < 78GiB",
        ),
        (
            "mean gpu.power / output_tps < 0.9 J/tok",
            "gpu.power.mean / output_tps < 0.9J/tok",
        ),
        (
            "P95 TTFT {stage=c16, users <= 50} < 1s",
            "ttft{stage=c16, users<=50}.p95 < 1s",
        ),
        (
            "ttft{category=\"long answers\"}.p95 < 1s",
            "ttft{category=\"long answers\"}.p95 < 1s",
        ),
        ("max gpu.util{gpu=*} >= 90%", "gpu.util{gpu=*}.max >= 90%"),
        (
            "3b-box.output_tps > 10 tok/s",
            "3b-box.output_tps > 10tok/s",
        ),
        ("errors == 0", "errors == 0req"),
        ("count ttft >= 100", "ttft.count >= 100req"),
        ("requests.rate >= 8/s", "requests.rate >= 8/s"),
        ("P95 chunk gap < 80ms", "icl.p95 < 80ms"),
        ("P99 ITL < 80ms", "itl.p99 < 80ms"),
        (
            "static.output_tps * 2 < output_tps",
            "static.output_tps * 2 < output_tps",
        ),
        (
            "(sglang.rps + vllm.rps) / 2 > 3 req/s",
            "(sglang.rps + vllm.rps) / 2 > 3req/s",
        ),
        (
            "sglang.output_tps / vllm.output_tps >= 1.2",
            "sglang.output_tps / vllm.output_tps >= 1.2",
        ),
        ("cost < $2.50", "cost_per_mtok < 2.5$"),
    ] {
        assert_eq!(normal(written), expected, "{written}");
    }
}

#[test]
fn a_metric_key_lends_its_metric() {
    let short = |text| read_as(text, Some("ttft")).0.map(|a| a.normal());
    assert_eq!(short("p(95)<500").as_deref(), Some("ttft.p95 < 500ms"));
    assert_eq!(short("p99 < 2s").as_deref(), Some("ttft.p99 < 2s"));
    assert_eq!(short("avg under 1s").as_deref(), Some("ttft.mean < 1s"));
    assert_eq!(
        wrong("p95 < 500ms"),
        (
            "S038",
            "p95",
            "no metric is named".into(),
            "`p95` of what?".into()
        )
    );
}

#[test]
fn mistakes_are_marked_where_they_are() {
    let marked = |text| {
        let (code, marked, label, _) = wrong(text);
        (code, marked, label)
    };
    for (text, code, place, label) in [
        (
            "P95 TTTF < 500ms",
            "S031",
            "TTTF",
            "did you mean `TTFT` (time to first token)?",
        ),
        (
            "P95 eror rate < 1%",
            "S031",
            "eror",
            "did you mean `error rate`?",
        ),
        (
            "vlm.output_tps > 3 tok/s",
            "S039",
            "vlm",
            "did you mean `vllm`?",
        ),
        (
            "P95 TTFT < 500msec",
            "S032",
            "msec",
            "did you mean `500ms`?",
        ),
        ("P95 TTFT < 2 min", "S032", "min", "did you mean `2m`?"),
        ("p95 error_rate < 1%", "S033", "p95", ""),
        ("max rps > 3 req/s", "S033", "max", ""),
        ("ttft < 500ms", "S033", "ttft", "an aggregate is missing"),
        ("ttft.mea < 500ms", "S033", "mea", "did you mean `mean`?"),
        ("P95 TTFT < 500 tok", "S034", "500 tok", "this is tokens"),
        ("P95 TTFT < 5%", "S034", "5%", "this is a percentage"),
        ("error rate < 1ms", "S034", "1ms", "this is a time"),
        (
            "P95 TTFT < max(10%, 20ms)",
            "S034",
            "max(10%, 20ms)",
            "this `%` has no base",
        ),
        ("error rate < 5", "S035", "5", "did you mean `5%`?"),
        (
            "error rate <= baseline + 1%",
            "S036",
            "1%",
            "points, or a share of the share?",
        ),
        ("P95 TTFT == 500ms", "S037", "==", ""),
        ("P100 TTFT < 1s", "S041", "P100", ""),
        ("1s < 2s", "S042", "1s < 2s", ""),
        (
            "P95 TTFT{stge=c16} < 1s",
            "S040",
            "stge",
            "did you mean `stage`?",
        ),
        ("P95 TTFT < 500ms and error rate < 1%", "S030", "and", ""),
        ("P95 TTFT", "S030", "P95 TTFT", "compared with what?"),
        ("TTFT P95 < 500ms", "S030", "P95", ""),
        ("P95 TTFT-5ms < 1s", "S031", "TTFT-5ms", ""),
        ("", "S030", "", ""),
        ("P95 TTFT ≤", "S030", "≤", ""),
    ] {
        assert_eq!(marked(text), (code, place, label.to_owned()), "{text}");
    }
}

#[test]
fn a_bare_number_is_read_in_the_canonical_unit_with_a_lint() {
    let lint = |text: &str| {
        let (assertion, found) = read_as(text, None);
        (
            assertion.unwrap().normal(),
            found
                .iter()
                .map(|d| (d.code, d.help.join("")))
                .collect::<Vec<_>>(),
        )
    };
    assert_eq!(
        lint("P95 TTFT < 500"),
        (
            "ttft.p95 < 500ms".into(),
            vec![("L030", "write `500ms`".into())]
        )
    );
    assert_eq!(
        lint("error rate < 0.01"),
        (
            "error_rate < 1%".into(),
            vec![("L030", "write `1%`".into())]
        )
    );
    assert_eq!(lint("errors < 3"), ("errors < 3req".into(), vec![]));
    assert_eq!(lint("error rate < 0%").1[0].0, "L031");
}

#[test]
fn a_quoted_text_is_marked_inside_its_quotes() {
    let at = Span {
        source: SourceId(0),
        start: 10,
        end: 28,
    };
    let (_, found) = parse("P95 TTTF < 500ms", at, Context::default());
    assert_eq!(found[0].primary.as_ref().unwrap().span.start, 15);
}

#[test]
fn every_code_is_explained() {
    for (code, about) in CODES {
        assert!(code.len() == 4 && !about.is_empty());
    }
}

fn measure() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("ttft.p95".to_owned()),
        Just("sglang.ttft.p99.9".to_owned()),
        Just("mean e2e".to_owned()),
        Just("max(tpot{stage=\"c 16\", users<=4})".to_owned()),
        Just("baseline(p(50, itl))".to_owned()),
    ]
}

fn time() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        measure(),
        (1u32..9000, prop::sample::select(vec!["ms", "s", "us"]))
            .prop_map(|(n, u)| format!("{n}{u}"))
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} + {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a} - ({b})")),
            inner.clone().prop_map(|a| format!("1.25 * ({a})")),
            inner.clone().prop_map(|a| format!("({a}) / 3")),
            inner.clone().prop_map(|a| format!("({a}) + 10%")),
            inner.clone().prop_map(|a| format!("110% of ({a})")),
            (inner.clone(), inner).prop_map(|(a, b)| format!("max({a}, {b})")),
        ]
    })
}

proptest! {
    #[test]
    fn any_text_is_read_without_a_panic(text in "\\PC{0,60}") {
        let at = Span { source: SourceId(0), start: 0, end: text.len() };
        let (assertion, found) = parse(&text, at, Context::default());
        prop_assert!(assertion.is_some() || !found.is_empty());
    }

    #[test]
    fn shuffled_words_are_read_without_a_panic(words in prop::collection::vec(prop::sample::select(vec![
        "p95", "P", "(", ")", "ttft", "TTFT", ".", "95", ",", "{", "}", "stage", "=", "c16", "<", "≤", "500ms", "%", "pp", "baseline",
        "max", "min", "of", "+", "-", "*", "/", "error rate", "vllm.", "µs", "°C", "$", "\"", "at most", "1_0", "tok/s", "p99.9", "é",
    ]), 0..14), spaces in any::<bool>()) {
        let text = words.join(if spaces { " " } else { "" });
        let at = Span { source: SourceId(0), start: 0, end: text.len() };
        let ids = ids();
        for diagnostic in parse(&text, at, Context { ids: &ids, scoped_metric: Some("ttft") }).1 {
            let span = diagnostic.primary.unwrap().span;
            prop_assert!(text.get(span.start..span.end).is_some(), "{text:?} {span:?}");
        }
    }

    #[test]
    fn what_is_printed_reads_as_the_same(left in time(), right in time(), symbol in prop::sample::select(vec!["<", "<=", ">", ">="])) {
        let text = format!("{left} {symbol} {right} + ttft.min");
        if let Some(assertion) = read_as(&text, None).0 {
            let printed = assertion.normal();
            let again = read_as(&printed, None).0;
            prop_assert_eq!(again.as_ref(), Some(&assertion), "{} -> {}", text, printed);
        } else {
            prop_assert!(false, "{} is refused: {:?}", text, read_as(&text, None).1);
        }
    }
}
