//! Runs over TLS: an authority of one's own, none, the wrong one.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};

use crate::tool::{self, Desk, Ended, Mock, numbers};

/// TLS in front of the mock, by the certificate of `fixtures/tls`.
pub(crate) struct Front {
    pub(crate) address: SocketAddr,
    _runtime: tokio::runtime::Runtime,
}

impl Front {
    pub(crate) fn before(mock: &Mock) -> Front {
        Front::at(mock.address())
    }

    /// The same in front of any address.
    pub(crate) fn at(behind: &str) -> Front {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let chain = CertificateDer::pem_file_iter(fixture("server.pem")).unwrap();
        let key = PrivateKeyDer::from_pem_file(fixture("server-key.pem")).unwrap();
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(chain.map(Result::unwrap).collect(), key)
            .unwrap();
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let listener = runtime.block_on(TcpListener::bind("127.0.0.1:0")).unwrap();
        let address = listener.local_addr().unwrap();
        let behind = behind.to_owned();
        runtime.spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let (acceptor, behind) = (acceptor.clone(), behind.clone());
                tokio::spawn(async move {
                    if let Ok(mut inside) = acceptor.accept(stream).await
                        && let Ok(mut engine) = TcpStream::connect(behind).await
                    {
                        let _ = tokio::io::copy_bidirectional(&mut inside, &mut engine).await;
                    }
                });
            }
        });
        Front {
            address,
            _runtime: runtime,
        }
    }

    /// A run with this `tls`, which may be nothing.
    fn run(&self, tls: &str) -> Ended {
        let engine = format!(
            "{{ kind: vllm, url: \"https://{}\", ready: {{ timeout: 500ms }}{tls} }}",
            self.address
        );
        let load = "{ levels: { users: 2, requests: 10, warmup: 0s } }";
        Desk::new().run(
            &tool::scenario(&engine, load, "slos: { errors: error count == 0 }\n"),
            &[],
        )
    }
}

fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/tls")
        .join(name)
}

#[test]
fn an_authority_of_ones_own_is_trusted() {
    let mock = Mock::start(&[]);
    let front = Front::before(&mock);
    let ended = front
        .run(&format!(
            ", tls: {{ ca: \"{}\" }}",
            fixture("ca.pem").display()
        ))
        .with_code(0);
    assert_eq!(numbers(&ended.report(), "c2")["ok"], 10);
}

#[test]
fn insecure_asks_for_no_authority() {
    let mock = Mock::start(&[]);
    let front = Front::before(&mock);
    let ended = front.run(", tls: { insecure: true }").with_code(0);
    assert_eq!(numbers(&ended.report(), "c2")["ok"], 10);
}

#[test]
fn a_certificate_that_nobody_vouches_for_exits_3_and_says_so() {
    let mock = Mock::start(&[]);
    let front = Front::before(&mock);
    let other = format!(", tls: {{ ca: \"{}\" }}", fixture("other-ca.pem").display());
    for tls in ["", other.as_str()] {
        let ended = front.run(tls).with_code(3);
        let report = ended.report();
        let reason = report["cells"][0]["runs"][0]["reason"].as_str().unwrap();
        assert!(
            reason.contains(&format!("https://{}", front.address)),
            "{reason}"
        );
        assert!(reason.to_lowercase().contains("certificate"), "{reason}");
        assert!(ended.requests().rows.is_empty());
    }
}

#[test]
fn a_file_of_authorities_that_is_not_there_exits_before_anything_is_sent() {
    let mock = Mock::start(&[]);
    let front = Front::before(&mock);
    let ended = front.run(", tls: { ca: nowhere.pem }");
    assert!(matches!(ended.code, Some(2 | 3)), "{:?}", ended.code);
    let said = ended.out.clone() + &ended.err;
    assert!(said.contains("nowhere.pem"), "{said}");
}
