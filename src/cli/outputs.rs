//! `outputs`: where results go besides their folder when the run is over.

use std::borrow::Cow;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use hyper::header::{HeaderMap, HeaderName, HeaderValue as Value};

use super::results::Results;
use crate::plan::{HeaderValue, Output, Plots};
use crate::report::charts::Charts;
use crate::report::model::RequestRow;
use crate::report::{Report, export, parquet, plots};
use crate::secret::Masker;
use crate::wire::{Endpoint, fetch, tls};

/// How long a receiver may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Sends a report's numbers where the scenario says, or copies a file of its results there; a table is written among the results.
///
/// # Errors
/// The disk refuses, or the receiver is not there or does not take them: what, and where.
pub(super) fn write(
    output: &Output,
    report: &Report,
    results: &Results,
    rows: impl Iterator<Item = RequestRow>,
    masker: &Masker,
    environment: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<()> {
    match output {
        Output::Copy { name, path } => copy(&results.folder().join(name), path),
        Output::Parquet => {
            let file = std::io::BufWriter::new(results.compressed("requests.parquet")?);
            let rows = rows.map(|row| row_without_secrets(row, masker));
            parquet::requests(rows, file).context("cannot write `requests.parquet`")
        }
        Output::Otlp(receiver) => {
            let report = without_secrets(report, masker)?;
            let body = export::otlp(&report, export::ended_ms(&report)?).to_string();
            let mut headers = known(&receiver.headers, environment)?;
            headers.insert("content-type", Value::from_static("application/json"));
            post(
                &with_path(&receiver.url, "/v1/metrics"),
                &headers,
                body.into(),
            )
        }
        Output::Prometheus(receiver) => {
            let report = without_secrets(report, masker)?;
            let body = export::remote_write(&report, export::ended_ms(&report)?);
            let mut headers = known(&receiver.headers, environment)?;
            for (name, value) in [
                ("content-type", "application/x-protobuf"),
                ("content-encoding", "snappy"),
                ("x-prometheus-remote-write-version", "0.1.0"),
            ] {
                headers.insert(name, Value::from_static(value));
            }
            post(
                &with_path(&receiver.url, "/api/v1/write"),
                &headers,
                body.into(),
            )
        }
    }
}

/// What others get, before it is written in a language of theirs.
fn without_secrets<'r>(report: &'r Report, masker: &Masker) -> anyhow::Result<Cow<'r, Report>> {
    let text = serde_json::to_string(report)?;
    Ok(match masker.text(&text) {
        Cow::Borrowed(_) => Cow::Borrowed(report),
        Cow::Owned(text) => Cow::Owned(serde_json::from_str(&text)?),
    })
}

/// The same of a row that is compressed.
fn row_without_secrets(mut row: RequestRow, masker: &Masker) -> RequestRow {
    let told = [
        Some(&mut row.outcome),
        row.category.as_mut(),
        row.more.finish_reason.as_mut(),
        row.more.error.as_mut(),
    ];
    for text in told.into_iter().flatten() {
        *text = masker.text(text).into_owned();
    }
    row
}

/// Draws the plots that a scenario asks for.
///
/// # Errors
/// None is named so, or the disk refuses.
pub(super) fn draw(
    wanted: &Plots,
    report: &Report,
    charts: &Charts,
    results: &Results,
) -> anyhow::Result<()> {
    let drawn = plots::plots(report, charts);
    for name in &wanted.names {
        let there: Vec<&str> = drawn.iter().map(|plot| plot.name.as_str()).collect();
        if !there.iter().any(|plot| plot.starts_with(name.as_str())) {
            bail!(
                "`report.plots`: no plot is named `{name}`; there are {}",
                there.join(", ")
            );
        }
    }
    let is_wanted = |name: &str| {
        wanted.names.is_empty() || wanted.names.iter().any(|it| name.starts_with(it.as_str()))
    };
    let folder = results.inside("plots")?;
    for plot in drawn.iter().filter(|plot| is_wanted(&plot.name)) {
        let (ending, bytes) = match wanted.svg {
            true => ("svg", plot.svg().into_bytes()),
            false => (
                "png",
                plot.png()
                    .map_err(|error| anyhow!("{}: {error}", plot.name))?,
            ),
        };
        folder.replace(&format!("{}.{ending}", plot.name), |file| {
            file.write_all(&bytes)
        })?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    if let Some(folder) = to.parent() {
        std::fs::create_dir_all(folder)
            .with_context(|| format!("cannot make the folder `{}`", folder.display()))?;
    }
    std::fs::copy(from, to).with_context(|| format!("cannot write `{}`", to.display()))?;
    Ok(())
}

/// A URL without a path gets the usual one.
fn with_path(url: &str, usual: &str) -> String {
    let bare = url.trim_end_matches('/');
    match bare.split_once("://") {
        Some((_, rest)) if !rest.contains('/') => format!("{bare}{usual}"),
        _ => url.to_owned(),
    }
}

fn known(
    written: &[(String, HeaderValue)],
    environment: &dyn Fn(&str) -> Option<String>,
) -> anyhow::Result<HeaderMap> {
    let mut headers = HeaderMap::new();
    for (name, value) in written {
        let value = match value {
            HeaderValue::Literal(text) => text.clone(),
            HeaderValue::Environment {
                prefix,
                name,
                suffix,
            } => {
                let Some(value) = environment(name) else {
                    bail!("`{name}` is not set, and a header of `outputs` needs it");
                };
                format!("{prefix}{value}{suffix}")
            }
        };
        let header: HeaderName = name
            .parse()
            .with_context(|| format!("`{name}` is no header"))?;
        let mut value = Value::from_str(&value)
            .with_context(|| format!("the value of the header `{name}` is none"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

fn post(url: &str, headers: &HeaderMap, body: Bytes) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let answer = runtime.block_on(async {
        let endpoint = Endpoint::resolve(url, || tls::client_config(None, false)).await?;
        Ok::<_, anyhow::Error>(fetch(&endpoint, "", headers, Some(body), LIMIT).await?)
    })?;
    match answer.status {
        200..=299 => Ok(()),
        status => {
            let said: String = answer.body.trim().chars().take(300).collect();
            bail!("{url} answered {status}: {said}")
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_stands_for_its_usual_path() {
        let usual = "/v1/metrics";
        for (written, sent) in [
            ("http://c:4318", "http://c:4318/v1/metrics"),
            ("http://c:4318/", "http://c:4318/v1/metrics"),
            (
                "http://c:4318/otlp/v1/metrics",
                "http://c:4318/otlp/v1/metrics",
            ),
        ] {
            assert_eq!(with_path(written, usual), sent);
        }
    }
}
