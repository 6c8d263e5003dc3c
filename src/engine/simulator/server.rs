//! The simulated engine behind real HTTP: an OpenAI-compatible server on its own thread, which answers as vLLM does.
//!
//! Tokens leave when the model says so, late by what the timer and a busy machine add; such delays do not add up.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::pin::Pin;
use std::rc::Rc;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http_body_util::BodyExt;
use hyper::body::{Body, Bytes, Frame, Incoming};
use hyper::header::{ALLOW, AUTHORIZATION, CONTENT_TYPE, HeaderValue, RETRY_AFTER, SERVER};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use tokio::sync::{Notify, oneshot};

use super::alarm::Alarm;
use super::answer::{AnswerWriter, Behaviour, Outlet, Piece};
use super::connection::{Ending, Socket};
use super::driver::{Driver, Sink, Ticket, scaled};
use super::faults::{Fault, FaultKind};
use super::generation::{self, ApiError, Endpoint, Generation};
use super::gpu::{GpuParameters, GpuState, SimulatedGpu};
use super::model::{Model, Rejection};
use super::presets::{Preset, UnknownPreset, preset};
use crate::clock::Clock;

/// What to simulate, and where to serve it.
#[derive(Clone, Debug)]
pub struct SimulatorConfig {
    /// Where to listen; port 0 takes any free one.
    pub address: SocketAddr,
    /// Whether an address that other machines can reach is allowed.
    pub allow_remote: bool,
    /// The engine. Its fields may be changed.
    pub preset: Preset,
    /// The seed of answer lengths and of the jitter of steps.
    pub seed: u64,
    /// Names under which the model is served; with none, any name is taken.
    pub served_models: Vec<String>,
    /// How it misbehaves.
    pub faults: Vec<Fault>,
    /// How many times faster than real time the engine works; finite and above 0.
    pub speed: f64,
    /// The bearer token that `/v1/*` asks for, if it asks for one.
    pub api_key: Option<String>,
}

impl SimulatorConfig {
    /// An engine on any free port of the loopback interface, without faults, in real time.
    pub fn new(preset: Preset) -> SimulatorConfig {
        SimulatorConfig {
            address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            allow_remote: false,
            preset,
            seed: 1,
            served_models: Vec::new(),
            faults: Vec::new(),
            speed: 1.0,
            api_key: None,
        }
    }

    /// The same, by the name of a preset.
    ///
    /// # Errors
    /// If there is no preset of this name.
    pub fn named(name: &str) -> Result<SimulatorConfig, UnknownPreset> {
        preset(name).map(SimulatorConfig::new)
    }
}

