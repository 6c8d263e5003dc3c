//! Object stores: prompts that come from a bucket, and results that go into one. The store is a stand-in on loopback that speaks
//! the part of S3's API that is needed.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

use scenario::workload::{Objects, StoreSettings};

use crate::tool::{CALM, Desk, Ended, Running, on_the_simulator};

/// Buckets by path, like `/bucket/key`, and what was asked of them.
#[derive(Clone, Default)]
struct Store {
    url: String,
    objects: Arc<Mutex<BTreeMap<String, Vec<u8>>>>,
    asked: Arc<Mutex<Vec<String>>>,
    /// Parts of uploads that are not complete, by path and number.
    parts: Arc<Mutex<Parts>>,
}

type Parts = BTreeMap<(String, u32), Vec<u8>>;

impl Store {
    fn start() -> Store {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let store = Store {
            url: format!("http://{}", listener.local_addr().unwrap()),
            ..Store::default()
        };
        let served = store.clone();
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let served = served.clone();
                std::thread::spawn(move || served.serve(stream));
            }
        });
        store
    }

    fn keep(&self, path: &str, bytes: &[u8]) {
        let mut objects = self.objects.lock().unwrap();
        objects.insert(path.to_owned(), bytes.to_vec());
    }

    fn object(&self, path: &str) -> Option<Vec<u8>> {
        self.objects.lock().unwrap().get(path).cloned()
    }

    fn keys(&self) -> Vec<String> {
        self.objects.lock().unwrap().keys().cloned().collect()
    }

    /// Requests with this method that came so far.
    fn asked(&self, method: &str) -> usize {
        let asked = self.asked.lock().unwrap();
        asked.iter().filter(|line| line.starts_with(method)).count()
    }

    fn settings(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.url.clone()),
            ("AWS_ALLOW_HTTP", "true".to_owned()),
            ("AWS_REGION", "eu-central-1".to_owned()),
            ("AWS_ACCESS_KEY_ID", "key".to_owned()),
            (
                "AWS_SECRET_ACCESS_KEY",
                "a-secret-that-nobody-sees".to_owned(),
            ),
            ("GOOGLE_BASE_URL", self.url.clone()),
            ("GOOGLE_ALLOW_HTTP", "true".to_owned()),
            ("GOOGLE_SKIP_SIGNATURE", "true".to_owned()),
        ]
    }

    fn serve(&self, mut stream: TcpStream) {
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        loop {
            let mut head = String::new();
            while !head.ends_with("\r\n\r\n") {
                if reader.read_line(&mut head).unwrap_or(0) == 0 {
                    return;
                }
            }
            let header = |name: &str| {
                let lines = head.lines().filter_map(|line| line.split_once(": "));
                lines
                    .filter(|(known, _)| known.eq_ignore_ascii_case(name))
                    .map(|(_, value)| value.to_owned())
                    .next()
            };
            let length = header("content-length").map_or(0, |length| length.parse().unwrap());
            let mut body = vec![0; length];
            reader.read_exact(&mut body).unwrap();
            let line = head.lines().next().unwrap().to_owned();
            self.asked.lock().unwrap().push(line.clone());
            let mut words = line.split(' ');
            let (method, target) = (words.next().unwrap(), words.next().unwrap());
            let signed = header("authorization")
                .is_some_and(|told| told.starts_with("AWS4-HMAC-SHA256 Credential=key/"));
            let (status, extra, answer) = match (signed, target.starts_with("/gsets/")) {
                (false, false) => ("403 Forbidden", String::new(), b"<Error/>".to_vec()),
                _ => self.answer(method, target, header("range"), body),
            };
            let sent = if method == "HEAD" { &[][..] } else { &answer };
            write!(
                stream,
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\n{extra}\r\n",
                answer.len()
            )
            .unwrap();
            stream.write_all(sent).unwrap();
        }
    }

    fn answer(
        &self,
        method: &str,
        target: &str,
        range: Option<String>,
        body: Vec<u8>,
    ) -> (&'static str, String, Vec<u8>) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let path = decoded(path);
        let path = path.as_str();
        let ok = |bytes: &[u8]| ("200 OK", tag(bytes), bytes.to_vec());
        if path.starts_with("/closed/") {
            return ("403 Forbidden", String::new(), b"<Error/>".to_vec());
        }
        let mut objects = self.objects.lock().unwrap();
        let mut parts = self.parts.lock().unwrap();
        match (method, query) {
            ("GET" | "HEAD", _) => match objects.get(path) {
                None => ("404 Not Found", String::new(), b"<Error/>".to_vec()),
                Some(whole) => match range.as_deref().and_then(bounds) {
                    None => ok(whole),
                    Some((from, to)) => {
                        let to = to.min(whole.len() - 1);
                        let told = format!(
                            "content-range: bytes {from}-{to}/{}\r\n{}",
                            whole.len(),
                            tag(whole)
                        );
                        ("206 Partial Content", told, whole[from..=to].to_vec())
                    }
                },
            },
            ("POST", query) if query.starts_with("uploads") => {
                let told = "<InitiateMultipartUploadResult><UploadId>u1</UploadId></InitiateMultipartUploadResult>";
                ("200 OK", String::new(), told.into())
            }
            ("POST", _) => {
                let whole: Vec<u8> = parts
                    .iter()
                    .filter(|((of, _), _)| of == path)
                    .flat_map(|(_, part)| part.clone())
                    .collect();
                parts.retain(|(of, _), _| of != path);
                objects.insert(path.to_owned(), whole);
                let told =
                    "<CompleteMultipartUploadResult><ETag>t</ETag></CompleteMultipartUploadResult>";
                ("200 OK", String::new(), told.into())
            }
            ("PUT", query) if query.contains("partNumber=") => {
                let number = query.split(['=', '&']).nth(1).unwrap().parse().unwrap();
                parts.insert((path.to_owned(), number), body);
                ("200 OK", tag(b"part"), Vec::new())
            }
            ("DELETE", query) if query.contains("uploadId=") => {
                parts.retain(|(of, _), _| of != path);
                ("204 No Content", String::new(), Vec::new())
            }
            ("PUT", _) => {
                objects.insert(path.to_owned(), body);
                ("200 OK", tag(b"put"), Vec::new())
            }
            _ => ("400 Bad Request", String::new(), Vec::new()),
        }
    }
}

