//! The server: one thread with everything that it serves.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::channel::{Channel, Sender};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::{Frame, Incoming};
use hyper::header::{self, HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::sync::watch;
use tokio::task::LocalSet;

use super::address::{Guard, Refusal};
use super::story::{Feed, News, Story};
use crate::secret::Masker;

/// What to serve, and where.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where the page is.
    pub dashboard: Option<SocketAddr>,
    /// Where Prometheus asks for `/metrics`; may be the same.
    pub metrics: Option<SocketAddr>,
    /// What everybody must know who asks an address that is not of the loopback interface.
    pub token: Option<String>,
    /// What hides secrets in everything that is served.
    pub masker: Masker,
}

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Others reach the address.
    #[error(
        "{0} can be reached by others: choose a token that they must know, and set SCENARIO_TOKEN to it; or stay on 127.0.0.1"
    )]
    NoToken(SocketAddr),
    /// The system refuses.
    #[error("cannot listen on {0}: {1}")]
    Listen(SocketAddr, io::Error),
    /// The system refuses.
    #[error("cannot start the thread of the dashboard: {0}")]
    Thread(io::Error),
}

/// A server that runs.
#[derive(Debug)]
pub struct Live {
    feed: Feed,
    dashboard: Option<SocketAddr>,
    metrics: Option<SocketAddr>,
    thread: JoinHandle<()>,
}

/// How often whoever looks on is told that there is news.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// How long the last page waits for those who look on.
const LAST_PAGE: Duration = Duration::from_secs(3);

impl Live {
    /// Listens, and serves from now on.
    ///
    /// # Errors
    /// See [`StartError`].
    pub fn start(config: &Config) -> Result<Live, StartError> {
        let mut ports = Vec::new();
        let mut listen = |at: SocketAddr, page: bool, metrics: bool| {
            let token = config.token.as_deref().filter(|token| !token.is_empty());
            if !at.ip().is_loopback() && token.is_none() {
                return Err(StartError::NoToken(at));
            }
            let refused = |error| StartError::Listen(at, error);
            let listener = TcpListener::bind(at).map_err(refused)?;
            listener.set_nonblocking(true).map_err(refused)?;
            let at = listener.local_addr().map_err(refused)?;
            let guard = Guard::new(at, token);
            ports.push((
                listener,
                Serves {
                    page,
                    metrics,
                    guard,
                },
            ));
            Ok(at)
        };
        let shared =
            config.dashboard.is_some_and(|at| at.port() != 0) && config.dashboard == config.metrics;
        let dashboard = match config.dashboard {
            Some(at) => Some(listen(at, true, shared)?),
            None => None,
        };
        let metrics = match config.metrics {
            Some(_) if shared => dashboard,
            Some(at) => Some(listen(at, false, true)?),
            None => None,
        };
        let (feed, news) = unbounded_channel();
        let masker = config.masker.clone();
        let thread = std::thread::Builder::new()
            .name("dashboard".to_owned())
            .spawn(move || {
                crate::threads::give_way();
                let runtime = tokio::runtime::Builder::new_current_thread()
                    .enable_io()
                    .enable_time()
                    .build();
                if let Ok(runtime) = runtime {
                    LocalSet::new().block_on(&runtime, serve(ports, news, masker));
                }
            })
            .map_err(StartError::Thread)?;
        Ok(Live {
            feed: Feed(feed),
            dashboard,
            metrics,
            thread,
        })
    }

    /// Where the page is.
    pub fn dashboard(&self) -> Option<SocketAddr> {
        self.dashboard
    }

    /// Where the metrics are.
    pub fn metrics(&self) -> Option<SocketAddr> {
        self.metrics
    }

    /// A handle for the thread that attends the run.
    pub fn feed(&self) -> Feed {
        self.feed.clone()
    }

    /// No run comes after. Whoever looks on gets the last page; that takes at most some seconds.
    pub fn finish(self) {
        let _ = self.feed.0.send(News::Leaves);
        // A panic of the thread was already printed there.
        let _ = self.thread.join();
    }
}

