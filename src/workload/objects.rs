//! Buckets of object stores: `s3://BUCKET/KEY` and `gs://BUCKET/KEY`, read for prompts and written for results.
//!
//! Who may do so is told by the environment, in the variables of the stores' own tools. Requests go over the HTTP client that
//! downloads go over, so that a second one need not be built.

use std::fmt;
use std::io::{Read, Write};
use std::pin::Pin;
use std::str::FromStr;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::http::{Method, Request, request};
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey};
use object_store::client::{
    ClientConfigKey, HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest,
    HttpResponse, HttpResponseBody, HttpService,
};
use object_store::gcp::{GoogleCloudStorageBuilder, GoogleConfigKey};
use object_store::path::Path as Key;
use object_store::{
    ClientOptions, Error, GetOptions, GetRange, ObjectStore, ObjectStoreExt, RetryConfig,
};

use super::client::{self, PATIENCE};
use super::error::WorkloadError;

/// How much of an object goes in one request.
const PART: u64 = 16 << 20;
/// How much of a store's complaint is told.
const TOLD: usize = 300;

/// The variables that are heeded, as the stores' own tools have them.
const VARIABLES: [&str; 28] = [
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_ENDPOINT_URL_STS",
    "AWS_ALLOW_HTTP",
    "AWS_VIRTUAL_HOSTED_STYLE_REQUEST",
    "AWS_SKIP_SIGNATURE",
    "AWS_REQUEST_PAYER",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_ROLE_ARN",
    "AWS_ROLE_SESSION_NAME",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE",
    "AWS_SERVER_SIDE_ENCRYPTION",
    "AWS_SSE_KMS_KEY_ID",
    "AWS_METADATA_ENDPOINT",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_SERVICE_ACCOUNT",
    "GOOGLE_SERVICE_ACCOUNT_PATH",
    "GOOGLE_SERVICE_ACCOUNT_KEY",
    "GOOGLE_BASE_URL",
    "GOOGLE_ALLOW_HTTP",
    "GOOGLE_SKIP_SIGNATURE",
];

/// What the environment says of object stores.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct StoreSettings(Vec<(&'static str, String)>);

impl StoreSettings {
    /// The variables that hold secrets.
    pub const SECRETS: [&str; 3] = [
        "AWS_SECRET_ACCESS_KEY",
        "AWS_SESSION_TOKEN",
        "GOOGLE_SERVICE_ACCOUNT_KEY",
    ];

    /// What the environment says; `variable` reads one of its variables, an empty one counts as unset.
    pub fn of_environment(variable: impl Fn(&str) -> Option<String>) -> StoreSettings {
        let set = |name: &'static str| Some((name, variable(name).filter(|it| !it.is_empty())?));
        StoreSettings(VARIABLES.into_iter().filter_map(set).collect())
    }

    /// Whether some variable says who asks a store of this scheme, or that nobody need say so.
    fn names_credentials(&self, scheme: &str) -> bool {
        let mut set = self.0.iter().map(|(name, _)| name);
        set.any(|name| credentials(scheme).contains(name) || name.ends_with("_SKIP_SIGNATURE"))
    }

    /// Each that a store with this prefix has a notion of.
    fn known<K: FromStr>(&self, prefix: &'static str) -> impl Iterator<Item = (K, &str)> {
        let own = self
            .0
            .iter()
            .filter(move |(name, _)| name.starts_with(prefix));
        own.filter_map(|(name, value)| {
            Some((name.to_ascii_lowercase().parse().ok()?, value.as_str()))
        })
    }
}

impl fmt::Debug for StoreSettings {
    /// The names alone: values are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = self.0.iter().map(|(name, _)| name);
        f.debug_list().entries(names).finish()
    }
}

