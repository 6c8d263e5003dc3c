//! Files in, prompts out.

use std::collections::HashSet;
use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

use proptest::prelude::*;

use super::file::read_sharegpt_stream;
use super::select::Selection;
use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/prompts")
        .join(name)
}

fn set(from: Source) -> PromptSource {
    PromptSource {
        id: "set".to_owned(),
        from,
        limit: None,
        seed: 1,
        shuffle: false,
        category: None,
        tokenizer: None,
    }
}

fn file(name: &str) -> Source {
    Source::File {
        path: fixture(name),
        fields: Fields::default(),
        filter: Filter::default(),
    }
}

fn sharegpt(name: &str) -> Source {
    Source::ShareGpt {
        path: Some(fixture(name)),
        filter: Filter::SHAREGPT,
    }
}

fn categories(name: &str, only: &[&str]) -> Source {
    Source::Categories {
        path: fixture(name),
        only: only.iter().map(|name| (*name).to_owned()).collect(),
    }
}

/// `count` prompts called `prompt 1`, `prompt 2`, …
fn numbered(count: usize) -> Source {
    let prompts = (1..=count).map(|number| InlinePrompt {
        text: format!("prompt {number}"),
        category: Some(if number % 2 == 0 { "even" } else { "odd" }.to_owned()),
    });
    Source::Inline(prompts.collect())
}

fn load(source: &PromptSource) -> Workload {
    Workload::load(source).unwrap_or_else(|error| panic!("{error}"))
}

fn measured(workload: &Workload) -> Vec<Prompt> {
    let count = workload.measured().expect("a set that ends");
    (0..count).map(|ordinal| workload.prompt(ordinal)).collect()
}

fn ids(workload: &Workload) -> Vec<String> {
    measured(workload)
        .iter()
        .map(|prompt| prompt.id.to_string())
        .collect()
}

fn texts(workload: &Workload) -> Vec<String> {
    measured(workload)
        .iter()
        .map(|prompt| prompt.text.to_string())
        .collect()
}

/// The error without the folder of the fixtures.
fn error(source: Source) -> String {
    let error = Workload::load(&set(source)).expect_err("a set that cannot be loaded");
    let folder = format!("{}/", fixture("").display());
    error.to_string().replace(&folder.replace("//", "/"), "")
}

// Files.

#[test]
fn json_lines_take_the_prompt_the_first_human_turn_or_the_text() {
    let workload = load(&set(file("lines.jsonl")));
    assert_eq!(
        texts(&workload),
        [
            "Name three rivers.",
            "What is a fjord?",
            "How deep is the sea?",
            "Once upon a time",
            "Two parts,\none text.",
        ]
    );
    assert_eq!(ids(&workload), ["a", "2", "3", "7", "a#2"]);
    let last = workload.prompt(3);
    assert_eq!(
        (last.min_tokens, last.max_tokens, last.ignore_eos),
        (Some(5), Some(50), Some(true))
    );
    assert_eq!(workload.facts().read, 5);
}

#[test]
fn an_array_keeps_the_controls_of_each_item() {
    let workload = load(&set(file("controls.json")));
    let first = workload.prompt(0);
    assert_eq!(&*first.id, "code_0");
    assert_eq!(first.category.as_deref(), Some("code"));
    assert_eq!(
        (first.min_tokens, first.max_tokens, first.ignore_eos),
        (Some(10), Some(1024), Some(false))
    );
    assert_eq!(&*workload.prompt(2).text, "A bare text is a prompt, too.");
    assert_eq!(workload.categories(), ["code".into(), "math".into()]);
}

#[test]
fn text_has_a_prompt_a_line_and_blank_lines_between() {
    let workload = load(&set(file("lines.txt")));
    assert_eq!(
        texts(&workload),
        [
            "First line",
            "Third line, with a quote \" in it",
            "Präzise Frage auf Deutsch?"
        ]
    );
}

#[test]
fn a_table_is_read_by_its_header_with_fields_renamed() {
    let fields = Fields {
        prompt: Some("question".to_owned()),
        max_tokens: Some("n".to_owned()),
        category: Some("topic".to_owned()),
        ..Fields::default()
    };
    let workload = load(&set(Source::File {
        path: fixture("table.csv"),
        fields,
        filter: Filter::default(),
    }));
    assert_eq!(
        texts(&workload),
        [
            "How far is the moon, in kilometres?",
            "Write a haiku\nabout rain"
        ]
    );
    assert_eq!(workload.prompt(0).max_tokens, Some(40));
    assert_eq!(workload.prompt(1).max_tokens, None);
    assert_eq!(workload.prompt(1).category.as_deref(), Some("creative"));
}

#[test]
fn a_prompt_is_also_given_as_a_json_string() {
    let workload = load(&set(file("lines.txt")));
    assert_eq!(
        &*workload.prompt(1).json,
        r#""Third line, with a quote \" in it""#
    );
}

