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
