//! Prompts with images: files go along as their bytes.

use serde_json::{Value, json};

use crate::adapters::told;
use crate::tool::{CALM, Desk};

fn scenario(url: &str, api: &str) -> String {
    format!(
        "version: 1\nname: trial\nbackends: {{ engine: {{ kind: openai, url: \"{url}\", api: {api} }} }}\nmodels: {{ m: base }}\n\
         prompts: {{ pictures: {{ source: file, path: pictures.jsonl, order: file }} }}\n\
         load: {{ l: {{ levels: {{ users: 1, requests: 3, warmup: 0s, tail: drain }} }} }}\nrequest: {{ max_tokens: 4 }}\n\
         run: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    )
}

/// A message as OpenAI has it, a prompt of parts, and a text.
fn desk() -> Desk {
    let desk = Desk::new();
    std::fs::write(desk.path("dot.png"), b"\x89PNG").unwrap();
    let content = json!([
        { "type": "text", "text": "What is this?" },
        { "type": "image_url", "image_url": { "url": "dot.png" } },
    ]);
    let rows = [
        json!({ "messages": [{ "role": "user", "content": content }] }),
        json!({ "prompt": [
            { "type": "text", "text": "And this?" },
            { "type": "image_url", "image_url": "https://example.com/b.jpg" },
        ]}),
        json!({ "prompt": "Only words." }),
    ];
    desk.write(
        "pictures.jsonl",
        &rows.map(|row| format!("{row}\n")).concat(),
    );
    desk
}

#[test]
fn files_go_along_as_their_bytes_and_urls_as_themselves() {
    let (url, heard) = told();
    let ended = desk().run(&scenario(&url, "chat"), &[]).with_code(0);
    let mut contents: Vec<Value> = heard
        .try_iter()
        .map(|body| body["messages"][0]["content"].clone())
        .collect();
    contents.sort_by_key(Value::to_string);
    let expected = |text: &str, url: &str| {
        json!([
            { "type": "text", "text": text },
            { "type": "image_url", "image_url": { "url": url } },
        ])
    };
    assert_eq!(
        contents,
        [
            json!("Only words."),
            expected("And this?", "https://example.com/b.jpg"),
            expected("What is this?", "data:image/png;base64,iVBORw=="),
        ]
    );
    assert_eq!(ended.report()["cells"][0]["stages"][0]["numbers"]["ok"], 3);
}

/// What a person shows in two turns, the image alone in the second.
fn talk(desk: &Desk) {
    let image = json!({ "type": "image_url", "image_url": { "url": "dot.png" } });
    let shown = json!([{ "type": "text", "text": "What is this?" }, image]);
    let row = json!({ "messages": [
        { "role": "user", "content": shown },
        { "role": "assistant", "content": "A dot." },
        { "role": "user", "content": [image] },
    ] });
    desk.write("talks.jsonl", &format!("{row}\n"));
}

fn conversations(url: &str) -> String {
    scenario(url, "chat").replace(
        "source: file, path: pictures.jsonl",
        "source: conversations, path: talks.jsonl, history: recorded",
    )
}

#[test]
fn a_conversation_shows_its_images_in_the_turns_that_they_belong_to() {
    let (url, heard) = told();
    let desk = desk();
    talk(&desk);
    let one = conversations(&url).replace("requests: 3", "requests: 1, allow_short: true");
    desk.run(&one, &[]).with_code(0);
    let bodies: Vec<Value> = heard.try_iter().collect();
    let image =
        json!({ "type": "image_url", "image_url": { "url": "data:image/png;base64,iVBORw==" } });
    let first =
        json!({ "role": "user", "content": [{ "type": "text", "text": "What is this?" }, image] });
    assert_eq!(bodies.len(), 2);
    assert_eq!(bodies[0]["messages"], json!([first]));
    assert_eq!(
        bodies[1]["messages"],
        json!([
            first,
            { "role": "assistant", "content": "A dot." },
            { "role": "user", "content": [image] },
        ])
    );
    // A language that shows none is told before anything is sent.
    let text = one.replace("api: chat", "api: responses");
    let ended = desk.run(&text, &[]).with_code(2);
    assert!(
        ended.err.contains("the API `responses` is shown no images"),
        "{}",
        ended.err
    );
}

#[test]
fn a_prepared_set_brings_its_images_along() {
    let (url, heard) = told();
    let desk = desk();
    talk(&desk);
    for (set, kind) in [("talks.jsonl", "conversations"), ("pictures.jsonl", "file")] {
        let out = format!("prepared-{set}");
        desk.tool(&["dataset", "prepare", set, "--as", kind, "--out", &out])
            .with_code(0);
    }
    // The lines hold the images: the file is no longer needed.
    std::fs::remove_file(desk.path("dot.png")).unwrap();
    let whole = scenario(&url, "chat").replace("pictures.jsonl", "prepared-pictures.jsonl");
    desk.run(&whole, &[]).with_code(0);
    let talks = conversations(&url)
        .replace("talks.jsonl", "prepared-talks.jsonl")
        .replace("requests: 3", "requests: 1, allow_short: true");
    desk.run(&talks, &[]).with_code(0);
    let shown = heard
        .try_iter()
        .filter(|body| body.to_string().contains("iVBORw=="));
    // One prompt of the first set, and both turns of the conversation.
    assert_eq!(shown.count(), 3);
}

#[test]
fn a_missing_image_and_a_language_without_images_are_told_before_anything_is_sent() {
    let (url, heard) = told();
    let desk = desk();
    let ended = desk.run(&scenario(&url, "completions"), &[]).with_code(2);
    assert!(
        ended
            .err
            .contains("the API `completions` is shown no images"),
        "{}",
        ended.err
    );
    std::fs::remove_file(desk.path("dot.png")).unwrap();
    let ended = desk.run(&scenario(&url, "chat"), &[]).with_code(2);
    assert!(ended.err.contains("dot.png"), "{}", ended.err);
    assert_eq!(heard.try_iter().count(), 0);
}