/// A simulator that runs; dropping the handle stops it.
pub struct SimulatorHandle {
    address: SocketAddr,
    preset: &'static str,
    gpu: GpuWatch,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

/// Reads the simulated accelerator from any thread, without asking the server.
#[derive(Clone, Debug)]
pub struct GpuWatch {
    parameters: GpuParameters,
    state: Arc<Mutex<GpuState>>,
    clock: Clock,
    speed: f64,
}

impl GpuWatch {
    /// The accelerator now.
    pub fn read(&self) -> SimulatedGpu {
        let state = *self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let now = scaled(self.clock.now(), self.speed);
        self.parameters.reading(&state, now)
    }
}

impl SimulatorHandle {
    /// Where it listens.
    pub fn addr(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:PORT`, without a path.
    pub fn base_url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The name of its preset.
    pub fn preset(&self) -> &'static str {
        self.preset
    }

    /// The accelerator now.
    pub fn gpu(&self) -> SimulatedGpu {
        self.gpu.read()
    }

    /// A reader of the accelerator that may outlive this handle; it then shows the last load.
    pub fn gpu_watch(&self) -> GpuWatch {
        self.gpu.clone()
    }

    /// Stops the server, breaks the connections off, and waits until its thread is gone.
    pub fn stop(self) {
        drop(self);
    }
}

impl Drop for SimulatorHandle {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A panic of the simulator's thread was already printed there.
            let _ = thread.join();
        }
    }
}

impl fmt::Debug for SimulatorHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SimulatorHandle")
            .field("address", &self.address)
            .field("preset", &self.preset)
            .finish_non_exhaustive()
    }
}

/// Starts a simulator on a thread of its own; it accepts connections when this returns.
///
/// # Errors
/// If the address cannot be bound, is not a loopback address though `allow_remote` is false, or `speed` is no speed.
pub fn start(config: SimulatorConfig) -> io::Result<SimulatorHandle> {
    if !config.address.ip().is_loopback() && !config.allow_remote {
        return Err(invalid(format!(
            "{} is not a loopback address; allow remote clients to listen there",
            config.address.ip()
        )));
    }
    if !(config.speed.is_finite() && config.speed > 0.0) {
        return Err(invalid(format!("{} is not a speed", config.speed)));
    }
    let listener = TcpListener::bind(config.address)?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .build()?;
    let model = Model::new(config.preset.parameters.clone(), config.seed);
    let gpu = GpuWatch {
        parameters: config.preset.parameters.gpu.clone(),
        state: Arc::new(Mutex::new(model.gpu_state())),
        clock: Clock::start(),
        speed: config.speed,
    };
    let (stop, stopped) = oneshot::channel();
    let (name, watch) = (config.preset.name, gpu.clone());
    let thread = std::thread::Builder::new()
        .name("simulator".to_owned())
        .spawn(move || {
            let tasks = tokio::task::LocalSet::new();
            let work = serve(listener, config, model, watch);
            tasks.block_on(&runtime, async {
                tokio::select! {
                    _ = stopped => {}
                    () = work => {}
                }
            });
        })?;
    Ok(SimulatorHandle {
        address,
        preset: name,
        gpu,
        stop: Some(stop),
        thread: Some(thread),
    })
}

fn invalid(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// Everything that the requests share; one thread owns it.
struct Service {
    config: SimulatorConfig,
    driver: Rc<RefCell<Driver>>,
    gpu: GpuWatch,
    /// Generation requests so far: the number by which faults choose.
    requests: Cell<u64>,
    created: u64,
}

async fn serve(listener: TcpListener, config: SimulatorConfig, model: Model, gpu: GpuWatch) {
    let Ok(listener) = tokio::net::TcpListener::from_std(listener) else {
        return;
    };
    let woken = Rc::new(Notify::new());
    let driver = Rc::new(RefCell::new(Driver::new(
        model,
        gpu.clock,
        gpu.speed,
        Arc::clone(&gpu.state),
        Rc::clone(&woken),
    )));
    let service = Rc::new(Service {
        config,
        driver: Rc::clone(&driver),
        gpu,
        requests: Cell::new(0),
        created: unix_seconds(),
    });
    tokio::task::spawn_local(drive(driver, woken));
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let service = Rc::clone(&service);
                tokio::task::spawn_local(serve_connection(service, stream));
            }
            // Out of descriptors, most likely: the ones in use must close first.
            Err(_) => tokio::time::sleep(Duration::from_millis(10)).await,
        }
    }
}

/// Advances the model whenever it has something to do.
async fn drive(driver: Rc<RefCell<Driver>>, woken: Rc<Notify>) {
    let alarm = Alarm::new();
    loop {
        driver.borrow_mut().advance();
        let deadline = driver.borrow().next_deadline();
        match deadline {
            Some(deadline) => alarm.sleep_until(deadline).await,
            None => woken.notified().await,
        }
    }
}

async fn serve_connection(service: Rc<Service>, stream: tokio::net::TcpStream) {
    // Each event must leave at once; a connection that cannot is still served.
    let _ = stream.set_nodelay(true);
    let ending = Rc::new(Ending::default());
    let answer = service_fn(|request| {
        let (service, ending) = (Rc::clone(&service), Rc::clone(&ending));
        async move { Ok::<_, Infallible>(service.answer(request, ending).await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .serve_connection(Socket::new(stream, Rc::clone(&ending)), answer);
    let mut connection = std::pin::pin!(connection);
    // How a connection ended is the client's business.
    tokio::select! {
        _ = connection.as_mut() => return,
        () = ending.close.notified() => connection.as_mut().graceful_shutdown(),
    }
    let _ = connection.await;
}

/// A body that is known, or one that comes as the model says.
enum AnswerBody {
    Whole {
        bytes: Option<Bytes>,
        closing: Option<Rc<Ending>>,
    },
    Stream {
        outlet: Rc<RefCell<Outlet>>,
        ending: Rc<Ending>,
        closes: bool,
        _ticket: Option<Ticket>,
    },
}

/// A fault broke the answer off.
#[derive(Debug)]
struct BrokenOff;

impl fmt::Display for BrokenOff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the answer was broken off by a fault")
    }
}

impl std::error::Error for BrokenOff {}

impl Body for AnswerBody {
    type Data = Bytes;
    type Error = BrokenOff;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BrokenOff>>> {
        match &mut *self {
            AnswerBody::Whole { bytes, .. } => {
                Poll::Ready(bytes.take().map(|b| Ok(Frame::data(b))))
            }
            AnswerBody::Stream { outlet, ending, .. } => {
                outlet.borrow_mut().poll(context).map(|piece| match piece {
                    Piece::Bytes(bytes) => Some(Ok(Frame::data(bytes))),
                    Piece::Break => Some(Err(BrokenOff)),
                    Piece::Reset => {
                        ending.reset.set(true);
                        Some(Err(BrokenOff))
                    }
                    Piece::End | Piece::Flush => None,
                })
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        matches!(self, AnswerBody::Whole { bytes: None, .. })
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match self {
            AnswerBody::Whole { bytes, .. } => {
                hyper::body::SizeHint::with_exact(bytes.as_ref().map_or(0, Bytes::len) as u64)
            }
            AnswerBody::Stream { .. } => hyper::body::SizeHint::default(),
        }
    }
}

impl Drop for AnswerBody {
    fn drop(&mut self) {
        match self {
            AnswerBody::Whole {
                closing: Some(ending),
                ..
            }
            | AnswerBody::Stream {
                ending,
                closes: true,
                ..
            } => ending.close.notify_one(),
            AnswerBody::Whole { .. } | AnswerBody::Stream { .. } => {}
        }
    }
}

type Reply = Response<AnswerBody>;

impl Service {
    async fn answer(&self, request: Request<Incoming>, ending: Rc<Ending>) -> Reply {
        let mut answer = self.route(request, ending).await;
        let headers = answer.headers_mut();
        headers.insert(SERVER, HeaderValue::from_static("scenario-simulator"));
        answer
    }

    async fn route(&self, request: Request<Incoming>, ending: Rc<Ending>) -> Reply {
        let path = request.uri().path().to_owned();
        let Some((method, route)) = Route::of(&path) else {
            return json(StatusCode::NOT_FOUND, r#"{"detail":"Not Found"}"#.into());
        };
        if *request.method() != method {
            return wrong_method(&method);
        }
        if path.starts_with("/v1/") && !self.knows(&request) {
            let body = r#"{"error":"Unauthorized"}"#;
            return json(StatusCode::UNAUTHORIZED, body.into());
        }
        if route.needs_the_engine() && self.is_loading() {
            return json(StatusCode::SERVICE_UNAVAILABLE, LOADING.into());
        }
        match route {
            Route::Generate(endpoint) => {
                let Ok(body) = request.into_body().collect().await else {
                    return json(StatusCode::BAD_REQUEST, r#"{"detail":"no body"}"#.into());
                };
                self.generate(&body.to_bytes(), endpoint, ending).await
            }
            Route::Tokenize => {
                let body = request.into_body().collect().await;
                self.tokenize(&body.map(|body| body.to_bytes()).unwrap_or_default())
            }
            Route::Models => json(StatusCode::OK, self.models()),
            Route::Health => empty(),
            Route::ResetPrefixCache => {
                self.driver.borrow_mut().reset_prefix_cache();
                empty()
            }
            Route::Version => json(
                StatusCode::OK,
                format!(
                    r#"{{"version":"simulated-{}","simulated":true,"preset":"{}"}}"#,
                    env!("CARGO_PKG_VERSION"),
                    self.config.preset.name
                ),
            ),
            Route::Metrics => {
                let page = self.driver.borrow_mut().exposition(&self.model_name());
                whole(
                    StatusCode::OK,
                    "text/plain; version=0.0.4; charset=utf-8",
                    page,
                )
            }
            Route::Gpu => {
                self.driver.borrow_mut().advance();
                json(StatusCode::OK, gpu_json(&self.gpu.read()))
            }
        }
    }

    fn knows(&self, request: &Request<Incoming>) -> bool {
        let Some(key) = &self.config.api_key else {
            return true;
        };
        request
            .headers()
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "))
            .is_some_and(|given| given == key)
    }

    fn is_loading(&self) -> bool {
        let since_start = Duration::from_nanos(self.gpu.clock.now().ns());
        self.config.faults.iter().any(|fault| match fault.kind {
            FaultKind::Loading { delay } => since_start < delay,
            _ => false,
        })
    }

    fn model_name(&self) -> String {
        let served = self.config.served_models.first();
        served.map_or(self.config.preset.model.to_owned(), String::clone)
    }

    async fn generate(&self, body: &[u8], endpoint: Endpoint, ending: Rc<Ending>) -> Reply {
        let number = self.requests.get() + 1;
        self.requests.set(number);
        let config = &self.config;
        let hits = config.faults.iter().filter(|fault| fault.hits(number));
        let behaviour = Behaviour::new(hits.map(|fault| fault.kind).collect());
        if let Some(answer) = refusal(&behaviour) {
            return answer;
        }
        let (preset, served) = (&config.preset, &config.served_models);
        let generation = match generation::read(body, endpoint, preset, served, config.seed) {
            Ok(generation) => generation,
            Err(error) => return api_error(&error),
        };
        let prefix = match endpoint {
            Endpoint::Chat => "chatcmpl",
            Endpoint::Completions => "cmpl",
        };
        let id = format!("{prefix}-{number:016x}");
        let delay = behaviour.find(|fault| match fault {
            FaultKind::SlowHeaders { delay } => Some(*delay),
            _ => None,
        });
        let answer = if generation.stream {
            Ok(self.stream(generation, behaviour, &id, ending))
        } else {
            self.whole(generation, &behaviour, &id, ending).await
        };
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        answer.unwrap_or_else(|error| api_error(&error))
    }

    fn stream(
        &self,
        generation: Generation,
        behaviour: Behaviour,
        id: &str,
        ending: Rc<Ending>,
    ) -> Reply {
        let outlet = Rc::new(RefCell::new(Outlet::default()));
        let closes = behaviour.has(FaultKind::CloseAfterResponse);
        let is_empty = behaviour.has(FaultKind::Empty);
        let mut writer = AnswerWriter::new(
            generation.clone(),
            behaviour,
            Rc::clone(&outlet),
            id,
            unix_seconds(),
        );
        let ticket = if is_empty {
            writer.write_nothing();
            None
        } else {
            match Driver::submit(&self.driver, &generation, Sink::Stream(writer)) {
                Ok(ticket) => Some(ticket),
                Err(rejection) => return api_error(&never_fits(rejection)),
            }
        };
        let body = AnswerBody::Stream {
            outlet,
            ending,
            closes,
            _ticket: ticket,
        };
        let mut answer = Response::new(body);
        let kind = HeaderValue::from_static("text/event-stream; charset=utf-8");
        answer.headers_mut().insert(CONTENT_TYPE, kind);
        answer
    }

    async fn whole(
        &self,
        mut generation: Generation,
        behaviour: &Behaviour,
        id: &str,
        ending: Rc<Ending>,
    ) -> Result<Reply, ApiError> {
        let mut cached = 0;
        if behaviour.has(FaultKind::Empty) {
            generation.output_tokens = 0;
        } else {
            let (done, finished) = oneshot::channel();
            let ticket =
                Driver::submit(&self.driver, &generation, Sink::Whole(done)).map_err(never_fits)?;
            cached = finished.await.unwrap_or(0);
            drop(ticket);
        }
        let mut text = generation.whole_answer(id, unix_seconds(), cached);
        if behaviour
            .find(|fault| matches!(fault, FaultKind::Malformed { .. }).then_some(()))
            .is_some()
        {
            text.remove(0);
        }
        let mut answer = json(StatusCode::OK, text);
        if behaviour.has(FaultKind::CloseAfterResponse)
            && let AnswerBody::Whole { closing, .. } = answer.body_mut()
        {
            *closing = Some(ending);
        }
        Ok(answer)
    }

    fn tokenize(&self, body: &[u8]) -> Reply {
        let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
        let Some(text) = value.get("prompt").and_then(serde_json::Value::as_str) else {
            let error = ApiError::bad_request("prompt must be a string".to_owned(), Some("prompt"));
            return api_error(&error);
        };
        let count = generation::count_tokens(text);
        let tokens: Vec<u32> = (0..count).collect();
        json(
            StatusCode::OK,
            format!(
                r#"{{"count":{count},"max_model_len":{},"tokens":{tokens:?},"token_strs":null}}"#,
                self.config.preset.max_model_len
            ),
        )
    }

    fn models(&self) -> String {
        let mut names = self.config.served_models.clone();
        if names.is_empty() {
            names.push(self.config.preset.model.to_owned());
        }
        let models: Vec<String> = names
            .iter()
            .map(|name| {
                format!(
                    r#"{{"id":{},"object":"model","created":{},"owned_by":"scenario-simulator","root":"{}","parent":null,"max_model_len":{}}}"#,
                    serde_json::Value::from(name.as_str()),
                    self.created,
                    self.config.preset.name,
                    self.config.preset.max_model_len
                )
            })
            .collect();
        format!(r#"{{"object":"list","data":[{}]}}"#, models.join(","))
    }
}

/// What can be asked for.
#[derive(Clone, Copy)]
enum Route {
    Generate(Endpoint),
    Models,
    Tokenize,
    Health,
    Version,
    Metrics,
    ResetPrefixCache,
    Gpu,
}

impl Route {
    fn of(path: &str) -> Option<(Method, Route)> {
        Some(match path {
            "/v1/chat/completions" => (Method::POST, Route::Generate(Endpoint::Chat)),
            "/v1/completions" => (Method::POST, Route::Generate(Endpoint::Completions)),
            "/v1/models" => (Method::GET, Route::Models),
            "/tokenize" => (Method::POST, Route::Tokenize),
            "/health" => (Method::GET, Route::Health),
            "/version" => (Method::GET, Route::Version),
            "/metrics" => (Method::GET, Route::Metrics),
            "/reset_prefix_cache" => (Method::POST, Route::ResetPrefixCache),
            "/scenario/gpu" => (Method::GET, Route::Gpu),
            _ => return None,
        })
    }

    fn needs_the_engine(self) -> bool {
        match self {
            Route::Generate(_) | Route::Models | Route::Tokenize | Route::Health => true,
            Route::Version | Route::Metrics | Route::ResetPrefixCache | Route::Gpu => false,
        }
    }
}

const LOADING: &str =
    r#"{"error":{"message":"Loading model","type":"unavailable_error","code":503}}"#;

/// The answer of a request that is refused on purpose.
fn refusal(behaviour: &Behaviour) -> Option<Reply> {
    behaviour.find(|fault| match fault {
        FaultKind::Error500 => Some(api_error(&ApiError {
            status: StatusCode::INTERNAL_SERVER_ERROR,
            message: "simulated internal error".to_owned(),
            kind: "InternalServerError",
            parameter: None,
        })),
        FaultKind::Error429 { retry_after } => {
            let mut answer = api_error(&ApiError {
                status: StatusCode::TOO_MANY_REQUESTS,
                message: "simulated rate limit".to_owned(),
                kind: "RateLimitError",
                parameter: None,
            });
            let seconds = HeaderValue::from(*retry_after);
            answer.headers_mut().insert(RETRY_AFTER, seconds);
            Some(answer)
        }
        _ => None,
    })
}

fn never_fits(rejection: Rejection) -> ApiError {
    let message = match rejection {
        Rejection::TooLong { needed, blocks } => {
            format!("the request needs {needed} KV cache blocks, and there are {blocks}")
        }
        Rejection::Duplicate => "a request of this id is under way".to_owned(),
    };
    ApiError::bad_request(message, None)
}

fn api_error(error: &ApiError) -> Reply {
    json(error.status, error.json())
}

fn wrong_method(allowed: &Method) -> Reply {
    let body = r#"{"detail":"Method Not Allowed"}"#;
    let mut answer = json(StatusCode::METHOD_NOT_ALLOWED, body.into());
    if let Ok(allowed) = HeaderValue::from_str(allowed.as_str()) {
        answer.headers_mut().insert(ALLOW, allowed);
    }
    answer
}

fn empty() -> Reply {
    Response::new(AnswerBody::Whole {
        bytes: None,
        closing: None,
    })
}

fn json(status: StatusCode, body: String) -> Reply {
    whole(status, "application/json", body)
}

fn whole(status: StatusCode, kind: &'static str, body: String) -> Reply {
    let mut answer = Response::new(AnswerBody::Whole {
        bytes: Some(Bytes::from(body)),
        closing: None,
    });
    *answer.status_mut() = status;
    let kind = HeaderValue::from_static(kind);
    answer.headers_mut().insert(CONTENT_TYPE, kind);
    answer
}

fn gpu_json(gpu: &SimulatedGpu) -> String {
    serde_json::json!({
        "simulated": true,
        "name": gpu.name,
        "utilization": gpu.utilization,
        "memory_used_bytes": gpu.memory_used,
        "memory_total_bytes": gpu.memory_total,
        "power_watts": gpu.power_watts,
        "temperature_celsius": gpu.temperature_celsius,
        "sm_clock_mhz": gpu.sm_clock_mhz,
        "energy_joules": gpu.energy_joules,
    })
    .to_string()
}

fn unix_seconds() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}
