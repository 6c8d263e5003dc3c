//! Images beside the text of a prompt: what a message says of them, and what is sent.

use std::path::Path;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use super::error::WorkloadError;
use super::row::shown;

/// Kinds of images that engines take, by the ending of their file.
const KINDS: [(&str, &str); 5] = [
    ("png", "image/png"),
    ("jpg", "image/jpeg"),
    ("jpeg", "image/jpeg"),
    ("webp", "image/webp"),
    ("gif", "image/gif"),
];

/// An image as a data set names it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    /// The turn that it is shown in, from 0; a single prompt has one.
    pub(super) turn: usize,
    /// A path, or a URL.
    pub(super) image: String,
}

/// The parts of a message that hold images, each behind a comma; `None` without any.
pub(super) fn parts_of(urls: &[String]) -> Option<Arc<str>> {
    let part = |url: &String| {
        let part = serde_json::json!({ "type": "image_url", "image_url": { "url": url } });
        format!(",{part}")
    };
    let parts: String = urls.iter().map(part).collect();
    (!parts.is_empty()).then(|| parts.into())
}

/// What a message holds, as JSON: its text, or, where images are shown with it, its parts.
pub fn content(text: &str, images: Option<&str>) -> String {
    let said = serde_json::to_string(text).expect("a string is always JSON");
    match images {
        None => said,
        // An image may be all that is said.
        Some(parts) if text.is_empty() => format!("[{}]", parts.trim_start_matches(',')),
        Some(parts) => format!("[{{\"type\":\"text\",\"text\":{said}}}{parts}]"),
    }
}

/// The images of a message's content, each as it was written: a path, or a URL.
pub(super) fn named_in(content: &Value) -> Vec<String> {
    let parts = content.as_array().map_or(&[][..], Vec::as_slice);
    parts
        .iter()
        .filter_map(|part| {
            let image = part.get("image_url")?;
            image.get("url").unwrap_or(image).as_str()
        })
        .map(str::to_owned)
        .collect()
}

/// The images of a field, each as a path or a URL: a text, an object with a `path`, a `url` or `bytes` (in Base64, as a table's are
/// read), or a list of such. What is empty shows none.
///
/// # Errors
/// It is something else: what is wrong with the row.
pub(super) fn of_field(field: &Value) -> Result<Vec<String>, String> {
    let one = |value: &Value| -> Result<Option<String>, String> {
        let text = |key: &str| value.get(key).and_then(Value::as_str);
        match value {
            Value::Null => Ok(None),
            Value::String(text) if text.is_empty() => Ok(None),
            Value::String(text) => Ok(Some(text.clone())),
            Value::Object(_) => match (text("bytes"), text("url").or(text("path"))) {
                (Some(bytes), _) => url_of_bytes(bytes).map(Some),
                (None, Some(named)) => Ok(Some(named.to_owned())),
                (None, None) => Err("has an image without `bytes`, `url` or `path`".to_owned()),
            },
            other => Err(format!("has {} for an image", shown(other))),
        }
    };
    let several = field
        .as_array()
        .map_or(std::slice::from_ref(field), Vec::as_slice);
    several
        .iter()
        .filter_map(|value| one(value).transpose())
        .collect()
}

/// The URL of an image whose bytes are here in Base64; its kind is told by how they begin.
fn url_of_bytes(bytes: &str) -> Result<String, String> {
    let decoded = STANDARD.decode(bytes);
    let decoded = decoded.map_err(|error| format!("has an image that is no Base64: {error}"))?;
    let kind = match &decoded[..] {
        [0x89, b'P', b'N', b'G', ..] => "image/png",
        [0xff, 0xd8, 0xff, ..] => "image/jpeg",
        [b'G', b'I', b'F', b'8', ..] => "image/gif",
        [
            b'R',
            b'I',
            b'F',
            b'F',
            _,
            _,
            _,
            _,
            b'W',
            b'E',
            b'B',
            b'P',
            ..,
        ] => "image/webp",
        _ => return Err("has an image that is neither PNG, JPEG, GIF nor WebP".to_owned()),
    };
    Ok(format!("data:{kind};base64,{bytes}"))
}