#[test]
fn bad_lines_are_told_with_their_numbers() {
    assert_eq!(
        error(file("bad.jsonl")),
        "`bad.jsonl`: 6 rows are not prompts\n  \
         line 2: is not JSON: EOF while parsing a string (column 31)\n  \
         line 3: has no text in `prompt`, `conversations`, `conversation`, `messages` or `text`\n  \
         line 4: `max_tokens` is `-3`, not a number of tokens\n  \
         line 5: is neither an object nor a text\n  \
         line 6: has an empty prompt\n  \
         and 1 more"
    );
    assert_eq!(
        error(file("bad.json")),
        "`bad.json` line 3, column 27: is not JSON: expected `,` or `}`"
    );
    assert_eq!(
        error(file("bad.csv")),
        "`bad.csv`: 2 rows are not prompts\n  \
         line 3: has 3 fields, the header has 2\n  \
         line 4: `max_tokens` is `\"many\"`, not a number of tokens"
    );
}

#[test]
fn a_file_that_cannot_be_used_is_told_by_name() {
    assert!(error(file("absent.jsonl")).starts_with("cannot read `absent.jsonl`: "));
    assert!(error(file("table.csv")).ends_with(
        "table.csv` line 1: no column `prompt`; the columns are question, n, topic, note"
    ));
}

// ShareGPT.

#[test]
fn sharegpt_takes_the_first_turn_if_a_human_says_it_and_counts_the_rest() {
    let workload = load(&set(sharegpt("sharegpt.json")));
    assert_eq!(ids(&workload), ["kept", "roles", "single"]);
    assert_eq!(
        &*workload.prompt(0).text,
        "Could you explain how a heat pump moves warmth uphill?"
    );
    let facts = workload.facts();
    assert_eq!((facts.read, facts.kept), (7, 3));
    assert_eq!(
        facts.dropped,
        [
            (DropReason::TooShort, 1),
            (DropReason::NotHumanFirst, 1),
            (DropReason::NoText, 2)
        ]
    );
}

#[test]
fn sharegpt_may_have_a_conversation_a_line() {
    assert_eq!(
        ids(&load(&set(sharegpt("sharegpt.jsonl")))),
        ["l1", "l2", "l3"]
    );
}

#[test]
fn nothing_left_after_the_filters_is_an_error_with_its_reasons() {
    let filter = Filter {
        min_chars: Some(5000),
        ..Filter::default()
    };
    assert_eq!(
        error(Source::ShareGpt {
            path: Some(fixture("sharegpt.jsonl")),
            filter,
        }),
        "prompt set `set` has no prompt left: 3 read, 3 too short"
    );
}

#[test]
fn a_file_cut_off_in_the_middle_is_an_error() {
    let cut = &br#"[{"conversations": [{"from": "human", "val"#[..];
    let mut selection = Selection::new(&set(numbered(1)), Filter::default()).unwrap();
    assert!(read_sharegpt_stream(cut, &mut selection).is_err());
}

/// A ShareGPT file that is written while it is read.
struct Endless {
    rows: u64,
    written: u64,
    rest: Cursor<Vec<u8>>,
    bytes: u64,
}

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let mut count = self.rest.read(buffer)?;
        if count == 0 && self.written <= self.rows {
            self.rest = Cursor::new(self.next_row());
            count = self.rest.read(buffer)?;
        }
        self.bytes += count as u64;
        Ok(count)
    }
}

impl Endless {
    fn next_row(&mut self) -> Vec<u8> {
        let number = self.written;
        self.written += 1;
        if number == self.rows {
            return b"]".to_vec();
        }
        let before = if number == 0 { '[' } else { ',' };
        let answer =
            "An answer that nobody will read, but that has to be passed over. ".repeat(400);
        format!(
            r#"{before}{{"id":"row-{number}","conversations":[{{"from":"human","value":"Question number {number}, which is long enough for the filter."}},{{"from":"gpt","value":"{answer}"}}]}}"#
        )
        .into_bytes()
    }
}

#[test]
fn a_large_file_is_streamed_and_no_more_held_than_is_asked() {
    let source = PromptSource {
        limit: Some(50),
        shuffle: true,
        ..set(numbered(1))
    };
    let mut stream = Endless {
        rows: 2_000,
        written: 0,
        rest: Cursor::default(),
        bytes: 0,
    };
    let mut selection = Selection::new(&source, Filter::SHAREGPT).unwrap();
    read_sharegpt_stream(&mut stream, &mut selection).unwrap();
    assert!(stream.bytes > 50_000_000, "{} bytes", stream.bytes);
    assert_eq!((selection.read, selection.kept), (2_000, 2_000));
    assert_eq!(selection.held(), 55, "50 and a tenth for warm-up");
    let rows: Vec<u64> = selection.into_chosen().iter().map(|c| c.row).collect();
    let mean = rows.iter().sum::<u64>() as f64 / rows.len() as f64;
    assert!(
        (600.0..1400.0).contains(&mean),
        "a sample of all rows, not of the first: {mean}"
    );
}