/// The path without `%2E` and its kin: Google's keys come with every sign but letters and digits so.
fn decoded(path: &str) -> String {
    let mut parts = path.split('%');
    let mut whole = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(2);
        whole.push(char::from(u8::from_str_radix(code, 16).unwrap()));
        whole.push_str(rest);
    }
    whole
}

fn tag(bytes: &[u8]) -> String {
    let sum: u64 = bytes.iter().map(|&byte| u64::from(byte)).sum();
    format!(
        "etag: \"{}-{sum}\"\r\nlast-modified: Sun, 22 Nov 2026 10:00:00 GMT\r\n",
        bytes.len()
    )
}

fn bounds(range: &str) -> Option<(usize, usize)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    Some((from.parse().ok()?, to.parse().ok()?))
}

fn inspect(desk: &Desk, store: &Store, source: &str) -> Ended {
    let cache = desk.path("cache").display().to_string();
    let words = ["dataset", "inspect", source];
    started(desk, store, &words, &[("XDG_CACHE_HOME", &cache)]).end()
}

#[test]
fn prompts_come_from_a_bucket_once_for_each_version() {
    let (desk, store) = (Desk::new(), Store::start());
    for (url, path) in [
        ("s3://sets/chat/a.jsonl", "/sets/chat/a.jsonl"),
        ("gs://gsets/a.jsonl", "/gsets/a.jsonl"),
    ] {
        store.keep(path, b"{\"prompt\": \"One?\"}\n{\"prompt\": \"Two?\"}\n");
        let before = store.asked("GET");
        let told = inspect(&desk, &store, url).with_code(0);
        assert!(told.out.contains("2 measured"), "{}", told.out);
        inspect(&desk, &store, url).with_code(0);
        assert_eq!(store.asked("GET"), before + 1, "the second time it is here");
        store.keep(path, b"{\"prompt\": \"Three?\"}\n");
        let told = inspect(&desk, &store, url).with_code(0);
        assert!(told.out.contains("1 measured"), "{}", told.out);
    }
}