/// The variables of which one says who asks a store, by its URL or the scheme of that.
fn credentials(url: &str) -> &'static [&'static str] {
    match url.starts_with("s3") {
        true => &[
            "AWS_ACCESS_KEY_ID",
            "AWS_WEB_IDENTITY_TOKEN_FILE",
            "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
            "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        ],
        false => &[
            "GOOGLE_APPLICATION_CREDENTIALS",
            "GOOGLE_SERVICE_ACCOUNT",
            "GOOGLE_SERVICE_ACCOUNT_PATH",
            "GOOGLE_SERVICE_ACCOUNT_KEY",
        ],
    }
}

/// Whether a text names something in an object store.
pub fn is_object_url(text: &str) -> bool {
    text.starts_with("s3://") || text.starts_with("gs://")
}

/// A place in a bucket: an object, or what the keys of several begin with.
pub struct Objects {
    store: Box<dyn ObjectStore>,
    key: Key,
    url: String,
    /// Whether the environment says who asks.
    known: bool,
    runtime: tokio::runtime::Runtime,
}

impl Objects {
    /// The place that a URL names, like `s3://bucket/a/b`. Nothing is asked yet.
    ///
    /// # Errors
    /// It is no such URL, or what the environment says of the store cannot be.
    pub fn at(url: &str, settings: &StoreSettings) -> Result<Objects, WorkloadError> {
        let failed = |message: String| WorkloadError::Store {
            url: url.to_owned(),
            message,
        };
        let (scheme, rest) = url.split_once("://").unwrap_or(("", url));
        let rest = rest.trim_end_matches('/');
        let (bucket, key) = rest.split_once('/').unwrap_or((rest, ""));
        if bucket.is_empty() {
            return Err(failed("it names no bucket".to_owned()));
        }
        let retry = RetryConfig {
            max_retries: 2,
            retry_timeout: PATIENCE,
            ..RetryConfig::default()
        };
        let store: Box<dyn ObjectStore> = match scheme {
            "s3" => {
                let mut builder = AmazonS3Builder::new();
                for (name, value) in settings.known::<AmazonS3ConfigKey>("AWS_") {
                    builder = builder.with_config(name, value);
                }
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                let built = builder.with_http_connector(Connector).build();
                Box::new(built.map_err(|error| failed(told(&error)))?)
            }
            "gs" => {
                let mut builder = GoogleCloudStorageBuilder::new();
                for (name, value) in settings.known::<GoogleConfigKey>("GOOGLE_") {
                    builder = builder.with_config(name, value);
                }
                let builder = builder.with_bucket_name(bucket).with_retry(retry);
                let built = builder.with_http_connector(Connector).build();
                Box::new(built.map_err(|error| failed(told(&error)))?)
            }
            _ => return Err(failed("object stores are `s3://` and `gs://`".to_owned())),
        };
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build();
        Ok(Objects {
            store,
            key: Key::parse(key).map_err(|error| failed(error.to_string()))?,
            url: url.to_owned(),
            known: settings.names_credentials(scheme),
            runtime: runtime.map_err(|error| failed(error.to_string()))?,
        })
    }

    /// What tells this version of the object from every other: its tag, or else its time and size.
    ///
    /// # Errors
    /// It is not there, or may not be read.
    pub fn version(&self) -> Result<String, WorkloadError> {
        let asked = self.runtime.block_on(self.store.head(&self.key));
        let about = asked.map_err(|error| self.failed(&error))?;
        let told = about.version.or(about.e_tag);
        Ok(told.unwrap_or_else(|| format!("{} {}", about.last_modified, about.size)))
    }

    /// Writes the object to `out`, part by part, all of one version.
    ///
    /// # Errors
    /// It is not there, may not be read or changes meanwhile, or `out` refuses.
    pub fn read(&self, out: &mut impl Write) -> Result<(), WorkloadError> {
        let read = async {
            let about = self.store.head(&self.key).await?;
            for from in (0..about.size).step_by(PART as usize) {
                let options = GetOptions {
                    if_match: about.e_tag.clone(),
                    range: Some(GetRange::Bounded(from..about.size.min(from + PART))),
                    ..GetOptions::default()
                };
                let part = self.store.get_opts(&self.key, options).await?;
                let part = part.bytes().await?;
                out.write_all(&part).map_err(refused_by_disk)?;
            }
            Ok(())
        };
        self.runtime
            .block_on(read)
            .map_err(|error| self.failed(&error))
    }

    /// Puts an object there that stands behind this place's key under `name`, with `/` between folders.
    ///
    /// # Errors
    /// It may not be written, or `from` cannot be read.
    pub fn put(&self, name: &str, size: u64, mut from: impl Read) -> Result<(), WorkloadError> {
        let key = name.split('/').fold(self.key.clone(), Key::join);
        let put = async {
            let mut part = || {
                let mut part = Vec::new();
                let read = from.by_ref().take(PART).read_to_end(&mut part);
                read.map(|_| part).map_err(refused_by_disk)
            };
            if size <= PART {
                return self.store.put(&key, part()?.into()).await.map(drop);
            }
            let mut upload = self.store.put_multipart(&key).await?;
            let whole = async {
                loop {
                    let part = part()?;
                    if part.is_empty() {
                        return upload.complete().await.map(drop);
                    }
                    upload.put_part(part.into()).await?;
                }
            };
            let ended = whole.await;
            if ended.is_err() {
                // A part that stays there costs money; that it cannot be taken away is no news beside the other.
                let _ = upload.abort().await;
            }
            ended
        };
        self.runtime
            .block_on(put)
            .map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &Error) -> WorkloadError {
        WorkloadError::Store {
            url: self.url.clone(),
            message: match error {
                Error::NotFound { .. } => "there is no such object or bucket".to_owned(),
                Error::PermissionDenied { .. } | Error::Unauthenticated { .. } => {
                    "the credentials of this environment may not do that".to_owned()
                }
                Error::Precondition { .. } => "it changed while it was read".to_owned(),
                other if self.known => told(other),
                other => format!(
                    "{}; the environment names no credentials: {} are looked for",
                    told(other),
                    credentials(&self.url).join(", ")
                ),
            },
        }
    }
}

fn refused_by_disk(error: std::io::Error) -> Error {
    Error::Generic {
        store: "disk",
        source: Box::new(error),
    }
}

/// What is at the bottom of an error: the layers above it say how often it was tried.
fn told(error: &Error) -> String {
    let mut deepest: &dyn std::error::Error = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string().chars().take(TOLD).collect()
}

/// Has a store speak over the HTTP client that is here already.
#[derive(Debug)]
struct Connector;

impl HttpConnector for Connector {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let in_clear = options.get_config_value(&ClientConfigKey::AllowHttp);
        let agent = client::waiting(PATIENCE)
            .http_status_as_error(false)
            .max_redirects(0)
            .max_redirects_will_error(false)
            .https_only(in_clear.as_deref() != Some("true"))
            .build()
            .into();
        Ok(HttpClient::new(Client(agent)))
    }
}

