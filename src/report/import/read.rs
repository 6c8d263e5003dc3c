//! Which format a file has, and the values that every format is read with.

use serde_json::{Map, Value};

use super::found::Found;
use super::{aiperf, guidellm, suite_000, suite_004, vllm};

/// Why a file cannot be read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReadError(pub String);

impl std::fmt::Display for ReadError {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for ReadError {}

/// Reads the measurements of a file, whatever its format is.
///
/// # Errors
/// It is of no known format, lacks what its format has, or holds nothing.
pub fn read(text: &str) -> Result<Vec<Found>, ReadError> {
    let found = read_known(text)?;
    if found.is_empty() {
        return Err(ReadError("it holds no measurement".to_owned()));
    }
    Ok(found)
}

fn read_known(text: &str) -> Result<Vec<Found>, ReadError> {
    if text.starts_with("Metric,avg,") {
        return Ok(vec![aiperf::csv(text)?]);
    }
    let value: Value = serde_json::from_str(text)
        .map_err(|error| ReadError(format!("it is neither JSON nor a CSV of AIPerf: {error}")))?;
    let Some(top) = value.as_object() else {
        return Err(unknown());
    };
    let has = |keys: &[&str]| keys.iter().all(|key| top.contains_key(*key));
    if has(&["metadata", "summary", "per_request"]) {
        Ok(vec![suite_000::read(top)?])
    } else if has(&["benchmarks", "metadata"]) {
        guidellm::read(top)
    } else if has(&["aiperf_version"]) {
        Ok(vec![aiperf::json(top)?])
    } else if has(&["request_throughput", "duration", "completed"]) {
        Ok(vec![vllm::read(top)?])
    } else if suite_004::is_one(top) {
        suite_004::read(top)
    } else {
        Err(unknown())
    }
}

fn unknown() -> ReadError {
    ReadError(
        "its format is not known; suites 000 and 004, `vllm bench serve`, guidellm, and AIPerf's JSON and CSV are read"
            .to_owned(),
    )
}

/// An object of a file, with where it lies for messages.
pub(super) type Object = Map<String, Value>;

/// The object under a key.
pub(super) fn object<'a>(of: &'a Object, key: &str) -> Result<&'a Object, ReadError> {
    of.get(key)
        .and_then(Value::as_object)
        .ok_or_else(|| ReadError(format!("it has no object `{key}`")))
}

/// The number under a key; `null` and what is no number are none.
pub(super) fn number(of: &Object, key: &str) -> Option<f64> {
    of.get(key).and_then(Value::as_f64)
}

/// The number under a key that has to be there.
pub(super) fn wanted(of: &Object, key: &str) -> Result<f64, ReadError> {
    number(of, key).ok_or_else(|| ReadError(format!("it has no number `{key}`")))
}

/// The count under a key.
pub(super) fn count(of: &Object, key: &str) -> Option<u64> {
    of.get(key).and_then(|value| {
        let float = value.as_f64().filter(|v| *v >= 0.0 && v.fract() == 0.0);
        value.as_u64().or(float.map(|float| float as u64))
    })
}

/// The text under a key; an empty one is none.
pub(super) fn text(of: &Object, key: &str) -> Option<String> {
    let text = of.get(key).and_then(Value::as_str)?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// The numbers of a list under a key.
pub(super) fn numbers(of: &Object, key: &str) -> Vec<f64> {
    let list = of.get(key).and_then(Value::as_array);
    list.map_or(Vec::new(), |list| {
        list.iter().filter_map(Value::as_f64).collect()
    })
}

/// The name of a file without its folder and its ending.
pub(super) fn stem(path: &str) -> String {
    let name = path.rsplit(['/', '\\']).next().unwrap_or(path);
    let stem = name.rsplit_once('.').map_or(name, |(stem, _)| stem);
    stem.to_owned()
}