#[test]
fn what_is_wrong_with_an_object_is_told_by_line_and_column() {
    let (desk, store) = (Desk::new(), Store::start());
    for (name, bytes, told) in [
        (
            "truncated.jsonl",
            &b"{\"prompt\": \"One?\"}\n{\"prompt\": \"Tw"[..],
            "line 2: is not JSON: EOF while parsing a string (column 14)",
        ),
        (
            "malformed.jsonl",
            b"{\"prompt\": \"One?\"}\n{\"prompt\"; 1}\n",
            "line 2: is not JSON: expected `:` (column 10)",
        ),
        ("empty.jsonl", b"", "has no prompt left: 0 read"),
    ] {
        store.keep(&format!("/sets/{name}"), bytes);
        let ended = inspect(&desk, &store, &format!("s3://sets/{name}")).with_code(2);
        assert!(ended.err.contains(told), "{}", ended.err);
        assert_eq!(ended.err.matches("error[").count(), 1, "{}", ended.err);
    }
    let absent = inspect(&desk, &store, "s3://sets/none.jsonl").with_code(2);
    let told = "`s3://sets/none.jsonl`: there is no such object or bucket";
    assert!(absent.err.contains(told), "{}", absent.err);
    let closed = inspect(&desk, &store, "s3://closed/a.jsonl").with_code(2);
    let told = "`s3://closed/a.jsonl`: the credentials of this environment may not do that";
    assert!(closed.err.contains(told), "{}", closed.err);
    assert!(!closed.err.contains("nobody-sees"));
}

/// A run of three requests, with its results at `out`.
/// The tool, told where the store is.
fn started(desk: &Desk, store: &Store, words: &[&str], more: &[(&str, &str)]) -> Running {
    let settings = store.settings();
    let known = settings.iter().map(|(name, value)| (*name, value.as_str()));
    let variables: Vec<(&str, &str)> = known.chain(more.iter().copied()).collect();
    desk.start(words, &variables)
}

fn run(desk: &Desk, store: &Store, out: &str) -> Ended {
    let text = format!(
        "version: 1\nname: trial\nbackends: {{ sim: {{ kind: simulator, preset: fast }} }}\nmodels: {{ m: any }}\n\
         load: {{ l: {{ levels: {{ users: 1, requests: 3 }} }} }}\nrequest: {{ max_tokens: 4 }}\nrun: {{ warmup: 0s, cooldown: 0s }}\n{CALM}"
    );
    desk.write("trial.yaml", &text);
    started(desk, store, &["run", "trial.yaml", "--out", out], &[]).end()
}

#[test]
fn results_go_into_a_bucket_and_stay_here() {
    let (desk, store) = (Desk::new(), Store::start());
    let ended = run(&desk, &store, "s3://runs/nightly/7").with_code(0);
    let told = "s3://runs/nightly/7/report.html";
    assert!(ended.err.contains(told), "{}", ended.err);
    let folder = only_folder(&desk);
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    assert!(names.contains(&"report.json".to_owned()), "{names:?}");
    let expected: Vec<String> = names
        .iter()
        .map(|name| format!("/runs/nightly/7/{name}"))
        .collect();
    assert_eq!(store.keys(), expected);
    for (name, path) in names.iter().zip(&expected) {
        let here = std::fs::read(folder.join(name)).unwrap();
        assert_eq!(store.object(path), Some(here), "{name}");
    }
}

#[test]
fn a_bucket_that_takes_nothing_is_told_and_results_stay_here() {
    let (desk, store) = (Desk::new(), Store::start());
    let ended = run(&desk, &store, "s3://closed/nightly").with_code(3);
    for told in [
        "the results stay in `results/trial/",
        "cannot put `",
        "may not do that",
    ] {
        assert!(ended.err.contains(told), "{}", ended.err);
    }
    let report = only_folder(&desk).join("report.json");
    let report = std::fs::read_to_string(report).unwrap();
    assert!(report.contains("\"status\": \"measured\""), "{report}");
    let wrong = run(&desk, &store, "s3://").with_code(2);
    assert!(wrong.err.contains("it names no bucket"), "{}", wrong.err);
}

/// What is lost on the way is told, and neither the verdict nor another file is lost with it.
#[test]
fn a_store_that_is_away_costs_no_measurement_and_no_verdict() {
    let (desk, store) = (Desk::new(), Store::start());
    for (name, bound) in [("ma", "9s"), ("mb", "1us")] {
        let more = format!("slos: {{ ttft: P50 TTFT < {bound} }}\n");
        let text = on_the_simulator("{ levels: { users: 1, requests: 3 } }", &more);
        desk.write(&format!("{name}.yaml"), &text.replace("trial", name));
    }
    for (words, code) in [
        (&["ma.yaml", "mb.yaml"][..], 1),
        (&["ma.yaml"], 3),
        (&["ma.yaml", "--inconclusive", "warn"], 3),
        (&["ma.yaml", "mb.yaml", "--exit-zero"], 0),
    ] {
        let words = [&["run", "--out", "s3://closed/p"], words].concat();
        let ended = started(&desk, &store, &words, &[]).end().with_code(code);
        for file in words.iter().filter_map(|word| word.strip_suffix(".yaml")) {
            let told = format!("the results stay in `results/{file}/");
            assert!(ended.err.contains(&told), "{}", ended.err);
            let told = format!("report: results/{file}/");
            assert!(ended.out.contains(&told), "{}", ended.out);
        }
    }
}

