//! An identity provider on a port of its own: it publishes keys and signs tokens with them.

use std::net::SocketAddr;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::routing::get;
use axum::{Json, Router};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

pub(crate) struct Provider {
    pub(crate) address: SocketAddr,
    published: Arc<Mutex<Value>>,
    /// How often its keys were fetched.
    pub(crate) fetched: Arc<AtomicUsize>,
}

/// A key pair of the curve P-256.
pub(crate) struct SigningKey {
    kid: String,
    pem: Vec<u8>,
    jwk: Value,
}

impl SigningKey {
    pub(crate) fn new(kid: &str) -> Self {
        let pem = openssl(
            &[
                "genpkey",
                "-algorithm",
                "EC",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
            ],
            &[],
        );
        let public = openssl(&["pkey", "-pubout", "-outform", "DER"], &pem);
        // The last 64 bytes of the public key are the coordinates of the point.
        let point = &public[public.len() - 64..];
        let jwk = json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
            "x": base64url(&point[..32]), "y": base64url(&point[32..]),
        });
        Self {
            kid: kid.to_owned(),
            pem,
            jwk,
        }
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(Algorithm::ES256);
        header.kid = Some(self.kid.clone());
        let key = EncodingKey::from_ec_pem(&self.pem).expect("a key");
        encode(&header, claims, &key).expect("a token")
    }
}

impl Provider {
    pub(crate) async fn start(keys: &[&SigningKey]) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("its address");
        let (published, fetched) = (Arc::new(Mutex::new(Value::Null)), Arc::new(AtomicUsize::new(0)));
        let (shown, counted) = (Arc::clone(&published), Arc::clone(&fetched));
        let discovery = json!({"issuer": issuer(address), "jwks_uri": format!("{}/keys", issuer(address))});
        let router = Router::new()
            .route(
                "/.well-known/openid-configuration",
                get(async move || Json(discovery)),
            )
            .route(
                "/keys",
                get(async move || {
                    counted.fetch_add(1, Ordering::SeqCst);
                    Json(shown.lock().expect("unpoisoned").clone())
                }),
            );
        tokio::spawn(async move { axum::serve(listener, router).await });
        let provider = Self {
            address,
            published,
            fetched,
        };
        provider.publish(keys);
        provider
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk.clone()).collect();
        *self.published.lock().expect("unpoisoned") = json!({"keys": keys});
    }

    pub(crate) fn issuer(&self) -> String {
        issuer(self.address)
    }
}

fn issuer(address: SocketAddr) -> String {
    format!("http://{address}")
}

fn openssl(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    use std::io::Write as _;
    let mut child = Command::new("openssl")
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .stderr(std::process::Stdio::null())
        .spawn()
        .expect("openssl is installed");
    child
        .stdin
        .take()
        .expect("piped")
        .write_all(input)
        .expect("it reads");
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "openssl {arguments:?}");
    output.stdout
}

fn base64url(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let group = chunk
            .iter()
            .fold(0_u32, |group, byte| group << 8 | u32::from(*byte))
            << (8 * (3 - chunk.len()));
        for sextet in 0..=chunk.len() {
            let index = group >> (18 - 6 * sextet) & 63;
            text.push(char::from(ALPHABET[usize::try_from(index).expect("six bits")]));
        }
    }
    text
}