// Categories.

#[test]
fn categories_keep_the_order_of_the_file_and_expand_to_sets_of_their_own() {
    let workload = load(&set(categories("categories.yaml", &[])));
    assert_eq!(workload.categories(), ["short".into(), "code".into()]);
    assert_eq!(ids(&workload), ["short-1", "spelling", "code-1"]);
    assert_eq!(workload.prompt(1).expected_tokens, Some((5, 15)));
    let code = workload.expand("code").unwrap();
    assert_eq!(ids(&code), ["code-1"]);
    assert_eq!(code.prompt(0).max_tokens, Some(200));
    assert_eq!(code.prompt(0).expected_tokens, Some((80, 150)));
    assert_eq!(code.facts().measured, Some(1));
    assert!(workload.expand("poetry").is_none());
}

#[test]
fn only_the_categories_asked_for_are_kept() {
    let workload = load(&set(categories("categories.yaml", &["code"])));
    assert_eq!(ids(&workload), ["code-1"]);
    assert_eq!(workload.facts().dropped, [(DropReason::OtherCategory, 2)]);
    assert_eq!(
        error(categories("categories.yaml", &["cod"])),
        "`categories.yaml`: no category `cod`; did you mean `code`?"
    );
}

#[test]
fn a_key_that_a_category_file_does_not_know_is_an_error() {
    assert_eq!(
        error(categories("bad-categories.yaml", &[])),
        "`bad-categories.yaml`: 2 rows are not prompts\n  \
         `short`, prompt 2: unknown key `expected_token`; did you mean `expected_tokens`?\n  \
         `short`, prompt 3: is `17`, not a prompt"
    );
}

// Order.

#[test]
fn the_same_seed_gives_the_same_order_on_every_machine() {
    let shuffled = PromptSource {
        shuffle: true,
        ..set(numbered(20))
    };
    assert_eq!(ids(&load(&shuffled)).join(" "), GOLDEN_ORDER);
    let other = PromptSource {
        seed: 2,
        ..shuffled.clone()
    };
    assert_ne!(ids(&load(&other)), ids(&load(&shuffled)));
    assert_eq!(load(&other).digest(), load(&shuffled).digest());
}

const GOLDEN_ORDER: &str = "11 15 20 8 7 3 18 6 16 4 2 19 17 9 12 14 10 5";

#[test]
fn the_digest_is_that_of_the_content() {
    let digest = |count| load(&set(numbered(count))).digest().to_owned();
    assert_eq!(digest(5), digest(5));
    assert_ne!(digest(5), digest(6));
}

#[test]
fn past_its_end_a_set_repeats() {
    let workload = load(&set(numbered(5)));
    assert_eq!(workload.prompt(7), workload.prompt(2));
}

#[test]
fn the_last_tenth_is_kept_for_warm_up() {
    let workload = load(&PromptSource {
        shuffle: true,
        ..set(numbered(25))
    });
    assert_eq!(workload.measured(), Some(22));
    assert_eq!(workload.facts().warmup, 3);
    let asked: HashSet<String> = texts(&workload).into_iter().collect();
    for ordinal in 0..10 {
        let prompt = workload.warmup_prompt(ordinal);
        assert!(!asked.contains(&*prompt.text), "{}", prompt.text);
        assert_eq!(prompt.text.starts_with("prompt "), ordinal < 3);
    }
}

#[test]
fn warm_up_draws_beyond_the_limit_when_the_file_has_more() {
    let workload = load(&PromptSource {
        limit: Some(10),
        ..set(numbered(30))
    });
    assert_eq!(workload.measured(), Some(10));
    assert_eq!(&*workload.warmup_prompt(0).text, "prompt 11");
    let all = PromptSource {
        limit: Some(30),
        ..set(numbered(30))
    };
    assert_eq!(load(&all).measured(), Some(27));
}

#[test]
fn a_small_set_warms_up_behind_unique_first_words() {
    let workload = load(&set(numbered(4)));
    assert_eq!(workload.measured(), Some(4));
    let warmup: Vec<Prompt> = (0..40).map(|o| workload.warmup_prompt(o)).collect();
    let first: HashSet<&str> = warmup
        .iter()
        .map(|prompt| prompt.text.split(':').next().unwrap())
        .collect();
    assert_eq!(first.len(), 40);
    assert!(warmup[5].text.ends_with(": prompt 2"));
    assert_eq!(
        warmup[5].json,
        serde_json::to_string(&*warmup[5].text).unwrap().into()
    );
    assert_eq!(&*warmup[5].id, "2+warmup-5");
    assert_eq!(warmup[5].category.as_deref(), Some("even"));
}