/// The client; it blocks the thread, which has nothing else to do.
#[derive(Debug)]
struct Client(ureq::Agent);

impl Client {
    fn ask(&self, head: request::Parts, body: &Bytes) -> Result<HttpResponse, ureq::Error> {
        let answer = match head.method {
            Method::GET | Method::HEAD | Method::DELETE => {
                self.0.run(Request::from_parts(head, ()))?
            }
            _ => self.0.run(Request::from_parts(head, &body[..]))?,
        };
        let (head, body) = answer.into_parts();
        let mut whole = Vec::new();
        body.into_reader().read_to_end(&mut whole)?;
        Ok(HttpResponse::from_parts(
            head,
            HttpResponseBody::from(whole),
        ))
    }
}

impl HttpService for Client {
    fn call<'client, 'asked>(
        &'client self,
        request: HttpRequest,
    ) -> Pin<Box<dyn Future<Output = Result<HttpResponse, HttpError>> + Send + 'asked>>
    where
        'client: 'asked,
        Self: 'asked,
    {
        Box::pin(async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            self.ask(head, &body).map_err(|error| {
                let kind = match &error {
                    ureq::Error::Timeout(_) => HttpErrorKind::Timeout,
                    ureq::Error::Io(_) | ureq::Error::ConnectionFailed => HttpErrorKind::Connect,
                    ureq::Error::RequireHttpsOnly(_) => {
                        let message = "it is asked in clear: `AWS_ALLOW_HTTP=true` (or GOOGLE_ALLOW_HTTP) allows that";
                        let error = std::io::Error::other(message);
                        return HttpError::new(HttpErrorKind::Unknown, error);
                    }
                    _ => HttpErrorKind::Unknown,
                };
                HttpError::new(kind, std::io::Error::other(client::told(&error)))
            })
        })
    }
}