#[test]
fn a_bundle_brings_what_lies_in_a_store() {
    let (desk, store) = (Desk::new(), Store::start());
    store.keep(
        "/sets/deep/lines.jsonl",
        b"{\"prompt\": \"Name three rivers\"}\n",
    );
    let more = "prompts: { p: { source: file, path: \"s3://sets/deep/lines.jsonl\" } }\n";
    let text = on_the_simulator("{ levels: { users: 1, requests: 3 } }", more);
    desk.write("trial.yaml", &text);
    let words = ["bundle", "trial.yaml", "-o", "trial.tar"];
    let told = started(&desk, &store, &words, &[]).end().with_code(0).out;
    assert_eq!(told, "trial.tar: trial and 1 file of it\n");
    // Elsewhere, without a store.
    let other = Desk::new();
    std::fs::copy(desk.path("trial.tar"), other.path("trial.tar")).unwrap();
    let words = ["run", "trial.tar", "--out", "results"];
    other.tool(&words).with_code(0);
    let bytes = std::fs::read(other.path("trial.tar")).unwrap();
    let text = String::from_utf8_lossy(&bytes);
    assert!(text.contains("path: files/1-lines.jsonl"), "{text}");
}

/// The folder of the only run so far.
fn only_folder(desk: &Desk) -> std::path::PathBuf {
    let mut runs = std::fs::read_dir(desk.path("results/trial")).unwrap();
    let folder = runs.next().unwrap().unwrap().path();
    assert!(runs.next().is_none());
    folder
}

fn settings_of(store: &Store) -> StoreSettings {
    let known = store.settings();
    StoreSettings::of_environment(|name| {
        let found = known.iter().find(|(known, _)| *known == name);
        found.map(|(_, value)| value.clone())
    })
}

#[test]
fn a_large_object_goes_in_parts_and_comes_back_whole() {
    let store = Store::start();
    let settings = settings_of(&store);
    let whole: Vec<u8> = (0..40u32 << 20).map(|at| (at % 251) as u8).collect();
    let folder = Objects::at("s3://runs/large", &settings).unwrap();
    folder
        .put("deep/file.bin", whole.len() as u64, &whole[..])
        .unwrap();
    assert_eq!(store.asked("PUT"), 3);
    assert_eq!(store.keys(), ["/runs/large/deep/file.bin"]);
    let object = Objects::at("s3://runs/large/deep/file.bin", &settings).unwrap();
    let mut back = Vec::new();
    object.read(&mut back).unwrap();
    assert!(back == whole);
    assert_eq!(store.asked("GET"), 3);
}

#[test]
fn an_upload_that_cannot_go_on_leaves_no_part_behind() {
    /// It can be read up to here.
    struct Broken(u64);
    impl Read for Broken {
        fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
            if self.0 == 0 {
                return Err(std::io::Error::other("the disk is gone"));
            }
            let read = into.len().min(self.0 as usize);
            self.0 -= read as u64;
            Ok(read)
        }
    }
    let store = Store::start();
    let folder = Objects::at("s3://runs/large", &settings_of(&store)).unwrap();
    let told = folder.put("file.bin", 40 << 20, Broken(20 << 20));
    let told = told.unwrap_err().to_string();
    assert!(told.ends_with("the disk is gone"), "{told}");
    assert_eq!(store.asked("PUT"), 1);
    assert!(store.keys().is_empty() && store.parts.lock().unwrap().is_empty());
}

#[test]
fn an_environment_without_credentials_is_told() {
    let store = Store::start();
    let settings = StoreSettings::of_environment(|name| match name {
        "AWS_ENDPOINT_URL" | "AWS_METADATA_ENDPOINT" => Some(store.url.clone()),
        "AWS_ALLOW_HTTP" => Some("true".to_owned()),
        "AWS_REGION" => Some("eu-central-1".to_owned()),
        _ => None,
    });
    let object = Objects::at("s3://sets/a.jsonl", &settings).unwrap();
    let told = object.version().unwrap_err().to_string();
    assert!(
        told.contains("; the environment names no credentials: AWS_ACCESS_KEY_ID, "),
        "{told}"
    );
}