#[test]
fn repeated_texts_are_counted_and_never_shared_with_warm_up() {
    let prompts = (0..40).map(|number| InlinePrompt {
        text: format!("prompt {}", number % 10),
        category: None,
    });
    let workload = load(&set(Source::Inline(prompts.collect())));
    assert_eq!(workload.measured(), Some(36));
    assert_eq!(workload.prompt_repeats(), 26);
    let asked: HashSet<String> = texts(&workload).into_iter().collect();
    assert!((0..8).all(|o| !asked.contains(&*workload.warmup_prompt(o).text)));
}

#[test]
fn facts_tell_lengths_and_categories() {
    let workload = load(&set(numbered(10)));
    let facts = workload.facts();
    let expected = Spread {
        min: 8,
        median: 8,
        mean: 8.1,
        max: 9,
    };
    assert_eq!(facts.characters, expected);
    assert_eq!((facts.tokens.min, facts.tokens.max), (2, 3));
    assert_eq!(facts.categories, [("odd".into(), 5), ("even".into(), 5)]);
}

// Sources: whole, cut off, wrong and empty.

#[test]
fn a_parquet_table_is_read_by_its_columns() {
    let workload = load(&set(Source::File {
        path: fixture("table.parquet"),
        fields: Fields {
            category: Some("topic".to_owned()),
            ..Fields::default()
        },
        filter: Filter::default(),
    }));
    assert_eq!(
        texts(&workload),
        [
            "Name three rivers.",
            "How deep is the sea?",
            "What is a fjord?"
        ]
    );
    assert_eq!(ids(&workload), ["a", "b", "c"]);
    assert_eq!(workload.prompt(0).max_tokens, Some(40));
    assert_eq!(workload.prompt(1).max_tokens, None);
    assert_eq!(workload.categories(), ["geo".into(), "sea".into()]);
}

fn whole_conversations(name: &str) -> Source {
    Source::Conversations {
        path: fixture(name),
        filter: Filter::default(),
        turns: TurnFilter {
            min_turns: 1,
            max_turns: u32::MAX,
            recorded: true,
        },
    }
}

#[test]
fn conversations_cut_off_wrong_or_empty_are_told_by_line_and_nothing_else_is_lost() {
    let whole = Workload::load(&set(whole_conversations("talks.jsonl"))).unwrap();
    assert_eq!(whole.facts().turns.max, 3);
    assert_eq!(
        error(whole_conversations("truncated-talks.jsonl")),
        "`truncated-talks.jsonl`: 1 row is not a prompt\n  line 2: is not JSON: EOF while parsing a string (column 60)"
    );
    assert_eq!(
        error(whole_conversations("bad-talks.jsonl")),
        "`bad-talks.jsonl`: 3 rows are not prompts\n  \
         line 2: has no messages in `conversations`, `conversation` or `messages`\n  \
         line 3: is `\"Hello\"`, not a list of messages\n  \
         line 4: nobody says message 2: it has no `from` or `role`"
    );
    for name in ["empty.jsonl", "empty.json"] {
        assert_eq!(
            error(whole_conversations(name)),
            "prompt set `set` has no prompt left: 0 read"
        );
    }
    let parquet = Workload::load(&set(whole_conversations("sharegpt.parquet"))).unwrap();
    assert!(parquet.is_conversations());
    for name in ["truncated.parquet", "malformed.parquet", "empty.parquet"] {
        let told = error(whole_conversations(name));
        assert!(told.contains("is not a whole Parquet file: "), "{told}");
    }
    assert_eq!(
        error(whole_conversations("table.csv")),
        "`table.csv`: conversations are read from .json, .jsonl and .parquet files"
    );
}

#[test]
fn sharegpt_cut_off_wrong_or_empty_is_told_by_line_and_column() {
    assert_eq!(
        error(sharegpt("truncated.jsonl")),
        "`truncated.jsonl`: 1 row is not a prompt\n  line 2: is not JSON: EOF while parsing a string (column 21)"
    );
    assert_eq!(
        error(sharegpt("truncated.json")),
        "`truncated.json` line 1, column 51: is not JSON: EOF while parsing a string"
    );
    assert!(error(sharegpt("bad.json")).starts_with("`bad.json` line 3, column "));
    for name in ["empty.jsonl", "empty.json"] {
        assert_eq!(
            error(sharegpt(name)),
            "prompt set `set` has no prompt left: 0 read"
        );
    }
    for name in ["truncated.parquet", "malformed.parquet", "empty.parquet"] {
        let told = error(sharegpt(name));
        assert!(told.contains("is not a whole Parquet file: "), "{told}");
    }
}