/// What a port serves.
#[derive(Clone, Debug)]
struct Serves {
    page: bool,
    metrics: bool,
    guard: Guard,
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// Everything that the requests share; one thread owns it.
struct Service {
    story: RefCell<Story>,
    /// Those who look on.
    onlookers: RefCell<Vec<Sender<Bytes>>>,
    /// Onlookers who have not fetched the last page.
    waiting: Cell<usize>,
    masker: Masker,
}

async fn serve(
    ports: Vec<(TcpListener, Serves)>,
    mut news: UnboundedReceiver<News>,
    masker: Masker,
) {
    let service = Rc::new(Service {
        story: RefCell::default(),
        onlookers: RefCell::default(),
        waiting: Cell::new(0),
        masker,
    });
    let (leave, leaving) = watch::channel(());
    for (listener, serves) in ports {
        let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
            continue;
        };
        tokio::task::spawn_local(accept(listener, serves, service.clone(), leaving.clone()));
    }
    drop(leaving);
    let mut beat = tokio::time::interval(TELL_EVERY);
    beat.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while !service.story.borrow().is_over() {
        tokio::select! {
            told = news.recv() => match told {
                Some(told) => service.story.borrow_mut().hear(told),
                None => break,
            },
            _ = beat.tick() => service.tell("progress"),
        }
    }
    service.tell("over");
    service.waiting.set(service.onlookers.borrow().len());
    let until = Instant::now() + LAST_PAGE;
    while service.waiting.get() > 0 && Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    // Streams of events end, answers that are under way go out, and that is all.
    service.onlookers.borrow_mut().clear();
    let _ = leave.send(());
    let _ = tokio::time::timeout(Duration::from_secs(1), leave.closed()).await;
}

impl Service {
    /// Tells everybody who looks on that there is something new; who has gone, or does not read, is left out.
    fn tell(&self, event: &str) {
        let line = serde_json::Value::from(self.masker.text(self.story.borrow().line()));
        let text = Bytes::from(format!("event: {event}\ndata: {line}\n\n"));
        self.onlookers
            .borrow_mut()
            .retain_mut(|onlooker| onlooker.try_send(Frame::data(text.clone())).is_ok());
    }
}

async fn accept(
    listener: tokio::net::TcpListener,
    serves: Serves,
    service: Rc<Service>,
    mut leaving: watch::Receiver<()>,
) {
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                // Out of descriptors, or a client that left at once: the next may fare better.
                Err(_) => {
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
            _ = leaving.changed() => return,
        };
        let (serves, service, mut leaving) = (serves.clone(), service.clone(), leaving.clone());
        tokio::task::spawn_local(async move {
            let answer = service_fn(|request| {
                std::future::ready(Ok::<_, Infallible>(answer(&request, &serves, &service)))
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer);
            tokio::pin!(connection);
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = leaving.changed() => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        });
    }
}

fn answer(request: &Request<Incoming>, serves: &Serves, service: &Service) -> Response<Body> {
    let header = |name: HeaderName| request.headers().get(name)?.to_str().ok();
    let admitted = serves.guard.admit(
        header(header::HOST),
        header(header::AUTHORIZATION),
        request.uri().query(),
    );
    match admitted {
        Ok(()) => {}
        Err(Refusal::Token) => {
            return text(
                StatusCode::UNAUTHORIZED,
                "this run asks for a token: add ?token=… to the address, or send `Authorization: Bearer …`\n",
            );
        }
        Err(Refusal::Host) => {
            return text(
                StatusCode::FORBIDDEN,
                "this address is for names of this machine, like localhost\n",
            );
        }
    }
    if request.method() != Method::GET && request.method() != Method::HEAD {
        return text(StatusCode::METHOD_NOT_ALLOWED, "only to be looked at\n");
    }
    match request.uri().path() {
        "/" if serves.page => service.page(false, header(header::IF_NONE_MATCH)),
        "/page" if serves.page => service.page(true, header(header::IF_NONE_MATCH)),
        "/events" if serves.page => service.events(),
        "/metrics" if serves.metrics => {
            let mut response = text(StatusCode::OK, service.metrics());
            let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            response.headers_mut().insert(header::CONTENT_TYPE, kind);
            response
        }
        "/" if serves.metrics => text(StatusCode::OK, "/metrics\n"),
        _ => text(StatusCode::NOT_FOUND, "there is no such page\n"),
    }
}

impl Service {
    fn metrics(&self) -> String {
        let metrics = self.story.borrow_mut().metrics();
        self.masker.text(&metrics).into_owned()
    }