/// The URL that is sent for an image: of a file its bytes, of a URL itself.
///
/// # Errors
/// The file cannot be read, or is of no kind that engines take.
pub(super) fn url_of(named: &str, folder: &Path) -> Result<String, WorkloadError> {
    if ["data:", "http://", "https://"]
        .iter()
        .any(|scheme| named.starts_with(scheme))
    {
        return Ok(named.to_owned());
    }
    let path = folder.join(named);
    let ending = path
        .extension()
        .map(|ending| ending.to_string_lossy().to_lowercase())
        .unwrap_or_default();
    let Some((_, kind)) = KINDS.iter().find(|(known, _)| *known == ending) else {
        return Err(WorkloadError::Format {
            path,
            line: None,
            column: None,
            message: "it is no image that engines take: a PNG, JPEG, WebP or GIF".to_owned(),
        });
    };
    let bytes = std::fs::read(&path).map_err(|error| WorkloadError::Read { path, error })?;
    Ok(format!("data:{kind};base64,{}", STANDARD.encode(bytes)))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn images_stand_in_a_message_as_a_text_or_an_object() {
        let content = json!([
            { "type": "text", "text": "What is this?" },
            { "type": "image_url", "image_url": { "url": "a.png", "detail": "low" } },
            { "type": "image_url", "image_url": "https://example.com/b.jpg" },
        ]);
        assert_eq!(named_in(&content), ["a.png", "https://example.com/b.jpg"]);
        assert!(named_in(&json!("a text")).is_empty());
    }

    #[test]
    fn a_message_is_a_text_or_its_parts() {
        let parts = parts_of(&["http://localhost/a.png".to_owned()]);
        let image =
            json!({ "type": "image_url", "image_url": { "url": "http://localhost/a.png" } });
        let said =
            |text| -> Value { serde_json::from_str(&content(text, parts.as_deref())).unwrap() };
        assert_eq!(
            said("See?"),
            json!([{ "type": "text", "text": "See?" }, image])
        );
        assert_eq!(said(""), json!([image]));
        assert_eq!(content("\"", None), r#""\"""#);
        assert_eq!(parts_of(&[]), None);
    }

    #[test]
    fn a_field_names_images_or_holds_their_bytes() {
        let of = |field: Value| of_field(&field);
        let (path, url) = ("a.png", "https://example.com/b.jpg");
        assert_eq!(of(json!(path)).unwrap(), [path]);
        assert_eq!(
            of(json!([path, { "url": url }, null])).unwrap(),
            [path, url]
        );
        let png = json!({ "bytes": "iVBORw==", "path": "x" });
        assert_eq!(of(png).unwrap(), ["data:image/png;base64,iVBORw=="]);
        assert_eq!(of(json!({ "bytes": null, "path": path })).unwrap(), [path]);
        for (wrong, told) in [
            (json!(3), "has `3` for an image"),
            (
                json!({ "width": 3 }),
                "has an image without `bytes`, `url` or `path`",
            ),
            (
                json!({ "bytes": "AAAA" }),
                "has an image that is neither PNG, JPEG, GIF nor WebP",
            ),
        ] {
            assert_eq!(of(wrong).unwrap_err(), told);
        }
    }

    #[test]
    fn a_file_is_sent_as_its_bytes_and_a_url_as_itself() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dot.PNG"), b"\x89PNG").unwrap();
        let url = |named: &str| url_of(named, folder.path());
        assert_eq!(url("dot.PNG").unwrap(), "data:image/png;base64,iVBORw==");
        for whole in ["data:image/gif;base64,R0lG", "http://localhost/a.png"] {
            assert_eq!(url(whole).unwrap(), whole);
        }
        assert!(
            url("none.png")
                .unwrap_err()
                .to_string()
                .contains("none.png")
        );
        let wrong = url("notes.txt").unwrap_err().to_string();
        assert!(wrong.contains("no image that engines take"), "{wrong}");
    }
}