#[test]
fn listed_prompts_may_stand_behind_shared_prefixes() {
    let source = set(file("lines.jsonl"));
    let own = load(&source);
    let shape = SharedPrefix {
        tokens: 64,
        groups: 2,
        distribution: PrefixGroups::Uniform,
    };
    let shared = own.sharing(shape, &source).unwrap();
    assert_eq!(shared.prefix_groups(), Some(2));
    let prefix_of = |prompt: &Prompt| prompt.text.split("\n\n").next().unwrap().to_owned();
    let begun =
        |set: &Workload| -> HashSet<String> { measured(set).iter().map(&prefix_of).collect() };
    for (led, plain) in measured(&shared).iter().zip(measured(&own)) {
        assert!(led.text.ends_with(&format!("\n\n{}", plain.text)));
        assert_eq!(led.tokens, plain.tokens.map(|tokens| tokens + 64));
        assert_eq!((&led.id, led.max_tokens), (&plain.id, plain.max_tokens));
        assert_eq!(estimated_tokens(prefix_of(led).chars().count()), 64);
    }
    assert_eq!(begun(&shared).len(), 2);
    let cold = shared.with_cache(PrefixCache::Cold).unwrap();
    assert_eq!(begun(&cold).len(), measured(&own).len());
    let warm = shared.with_cache(PrefixCache::Warm).unwrap();
    let primed: HashSet<String> = (0..2)
        .map(|at| prefix_of(&warm.warmup_prompt(at)))
        .collect();
    assert_eq!((begun(&warm), primed), (begun(&shared), begun(&shared)));
    let digests: HashSet<&str> = [&own, &shared, &cold, &warm].map(Workload::digest).into();
    assert_eq!(digests.len(), 4);
    let longer = shared.facts().tokens.min - own.facts().tokens.min;
    assert_eq!(longer, 64);
}

#[test]
fn what_is_over_the_context_is_left_out_or_cut() {
    let context = Context {
        tokens: 10,
        answer: 5,
        chat: false,
        tokenizer: None,
    };
    let own = load(&set(Source::Inline(
        ["One two.", "More than there is room for here."]
            .map(|text| InlinePrompt {
                text: text.to_owned(),
                category: None,
            })
            .into(),
    )));
    assert_eq!(own.beyond(&context), Beyond::Prompts(1));
    let left = own.within(&context, false).unwrap();
    assert_eq!(texts(&left), ["One two."]);
    assert_eq!(left.facts().dropped, [(DropReason::OverContext, 1)]);
    let cut = own.within(&context, true).unwrap();
    assert_eq!(texts(&cut), ["One two.", "More than there is r"]);
    assert_eq!(cut.facts().dropped.len(), 0);
    assert_eq!(cut.beyond(&context), Beyond::Prompts(0));
    assert_ne!(cut.digest(), own.digest());
    let nothing = Context {
        answer: 10,
        ..context.clone()
    };
    assert!(own.within(&nothing, true).is_none());
}

#[test]
fn what_is_made_is_made_shorter_where_it_may_be_over_the_context() {
    let context = |tokens, answer, chat| Context {
        tokens,
        answer,
        chat,
        tokenizer: None,
    };
    let longest = |set: &Workload| (0..200).map(|at| set.prompt(at).tokens.unwrap()).max();
    // Its answers have up to 256 tokens.
    let made = load(&synthetic(LengthDistribution::Uniform(2, 40)));
    for (context, room) in [
        (context(256 + 5, 256, false), 5),
        (context(256 + 14 + 5, 256, true), 5),
        // No answer is longer than the request allows.
        (context(20 + 5, 20, false), 5),
    ] {
        assert!(
            matches!(made.beyond(&context), Beyond::Made { prompts, of_first: Some(1000) } if prompts > 500)
        );
        for clip in [true, false] {
            let shorter = made.within(&context, clip).unwrap();
            assert_eq!(longest(&shorter), Some(room));
            assert_eq!(shorter.beyond(&context), Beyond::Prompts(0));
            assert_ne!(shorter.digest(), made.digest());
        }
    }
    // None of the first ones is too long, and one may come that is.
    let rarely = load(&synthetic(LengthDistribution::Exponential(10.0)));
    let context = context(256 + 150, 256, false);
    let (prompts, of_first) = (0, Some(1000));
    assert_eq!(rarely.beyond(&context), Beyond::Made { prompts, of_first });
    let capped = rarely.within(&context, false).unwrap();
    assert_eq!(capped.beyond(&context), Beyond::Prompts(0));
}

#[test]
fn a_prefix_and_what_parts_it_from_its_prompt_take_room() {
    let source = set(Source::Inline(vec![InlinePrompt {
        text: "Four score and seven".to_owned(),
        category: None,
    }]));
    let shape = SharedPrefix {
        tokens: 64,
        groups: 1,
        distribution: PrefixGroups::Uniform,
    };
    let led = load(&source).sharing(shape, &source).unwrap();
    let beyond = |tokens| {
        led.beyond(&Context {
            tokens,
            answer: 10,
            chat: false,
            tokenizer: None,
        })
    };
    // 64, one between, five of its own, and the answer.
    assert_eq!(beyond(80), Beyond::Prompts(0));
    assert_eq!(beyond(79), Beyond::Prompts(1));
}