    fn page(&self, bare: bool, known: Option<&str>) -> Response<Body> {
        let mut story = self.story.borrow_mut();
        let Some((number, page)) = story.page(bare) else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the run has not begun\n");
        };
        if bare && story.is_over() {
            self.waiting.set(self.waiting.get().saturating_sub(1));
        }
        let tag = format!("\"{number}\"");
        let mut response = if known == Some(&tag) {
            let mut response = text(StatusCode::NOT_MODIFIED, "");
            response.headers_mut().remove(header::CONTENT_TYPE);
            response
        } else {
            text(StatusCode::OK, self.masker.text(&page).into_owned())
        };
        let headers = response.headers_mut();
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-cache"));
        if let Ok(tag) = HeaderValue::from_str(&tag) {
            headers.insert(header::ETAG, tag);
        }
        if known != Some(&tag) {
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            headers.insert(header::CONTENT_TYPE, kind);
        }
        // The page asks this server for news, and nobody for anything else.
        let policy = HeaderValue::from_static(
            "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        );
        headers.insert(header::CONTENT_SECURITY_POLICY, policy);
        // A token stands in the address.
        headers.insert(
            header::REFERRER_POLICY,
            HeaderValue::from_static("no-referrer"),
        );
        response
    }

    /// A stream of events: that there is news, once a second.
    fn events(&self) -> Response<Body> {
        let (onlooker, body) = Channel::new(4);
        self.onlookers.borrow_mut().push(onlooker);
        let mut response = Response::new(body.boxed_unsync());
        let headers = response.headers_mut();
        let kind = HeaderValue::from_static("text/event-stream");
        headers.insert(header::CONTENT_TYPE, kind);
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        response
    }
}

fn text(status: StatusCode, text: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(text.into()).boxed_unsync());
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, kind);
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    response
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpStream;

    use super::*;

    fn start(
        dashboard: &str,
        metrics: Option<&str>,
        token: Option<&str>,
    ) -> Result<Live, StartError> {
        Live::start(&Config {
            dashboard: Some(dashboard.parse().unwrap()),
            metrics: metrics.map(|at| at.parse().unwrap()),
            token: token.map(str::to_owned),
            masker: Masker::default(),
        })
    }

    /// The first line and the whole of an answer.
    fn get(at: SocketAddr, path: &str, header: &str) -> (String, String) {
        let mut stream = TcpStream::connect(at).unwrap();
        write!(
            stream,
            "GET {path} HTTP/1.1\r\nconnection: close\r\n{header}\r\n\r\n"
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        (answer.lines().next().unwrap().to_owned(), answer)
    }

    #[test]
    fn an_address_that_others_reach_needs_a_token() {
        let refused = start("0.0.0.0:0", None, None).unwrap_err().to_string();
        assert_eq!(
            refused,
            "0.0.0.0:0 can be reached by others: choose a token that they must know, and set SCENARIO_TOKEN to it; or stay on 127.0.0.1"
        );
        assert!(
            start("0.0.0.0:0", None, Some("")).is_err(),
            "an empty one is none"
        );
    }

    #[test]
    fn each_port_serves_its_own_to_those_who_may_ask() {
        let live = start("127.0.0.1:0", Some("127.0.0.1:0"), Some("s3cret")).unwrap();
        let (page, metrics) = (live.dashboard().unwrap(), live.metrics().unwrap());
        let local = "host: localhost";
        for (at, path, header, status) in [
            (page, "/", local, "401 Unauthorized"),
            (
                page,
                "/?token=s3cret",
                "host: evil.example",
                "403 Forbidden",
            ),
            // Nothing has begun.
            (page, "/?token=s3cret", local, "503 Service Unavailable"),
            (page, "/metrics?token=s3cret", local, "404 Not Found"),
            (metrics, "/metrics", local, "401 Unauthorized"),
            (
                metrics,
                "/metrics",
                "host: localhost\r\nauthorization: Bearer s3cret",
                "200 OK",
            ),
            (metrics, "/page?token=s3cret", local, "404 Not Found"),
        ] {
            let (told, whole) = get(at, path, header);
            assert_eq!(
                told,
                format!("HTTP/1.1 {status}"),
                "{path} {header}: {whole}"
            );
        }
        let mut stream = TcpStream::connect(page).unwrap();
        write!(
            stream,
            "POST /?token=s3cret HTTP/1.1\r\n{local}\r\ncontent-length: 0\r\n\r\n"
        )
        .unwrap();
        let mut told = [0; 12];
        stream.read_exact(&mut told).unwrap();
        assert_eq!(&told, b"HTTP/1.1 405");
        live.finish();
        assert!(TcpStream::connect(page).is_err(), "the port is closed");
    }

    #[test]
    fn a_port_that_is_taken_is_told() {
        let first = start("127.0.0.1:0", None, None).unwrap();
        let at = first.dashboard().unwrap();
        let refused = start(&at.to_string(), None, None).unwrap_err().to_string();
        assert!(
            refused.starts_with(&format!("cannot listen on {at}: ")),
            "{refused}"
        );
        first.finish();
    }
}
