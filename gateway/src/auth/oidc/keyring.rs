//! The keys of an identity provider: fetched when needed, kept for a while, never fetched in a hurry.

use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwapOption;
use jsonwebtoken::jwk::{Jwk, JwkSet};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::{OidcOptions, TokenError};

/// After this the keys are fetched again, at the next token.
const FRESH: Duration = Duration::from_mins(5);

/// Least pause between two fetches: a flood of tokens with made-up keys must not become a flood at the provider.
const LEAST_PAUSE: Duration = Duration::from_secs(10);

/// Longest time for one fetch.
const TIME_LIMIT: Duration = Duration::from_secs(5);

/// The largest answer that is read, in bytes.
const LARGEST_ANSWER: usize = 1024 * 1024;

/// The keys, shared by all requests.
#[derive(Debug)]
pub(super) struct Keyring {
    client: reqwest::Client,
    issuer: String,
    jwks_url: Option<Url>,
    present: ArcSwapOption<Present>,
    /// When it was fetched last, well or not; held while fetching.
    fetching: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Present {
    keys: JwkSet,
    fetched_at: Instant,
}

#[derive(Deserialize)]
struct Discovery {
    issuer: String,
    jwks_uri: String,
}

/// Why the keys could not be fetched; for the log.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("{0}")]
    Http(#[from] reqwest::Error),
    #[error("the answer is larger than {LARGEST_ANSWER} bytes")]
    TooLarge,
    #[error("the answer is not understood: {0}")]
    NotUnderstood(#[from] serde_json::Error),
    #[error("the provider calls itself {0:?}")]
    OtherIssuer(String),
    #[error("{0}")]
    Address(#[from] url::ParseError),
}

impl Keyring {
    pub(super) fn new(options: &OidcOptions) -> Result<Self, reqwest::Error> {
        Ok(Self {
            client: reqwest::Client::builder()
                .timeout(TIME_LIMIT)
                .redirect(reqwest::redirect::Policy::limited(3))
                .build()?,
            issuer: options.issuer.clone(),
            jwks_url: options.jwks_url.clone(),
            present: ArcSwapOption::empty(),
            fetching: Mutex::new(None),
        })
    }

    /// The key that a token says it was signed with. A token that names none is checked with the only one that fits.
    pub(super) async fn find(
        &self,
        kid: Option<&str>,
        algorithm: Algorithm,
    ) -> Result<DecodingKey, TokenError> {
        let known = self.present.load_full();
        let is_fresh = |present: &Arc<Present>| present.fetched_at.elapsed() < FRESH;
        if let Some(present) = known.as_ref().filter(|present| is_fresh(present))
            && let Some(key) = pick(&present.keys, kid, algorithm)
        {
            return decoding_key(key);
        }
        self.fetch(known.as_ref()).await;
        // Old keys are better than none: a provider that is away must not lock everybody out.
        let present = self.present.load_full().ok_or(TokenError::NoKeys)?;
        decoding_key(pick(&present.keys, kid, algorithm).ok_or(TokenError::UnknownKey)?)
    }

    /// Fetches the keys, unless somebody else did so since `known` was looked at, or just tried.
    async fn fetch(&self, known: Option<&Arc<Present>>) {
        let mut last = self.fetching.lock().await;
        let now_known = self.present.load_full();
        let changed = now_known.as_ref().map(|it| it.fetched_at) != known.map(|it| it.fetched_at);
        if changed || last.is_some_and(|at| at.elapsed() < LEAST_PAUSE) {
            return;
        }
        match self.ask().await {
            Ok(keys) => {
                let fetched_at = Instant::now();
                self.present.store(Some(Arc::new(Present { keys, fetched_at })));
            }
            Err(error) => tracing::warn!(
                issuer = self.issuer,
                "the keys of the issuer cannot be fetched: {error}"
            ),
        }
        *last = Some(Instant::now());
    }

    async fn ask(&self) -> Result<JwkSet, FetchError> {
        let url = match &self.jwks_url {
            Some(url) => url.clone(),
            None => self.discover().await?,
        };
        Ok(serde_json::from_slice(&self.get(url).await?)?)
    }

    async fn discover(&self) -> Result<Url, FetchError> {
        let issuer = self.issuer.trim_end_matches('/');
        let url = Url::parse(&format!("{issuer}/.well-known/openid-configuration"))?;
        let found: Discovery = serde_json::from_slice(&self.get(url).await?)?;
        // Otherwise one provider could speak for another (OpenID Connect Discovery 1.0 §4.3).
        if found.issuer != self.issuer {
            return Err(FetchError::OtherIssuer(found.issuer));
        }
        Ok(Url::parse(&found.jwks_uri)?)
    }

    async fn get(&self, url: Url) -> Result<Vec<u8>, FetchError> {
        let mut answer = self.client.get(url).send().await?.error_for_status()?;
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(FetchError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }
}

fn pick<'a>(keys: &'a JwkSet, kid: Option<&str>, algorithm: Algorithm) -> Option<&'a Jwk> {
    let mut fitting = keys.keys.iter().filter(|key| fits(key, algorithm));
    match kid {
        Some(kid) => fitting.find(|key| key.common.key_id.as_deref() == Some(kid)),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}

/// Whether a key is meant for this algorithm: one for signatures, and of that name if it has one.
fn fits(key: &Jwk, algorithm: Algorithm) -> bool {
    use jsonwebtoken::jwk::{AlgorithmParameters, PublicKeyUse};
    let is_for_signatures = !matches!(key.common.public_key_use, Some(PublicKeyUse::Encryption));
    let is_named = key
        .common
        .key_algorithm
        .is_none_or(|named| named.to_string() == format!("{algorithm:?}"));
    let is_of_kind = match &key.algorithm {
        AlgorithmParameters::RSA(_) => {
            use Algorithm::{PS256, PS384, PS512, RS256, RS384, RS512};
            matches!(algorithm, RS256 | RS384 | RS512 | PS256 | PS384 | PS512)
        }
        AlgorithmParameters::EllipticCurve(_) => matches!(algorithm, Algorithm::ES256 | Algorithm::ES384),
        AlgorithmParameters::OctetKeyPair(_) => matches!(algorithm, Algorithm::EdDSA),
        _ => false,
    };
    is_for_signatures && is_named && is_of_kind
}

fn decoding_key(key: &Jwk) -> Result<DecodingKey, TokenError> {
    DecodingKey::from_jwk(key).map_err(|_| TokenError::UnknownKey)
}