#[test]
fn images_stand_in_a_field_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("seen.jsonl");
    std::fs::write(folder.path().join("dot.png"), b"\x89PNG").unwrap();
    let rows = [
        r#"{"prompt": "What is this?", "picture": "dot.png"}"#,
        r#"{"prompt": "And these?", "picture": [{"bytes": "iVBORw==", "path": "x"}, {"url": "https://example.com/b.jpg"}]}"#,
        r#"{"prompt": "Nothing here", "picture": null}"#,
    ];
    std::fs::write(&path, rows.join("\n")).unwrap();
    let source = |image: &str| Source::File {
        path: path.clone(),
        fields: Fields {
            image: Some(image.to_owned()),
            ..Fields::default()
        },
        filter: Filter::default(),
    };
    let shown = load(&set(source("picture")));
    let png = r#"{"type":"image_url","image_url":{"url":"data:image/png;base64,iVBORw=="}}"#;
    assert_eq!(
        &*shown.prompt(0).json,
        format!(r#"[{{"type":"text","text":"What is this?"}},{png}]"#)
    );
    let two = shown.prompt(1).json;
    assert!(
        two.contains(png) && two.contains("example.com/b.jpg"),
        "{two}"
    );
    assert_eq!(&*shown.prompt(2).json, "\"Nothing here\"");
    // Without being named, a field is no image.
    assert!(!load(&set(source("other"))).shows_images());
    std::fs::write(&path, r#"{"prompt": "Hm?", "picture": 3}"#).unwrap();
    let told = Workload::load(&set(source("picture")))
        .unwrap_err()
        .to_string();
    assert!(told.ends_with("line 1: has `3` for an image"), "{told}");
}

#[test]
fn conversations_in_parquet_are_sharegpt_too() {
    let workload = load(&set(Source::ShareGpt {
        path: Some(fixture("sharegpt.parquet")),
        filter: Filter::SHAREGPT,
    }));
    assert_eq!(
        texts(&workload),
        ["A question that is long enough to be kept by the filter."]
    );
    assert_eq!(workload.facts().dropped, [(DropReason::NoText, 1)]);
}

#[test]
fn a_file_that_is_cut_off_is_told_where() {
    assert_eq!(
        error(file("truncated.jsonl")),
        "`truncated.jsonl`: 1 row is not a prompt\n  line 2: is not JSON: EOF while parsing a string (column 21)"
    );
    assert_eq!(
        error(file("truncated.json")),
        "`truncated.json` line 1, column 51: is not JSON: EOF while parsing a string"
    );
    assert_eq!(
        error(file("truncated.csv")),
        "`truncated.csv`: 1 row is not a prompt\n  line 3: has 1 fields, the header has 2"
    );
    let parquet = error(file("truncated.parquet"));
    assert!(
        parquet.starts_with("`truncated.parquet`: is not a whole Parquet file: "),
        "{parquet}"
    );
}

#[test]
fn a_wrong_parquet_file_is_told_by_name_or_row() {
    let malformed = error(file("malformed.parquet"));
    assert!(
        malformed.starts_with("`malformed.parquet`: is not a whole Parquet file: "),
        "{malformed}"
    );
    assert_eq!(
        error(file("bad.parquet")),
        "`bad.parquet`: 1 row is not a prompt\n  row 2: has no text in `prompt`, `conversations`, `conversation`, `messages` or `text`"
    );
}

#[test]
fn an_empty_file_has_no_prompts() {
    for name in ["empty.jsonl", "empty.json", "empty.txt"] {
        assert_eq!(
            error(file(name)),
            "prompt set `set` has no prompt left: 0 read"
        );
    }
    assert_eq!(
        error(file("empty.csv")),
        "`empty.csv` line 1: no column `prompt`; the columns are "
    );
    let parquet = error(file("empty.parquet"));
    assert!(
        parquet.starts_with("`empty.parquet`: is not a whole Parquet file: "),
        "{parquet}"
    );
}

#[test]
fn a_template_makes_a_prompt_of_a_row_and_takes_data_as_data() {
    let made = |template: &str| {
        set(Source::File {
            path: fixture("table.csv"),
            fields: Fields {
                template: Some(template.to_owned()),
                ..Fields::default()
            },
            filter: Filter::default(),
        })
    };
    let workload = load(&made("On {{ row.topic }}: {{ row.question }}"));
    assert_eq!(
        texts(&workload)[1],
        "On creative: Write a haiku\nabout rain"
    );
    let error = |template: &str| Workload::load(&made(template)).unwrap_err().to_string();
    assert!(
        error("{{ row.answer }}").contains("line 2: does not fit the template: "),
        "{}",
        error("{{ row.answer }}")
    );
    assert!(
        error("{{ row.").contains("the template is wrong: "),
        "{}",
        error("{{ row.")
    );
    let data = set(Source::Inline(vec![InlinePrompt {
        text: "{{ row.question }}".to_owned(),
        category: None,
    }]));
    assert_eq!(texts(&load(&data)), ["{{ row.question }}"]);
}

#[test]
fn filters_choose_by_tokens_and_by_text() {
    let filtered = |filter| {
        let source = Source::File {
            path: fixture("lines.jsonl"),
            fields: Fields::default(),
            filter,
        };
        load(&set(source))
    };
    let questions = filtered(Filter {
        matches: Some(r"\?$".to_owned()),
        ..Filter::default()
    });
    assert_eq!(
        texts(&questions),
        ["What is a fjord?", "How deep is the sea?"]
    );
    assert_eq!(questions.facts().dropped, [(DropReason::NoMatch, 3)]);
    let short = filtered(Filter {
        max_tokens: Some(4),
        ..Filter::default()
    });
    assert_eq!(texts(&short), ["What is a fjord?", "Once upon a time"]);
}

#[test]
fn a_category_for_the_whole_set_leaves_those_of_rows() {
    let workload = load(&PromptSource {
        category: Some("other".to_owned()),
        ..set(file("controls.json"))
    });
    assert_eq!(
        workload.categories(),
        ["code".into(), "math".into(), "other".into()]
    );
}

// Made prompts.

fn synthetic(input_tokens: LengthDistribution) -> PromptSource {
    PromptSource {
        shuffle: true,
        ..set(Source::Synthetic {
            input_tokens,
            output_tokens: Some(LengthDistribution::Uniform(64, 256)),
            shared_prefix: None,
        })
    }
}

#[test]
fn made_prompts_have_their_length_and_ask_for_the_length_of_the_answer() {
    let workload = load(&synthetic(LengthDistribution::Fixed(100)));
    assert_eq!(workload.measured(), None);
    for ordinal in 0..100 {
        let prompt = workload.prompt(ordinal);
        assert_eq!((prompt.text.len(), prompt.tokens), (400, Some(100)));
        assert_eq!(prompt.max_tokens, prompt.min_tokens);
        assert!((64..=256).contains(&prompt.max_tokens.unwrap()));
        assert_eq!(prompt.ignore_eos, Some(true));
    }
}

#[test]
fn made_prompts_depend_on_seed_and_ordinal_alone() {
    let source = synthetic(LengthDistribution::Fixed(12));
    let (once, again) = (load(&source), load(&source));
    let _ = once.prompt(3);
    assert_eq!(once.prompt(9), again.prompt(9));
    assert_eq!(&*once.prompt(0).text, GOLDEN_TEXT);
    let other = load(&PromptSource { seed: 2, ..source });
    assert_ne!(once.prompt(9), other.prompt(9));
    assert_ne!(once.digest(), other.digest());
}

const GOLDEN_TEXT: &str = "Wivimun your had for what others ways together e";

#[test]
fn no_two_made_prompts_begin_alike() {
    let workload = load(&synthetic(LengthDistribution::Uniform(1, 8)));
    let first = |prompt: Prompt| prompt.text.split([' ', '.']).next().unwrap().to_owned();
    let words: HashSet<String> = (0..5_000)
        .map(|ordinal| first(workload.prompt(ordinal)))
        .chain((0..5_000).map(|ordinal| first(workload.warmup_prompt(ordinal))))
        .collect();
    assert_eq!(words.len(), 10_000);
    let beyond: HashSet<String> = [0, 1_000_000, 100_000_000, u64::MAX]
        .map(|ordinal| first(workload.prompt(ordinal)))
        .into();
    assert_eq!(beyond.len(), 4);
}

#[test]
fn lengths_follow_their_distribution() {
    let spread = |lengths| {
        let workload = load(&synthetic(lengths));
        workload.facts().tokens
    };
    let uniform = spread(LengthDistribution::Uniform(32, 512));
    assert!(uniform.min >= 32 && uniform.max <= 512 && (260.0..285.0).contains(&uniform.mean));
    let normal = spread(LengthDistribution::Normal {
        mean: 300.0,
        stddev: 50.0,
        min: 200,
        max: 400,
    });
    assert!(normal.min >= 200 && normal.max <= 400 && (295.0..305.0).contains(&normal.mean));
    let lognormal = spread(LengthDistribution::Lognormal {
        median: 200.0,
        p95: 800.0,
        min: 1,
        max: 4000,
    });
    assert!((180..220).contains(&lognormal.median) && lognormal.mean > 220.0);
}

#[test]
fn a_limit_makes_a_made_set_repeat() {
    let workload = load(&PromptSource {
        limit: Some(10),
        ..synthetic(LengthDistribution::Fixed(8))
    });
    assert_eq!(workload.measured(), Some(10));
    assert_eq!(workload.prompt(13), workload.prompt(3));
}

// Noise.

fn noise() -> impl Strategy<Value = Vec<u8>> {
    let pieces = prop::sample::select(vec![
        "{",
        "}",
        "[",
        "]",
        ",",
        ":",
        "\"",
        "\\",
        "\n",
        "\"prompt\"",
        "\"conversations\"",
        "\"from\"",
        "\"human\"",
        "\"value\"",
        "\"max_tokens\"",
        "1e400",
        "-1",
        "null",
        "true",
        "\\ud800",
        "\u{feff}",
        "\"a question\"",
        " ",
    ]);
    let written =
        prop::collection::vec(pieces, 0..60).prop_map(|pieces| pieces.concat().into_bytes());
    prop_oneof![written, prop::collection::vec(any::<u8>(), 0..200)]
}

proptest! {
    #[test]
    fn noise_is_refused_or_counted_but_never_a_panic(noise in noise(), ending in prop::sample::select(vec!["jsonl", "json", "csv", "txt", "yaml"])) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(format!("noise.{ending}"));
        std::fs::write(&path, &noise).unwrap();
        let from = match ending {
            "yaml" => Source::Categories { path: path.clone(), only: Vec::new() },
            _ => Source::File { path: path.clone(), fields: Fields::default(), filter: Filter::default() },
        };
        if let Ok(workload) = Workload::load(&set(from)) {
            prop_assert!(!workload.prompt(0).text.is_empty());
        }
        let _ = Workload::load(&set(Source::ShareGpt { path: Some(path), filter: Filter::default() }));
    }
}

