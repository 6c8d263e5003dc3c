//! `scenario lsp`: the tool beside an editor. Its own diagnostics, completion, hover, definitions and layout, over standard input and
//! output.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use lsp_server::{Connection, ErrorCode, Message, Notification, Request, Response};
use lsp_types::notification::{
    DidChangeTextDocument, DidCloseTextDocument, DidOpenTextDocument, DidSaveTextDocument,
    Notification as _, PublishDiagnostics,
};
use lsp_types::request::{Completion, Formatting, GotoDefinition, HoverRequest, Request as _};
use lsp_types::{
    CompletionItem, CompletionItemKind, CompletionOptions, CompletionParams, CompletionTextEdit,
    DiagnosticRelatedInformation, DiagnosticSeverity, DidChangeTextDocumentParams,
    DidCloseTextDocumentParams, DidOpenTextDocumentParams, DocumentFormattingParams, Documentation,
    GotoDefinitionParams, Hover, HoverContents, HoverParams, HoverProviderCapability, Location,
    MarkupContent, MarkupKind, NumberOrString, OneOf, PublishDiagnosticsParams, Range,
    ServerCapabilities, TextDocumentPositionParams, TextDocumentSyncCapability,
    TextDocumentSyncKind, TextEdit, Uri,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::args::FileOptions;
use super::console::Console;
use super::exit::Exit;
use super::file;
use super::lsp_text::{offset, path_of, range, uri_of};
use crate::diagnostic::{Diagnostic, Label, Severity, Sources};
use crate::language::{self, Document, Guide, Offer, OfferKind};
use crate::secret::Masker;

pub(super) fn lsp(console: &Console) -> anyhow::Result<Exit> {
    let (connection, threads) = Connection::stdio();
    let (id, _) = connection.initialize_start()?;
    let about = json!({
        "capabilities": capabilities(),
        "serverInfo": { "name": "scenario", "version": env!("CARGO_PKG_VERSION") },
    });
    connection.initialize_finish(id, about)?;
    let mut server = Server {
        guide: Guide::default(),
        open: BTreeMap::new(),
        told: BTreeMap::new(),
        console: console.clone(),
    };
    let served = server.serve(&connection);
    drop(connection);
    threads.join()?;
    served.map(|()| Exit::Passed)
}

fn capabilities() -> ServerCapabilities {
    ServerCapabilities {
        text_document_sync: Some(TextDocumentSyncCapability::Kind(TextDocumentSyncKind::FULL)),
        completion_provider: Some(CompletionOptions {
            trigger_characters: Some([" ", ".", "{", "[", "=", "\""].map(str::to_owned).to_vec()),
            ..CompletionOptions::default()
        }),
        hover_provider: Some(HoverProviderCapability::Simple(true)),
        definition_provider: Some(OneOf::Left(true)),
        document_formatting_provider: Some(OneOf::Left(true)),
        ..ServerCapabilities::default()
    }
}

struct Server {
    guide: Guide,
    /// The files that the editor has open, as it has them.
    open: BTreeMap<PathBuf, String>,
    /// For each open file, the files of which diagnostics were told because of it.
    told: BTreeMap<PathBuf, BTreeSet<PathBuf>>,
    /// What knows the secrets of the files, once they were checked.
    console: Console,
}

impl Server {
    /// Serves until the editor says goodbye. Files are checked when no message waits: who types fast is not made to wait.
    fn serve(&mut self, connection: &Connection) -> anyhow::Result<()> {
        let mut changed = false;
        loop {
            if changed && connection.receiver.is_empty() {
                self.check_all(connection)?;
                changed = false;
            }
            let Ok(message) = connection.receiver.recv() else {
                return Ok(());
            };
            match message {
                Message::Request(request) => {
                    if connection.handle_shutdown(&request)? {
                        return Ok(());
                    }
                    let response = self.answer(request);
                    connection.sender.send(Message::Response(response))?;
                }
                Message::Notification(notification) => {
                    changed |= self.note(notification, connection)?;
                }
                Message::Response(_) => {}
            }
        }
    }

    /// Takes note of what the editor did; says whether a file has changed.
    fn note(&mut self, told: Notification, connection: &Connection) -> anyhow::Result<bool> {
        match told.method.as_str() {
            DidOpenTextDocument::METHOD => {
                let opened: DidOpenTextDocumentParams = serde_json::from_value(told.params)?;
                let document = opened.text_document;
                self.open.insert(path_of(&document.uri), document.text);
            }
            DidChangeTextDocument::METHOD => {
                let changed: DidChangeTextDocumentParams = serde_json::from_value(told.params)?;
                let path = path_of(&changed.text_document.uri);
                if let Some(last) = changed.content_changes.into_iter().next_back() {
                    self.open.insert(path, last.text);
                }
            }
            DidSaveTextDocument::METHOD => {}
            DidCloseTextDocument::METHOD => {
                let closed: DidCloseTextDocumentParams = serde_json::from_value(told.params)?;
                let path = path_of(&closed.text_document.uri);
                self.open.remove(&path);
                for told in self.told.remove(&path).into_iter().flatten() {
                    publish(connection, &told, Vec::new())?;
                }
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    fn answer(&self, request: Request) -> Response {
        let id = request.id.clone();
        let answered = match request.method.as_str() {
            Completion::METHOD => read(request.params).map(|asked| self.complete(&asked)),
            HoverRequest::METHOD => read(request.params).map(|asked| self.hover(&asked)),
            GotoDefinition::METHOD => read(request.params).map(|asked| self.define(&asked)),
            Formatting::METHOD => read(request.params).map(|asked| self.lay_out(&asked)),
            method => {
                let message = format!("`{method}` is not served");
                return Response::new_err(id, ErrorCode::MethodNotFound as i32, message);
            }
        };
        match answered {
            Ok(answer) => Response::new_ok(id, answer),
            Err(wrong) => Response::new_err(id, ErrorCode::InvalidParams as i32, wrong),
        }
    }

    /// The text of a file: as the editor has it, else as it lies on the disk.
    fn text(&self, path: &Path) -> Option<String> {
        match self.open.get(path) {
            Some(text) => Some(text.clone()),
            None => std::fs::read_to_string(path).ok(),
        }
    }

    /// The file of a place with those that it extends and includes, and the byte of the place.
    fn at(&self, place: &TextDocumentPositionParams) -> Option<(Vec<Document>, usize)> {
        let path = path_of(&place.text_document.uri);
        let text = self.text(&path)?;
        let at = offset(&text, place.position);
        let documents = language::gather(Document::new(path, text), &|path| self.text(path));
        Some((documents, at))
    }

    fn complete(&self, asked: &CompletionParams) -> Value {
        let Some((documents, at)) = self.at(&asked.text_document_position) else {
            return json!([]);
        };
        let text = &documents[0].text;
        let offers = language::offers(&self.guide, &documents, at);
        let items: Vec<CompletionItem> = offers
            .into_iter()
            .enumerate()
            .map(|(rank, offer)| item(rank, offer, text, at))
            .collect();
        json!(items)
    }

    fn hover(&self, asked: &HoverParams) -> Value {
        let Some((documents, at)) = self.at(&asked.text_document_position_params) else {
            return Value::Null;
        };
        let text = &documents[0].text;
        let told = language::hover(&self.guide, &documents, at).map(|(word, about)| Hover {
            contents: HoverContents::Markup(markdown(about)),
            range: Some(range(text, word.start, word.end)),
        });
        json!(told)
    }

    fn define(&self, asked: &GotoDefinitionParams) -> Value {
        let Some((documents, at)) = self.at(&asked.text_document_position_params) else {
            return Value::Null;
        };
        let Some(found) = language::definition(&documents, at) else {
            return Value::Null;
        };
        let text = match documents
            .iter()
            .find(|document| document.path == found.path)
        {
            Some(document) => document.text.clone(),
            None if found.path.is_file() => String::new(),
            None => return Value::Null,
        };
        json!(uri_of(&found.path).map(|uri| Location {
            uri,
            range: range(&text, found.at.start, found.at.end),
        }))
    }

    fn lay_out(&self, asked: &DocumentFormattingParams) -> Value {
        let Some(text) = self.text(&path_of(&asked.text_document.uri)) else {
            return Value::Null;
        };
        // What cannot be laid out has mistakes that are told anyway.
        let edit = language::layout(&text).ok().map(|laid_out| TextEdit {
            range: range(&text, 0, text.len()),
            new_text: laid_out,
        });
        json!(edit.into_iter().collect::<Vec<_>>())
    }

    /// Checks every open file that is a scenario, and tells what is wrong.
    fn check_all(&mut self, connection: &Connection) -> anyhow::Result<()> {
        for (path, text) in &self.open {
            let mut found: BTreeMap<PathBuf, Vec<lsp_types::Diagnostic>> = BTreeMap::new();
            found.insert(path.clone(), Vec::new());
            if is_scenario(path, text) {
                let files = |other: &Path| match self.open.get(other) {
                    Some(text) => Ok(text.clone()),
                    None => file::text_of(other),
                };
                let options = FileOptions::default();
                let read = file::read_among(&files, path, text, &options, file::Aim::Look)?;
                self.console.hide(&read.secrets);
                for diagnostic in &read.diagnostics {
                    let at = diagnostic.primary.as_ref();
                    let at = at.map_or(path, |label| &read.sources.get(label.span.source).path);
                    let told = told(diagnostic, &read.sources, &self.console.masker);
                    found.entry(at.clone()).or_default().push(told);
                }
            }
            let now: BTreeSet<PathBuf> = found.keys().cloned().collect();
            let before = self
                .told
                .insert(path.clone(), now.clone())
                .unwrap_or_default();
            for gone in before.difference(&now) {
                publish(connection, gone, Vec::new())?;
            }
            for (path, diagnostics) in found {
                publish(connection, &path, diagnostics)?;
            }
        }
        Ok(())
    }
}

/// Whether a file is a scenario: other YAML files come along in the same editor.
fn is_scenario(path: &Path, text: &str) -> bool {
    let document = Document::new(path, text);
    let has = |key: &str| {
        document
            .inside(&[])
            .any(|entry| entry.path[0].key() == Some(key))
    };
    has("version")
        && ["backends", "load", "extends", "slos", "matrix"]
            .into_iter()
            .any(has)
        || has("extends")
}

fn read<T: DeserializeOwned>(params: Value) -> Result<T, String> {
    serde_json::from_value(params).map_err(|error| error.to_string())
}

fn publish(
    connection: &Connection,
    path: &Path,
    diagnostics: Vec<lsp_types::Diagnostic>,
) -> anyhow::Result<()> {
    let Some(uri) = uri_of(path) else {
        return Ok(());
    };
    let params = PublishDiagnosticsParams {
        uri,
        diagnostics,
        version: None,
    };
    let told = Notification::new(PublishDiagnostics::METHOD.to_owned(), params);
    connection.sender.send(Message::Notification(told))?;
    Ok(())
}

fn told(diagnostic: &Diagnostic, sources: &Sources, masker: &Masker) -> lsp_types::Diagnostic {
    let place = |label: &Label| {
        let text = &sources.get(label.span.source).text;
        range(text, label.span.start, label.span.end)
    };
    let related = diagnostic.secondary.iter().filter_map(|label| {
        let uri: Uri = uri_of(&sources.get(label.span.source).path)?;
        let range = place(label);
        Some(DiagnosticRelatedInformation {
            location: Location { uri, range },
            message: masker.text(&label.text).into_owned(),
        })
    });
    let related: Vec<DiagnosticRelatedInformation> = related.collect();
    lsp_types::Diagnostic {
        range: diagnostic.primary.as_ref().map_or(Range::default(), place),
        severity: Some(match diagnostic.severity {
            Severity::Warning => DiagnosticSeverity::WARNING,
            Severity::Error => DiagnosticSeverity::ERROR,
        }),
        code: Some(NumberOrString::String(diagnostic.code.to_owned())),
        source: Some("scenario".to_owned()),
        message: masker.text(&diagnostic.in_full()).into_owned(),
        related_information: (!related.is_empty()).then_some(related),
        ..lsp_types::Diagnostic::default()
    }
}

fn item(rank: usize, offer: Offer, text: &str, at: usize) -> CompletionItem {
    let about =
        (!offer.about.is_empty()).then(|| Documentation::MarkupContent(markdown(offer.about)));
    CompletionItem {
        kind: Some(match offer.kind {
            OfferKind::Key => CompletionItemKind::PROPERTY,
            OfferKind::Word => CompletionItemKind::ENUM_MEMBER,
            OfferKind::Name => CompletionItemKind::REFERENCE,
            OfferKind::Metric => CompletionItemKind::FIELD,
            OfferKind::Example => CompletionItemKind::VALUE,
        }),
        detail: (!offer.detail.is_empty()).then_some(offer.detail),
        documentation: about,
        // In the order of documents, not of letters.
        sort_text: Some(format!("{rank:04}")),
        filter_text: Some(offer.label.clone()),
        label: offer.label,
        text_edit: Some(CompletionTextEdit::Edit(TextEdit {
            range: range(text, offer.start, at),
            new_text: offer.insert,
        })),
        ..CompletionItem::default()
    }
}

fn markdown(value: String) -> MarkupContent {
    MarkupContent {
        kind: MarkupKind::Markdown,
        value,
    }
}