// The project's own sets.

/// The turns of each conversation of a ShareGPT-format text: who speaks, and what.
fn conversations(text: &str) -> Vec<Vec<(String, String)>> {
    let set: Vec<serde_json::Value> = serde_json::from_str(text).unwrap();
    set.iter()
        .map(|conversation| {
            let turns = conversation["conversations"].as_array().unwrap();
            turns
                .iter()
                .map(|turn| ["from", "value"].map(|key| turn[key].as_str().unwrap().to_owned()))
                .map(|[from, value]| (from, value))
                .collect()
        })
        .collect()
}

fn dataset(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("datasets")
        .join(name)
}

#[test]
fn every_conversation_begins_with_a_human_and_alternates() {
    let text = std::fs::read_to_string(dataset("conversations.json")).unwrap();
    let set = conversations(&text);
    assert!(set.len() >= 200, "{} conversations", set.len());
    for turns in &set {
        let speakers: Vec<&str> = turns.iter().map(|(from, _)| from.as_str()).collect();
        let pairs = speakers.len() / 2;
        assert_eq!(speakers, ["human", "gpt"].repeat(pairs), "{}", turns[0].1);
        assert!((2..=6).contains(&pairs), "{}", turns[0].1);
        assert!(turns.iter().all(|(_, value)| !value.trim().is_empty()));
    }
    let first: HashSet<&str> = set.iter().map(|turns| turns[0].1.as_str()).collect();
    assert_eq!(first.len(), set.len(), "first turns differ");
}

#[test]
fn all_conversations_pass_the_sharegpt_filter() {
    let workload = load(&set(Source::ShareGpt {
        path: Some(dataset("conversations.json")),
        filter: Filter::SHAREGPT,
    }));
    let facts = workload.facts();
    assert_eq!((facts.read, &facts.dropped[..]), (facts.kept, &[][..]));
    assert!(facts.characters.max > 2_000 && facts.characters.median < 500);
}

#[test]
fn the_embedded_set_is_small_and_ready() {
    let workload = load(&set(Source::ShareGpt {
        path: None,
        filter: Filter::SHAREGPT,
    }));
    let facts = workload.facts();
    assert!(facts.read >= 120, "{} conversations", facts.read);
    assert_eq!((facts.kept, facts.duplicates), (facts.read, 0));
    assert!(include_str!("embedded/chat.json").len() <= 150 << 10);
}

#[test]
fn the_categorised_set_has_ten_categories_of_at_least_ten() {
    let workload = load(&set(Source::Categories {
        path: dataset("categories.yaml"),
        only: Vec::new(),
    }));
    let names = "short medium long code math json summarization translation reasoning creative";
    assert_eq!(workload.categories().join(" "), names);
    assert!(workload.facts().read >= 110);
    for category in workload.categories() {
        let part = workload.expand(category).unwrap();
        assert!(part.measured() >= Some(10), "{category}");
        assert!(measured(&part).iter().all(|p| p.expected_tokens.is_some()));
    }
}
