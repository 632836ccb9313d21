//! Who may do what: nobody is asked, bearer keys, or tokens of an identity provider.
//!
//! What it is: one layer over the whole router, [`guard`]. It checks where a request comes from ([`OriginPolicy`]),
//! finds out who sends it, decides by method and path whether that one may, and puts the [`Caller`] into the request.
//! What it is not: which envelopes a caller sees is decided by the core, from the caller's tenant.
//!
//! Clients, sidecars and the operator have credentials of their own. Streams are checked when they begin.

mod area;
mod caller;
mod digest;
mod keys;
mod oidc;
mod origin;
mod refusal;

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN};
use axum::http::{HeaderMap, HeaderName};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::{Json, Router, routing};
use chrono::Utc;
use tower_http::cors::{AllowOrigin, Any, CorsLayer};
use url::Url;

pub use caller::{Caller, Role};
pub use digest::{SHORTEST_TOKEN, TokenDigest, new_token};
pub use keys::{KeyFileError, Keys};
pub use oidc::{Oidc, OidcOptions};
pub use origin::{OriginPolicy, OriginRefusal};

use area::Area;
use oidc::TokenError;
use refusal::{Refusal, refuse};

/// Where OAuth clients look who issues tokens for us (RFC 9728).
const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// Who is let in, and how that is found out.
#[derive(Debug, Default)]
pub struct Auth {
    /// How clients are told apart.
    pub clients: Clients,
    /// The token of sidecars; with it nobody else is one. Without it a key with that role lets them in, or nobody is
    /// asked if clients are not.
    pub sidecars: Option<TokenDigest>,
    /// The token of the operator; without one as for sidecars.
    pub operators: Option<TokenDigest>,
    /// Which pages may speak to us.
    pub origins: OriginPolicy,
    /// Under which address clients know us, for OAuth metadata; from the request's `Host` when absent.
    pub public_url: Option<Url>,
}

/// How clients are told apart (`ASYA_AUTH`).
#[derive(Debug, Default)]
pub enum Clients {
    /// Not at all.
    #[default]
    Open,
    /// By static keys.
    Keys(Arc<Keys>),
    /// By tokens of an identity provider.
    Oidc(Box<Oidc>),
}

/// Why nobody in particular sent a request.
enum Unknown {
    /// It has no token.
    Anonymous,
    /// The token is none of ours.
    BadToken(String),
    /// Whether it is good cannot be told just now.
    NoAnswer(String),
}

/// Lets everybody in as [`Caller::anonymous`].
pub fn open(router: Router) -> Router {
    router.layer(axum::Extension(Caller::anonymous()))
}

/// Puts the check before the whole router.
pub fn guard(router: Router, auth: Arc<Auth>) -> Router {
    let mut router = router;
    if matches!(auth.clients, Clients::Oidc(_)) {
        let metadata = routing::get(metadata).with_state(Arc::clone(&auth));
        router = router
            .route(METADATA_PATH, metadata.clone())
            .route(&format!("{METADATA_PATH}/mcp"), metadata);
    }
    router = router.layer(middleware::from_fn_with_state(Arc::clone(&auth), check));
    if let Some(cors) = cors(&auth.origins) {
        router = router.layer(cors);
    }
    router.layer(middleware::from_fn_with_state(auth, check_origin))
}

/// What pages of other origins are told, so that browsers hand them our answers.
fn cors(policy: &OriginPolicy) -> Option<CorsLayer> {
    if policy.origins.is_empty() && !policy.loopback_only {
        return None;
    }
    let policy = policy.clone();
    let is_allowed = move |origin: &axum::http::HeaderValue, _: &axum::http::request::Parts| {
        origin
            .to_str()
            .is_ok_and(|origin| policy.admits(None, Some(origin)).is_ok())
    };
    let exposed =
        ["mcp-session-id", "mcp-protocol-version", "idempotency-replayed"].map(HeaderName::from_static);
    Some(
        CorsLayer::new()
            .allow_origin(AllowOrigin::predicate(is_allowed))
            .allow_methods(Any)
            // A wildcard does not stand for this one (Fetch standard), so what was asked for is mirrored.
            .allow_headers(tower_http::cors::AllowHeaders::mirror_request())
            .expose_headers(exposed),
    )
}

async fn check_origin(State(auth): State<Arc<Auth>>, request: Request, next: Next) -> Response {
    let headers = request.headers();
    let texts = |name| {
        let values = headers.get_all(name).iter();
        values.map(|value| value.to_str().unwrap_or("?"))
    };
    let authority = request.uri().authority().map(axum::http::uri::Authority::as_str);
    // Probes and scrapers know us by address, and what is open tells nobody anything.
    let is_open = Area::of(request.method(), request.uri().path()) == Area::Open;
    let hosts: Vec<&str> = match authority {
        _ if is_open => Vec::new(),
        Some(authority) => vec![authority],
        None => texts(HOST).collect(),
    };
    // Each one of them, where somebody sends several.
    let mut checks = hosts
        .into_iter()
        .map(|host| auth.origins.admits(Some(host), None))
        .chain(texts(ORIGIN).map(|origin| auth.origins.admits(None, Some(origin))));
    if let Some(refusal) = checks.find_map(Result::err) {
        return refuse(headers, &Refusal::Origin(refusal.to_string()));
    }
    next.run(request).await
}

async fn check(State(auth): State<Arc<Auth>>, mut request: Request, next: Next) -> Response {
    let area = Area::of(request.method(), request.uri().path());
    let caller = match auth.identify(request.headers()).await {
        Ok(caller) => caller,
        Err(_) if area == Area::Open => Caller {
            tenant: None,
            name: None,
            roles: std::collections::BTreeSet::new(),
        },
        Err(unknown) => {
            let metadata = auth.metadata_url(request.headers());
            let refusal = match unknown {
                Unknown::Anonymous => Refusal::Anonymous { metadata },
                Unknown::BadToken(reason) => Refusal::BadToken { reason, metadata },
                Unknown::NoAnswer(reason) => Refusal::NoAnswer(reason),
            };
            return refuse(request.headers(), &refusal);
        }
    };
    if !area.admits(&caller) {
        return refuse(request.headers(), &Refusal::Forbidden(area.who()));
    }
    request.extensions_mut().insert(caller);
    next.run(request).await
}

impl Auth {
    /// Nobody is asked for anything.
    pub fn open() -> Self {
        Self::default()
    }

    async fn identify(&self, headers: &HeaderMap) -> Result<Caller, Unknown> {
        let Some(token) = bearer(headers) else {
            return self.nobody();
        };
        let digest = TokenDigest::of(token);
        if let Some(caller) = self.service(&digest) {
            return Ok(caller);
        }
        match &self.clients {
            // A proxy before us may have asked for it; here it means nothing.
            Clients::Open => self.nobody(),
            Clients::Keys(keys) => match keys.find(&digest, Utc::now()) {
                Ok(Some(caller)) => Ok(self.without_reserved(caller)),
                Ok(None) => Err(Unknown::BadToken("the key is not known".to_owned())),
                Err(_) => Err(Unknown::BadToken("the key has expired".to_owned())),
            },
            Clients::Oidc(oidc) => match oidc.check(token).await {
                Ok(caller) => Ok(self.without_reserved(caller)),
                Err(error @ TokenError::NoKeys) => Err(Unknown::NoAnswer(error.to_string())),
                Err(error) => Err(Unknown::BadToken(error.to_string())),
            },
        }
    }

    /// A request without a token that counts.
    fn nobody(&self) -> Result<Caller, Unknown> {
        if !matches!(self.clients, Clients::Open) {
            return Err(Unknown::Anonymous);
        }
        Ok(self.without_reserved(Caller::anonymous()))
    }

    /// A role that has a token of its own is for those alone who show that one, whatever a key or the issuer says.
    fn without_reserved(&self, mut caller: Caller) -> Caller {
        if self.sidecars.is_some() {
            caller.roles.remove(&Role::Sidecar);
        }
        if self.operators.is_some() {
            caller.roles.remove(&Role::Operator);
        }
        caller
    }

    fn service(&self, token: &TokenDigest) -> Option<Caller> {
        let tokens = [
            (&self.sidecars, Role::Sidecar, "sidecar"),
            (&self.operators, Role::Operator, "operator"),
        ];
        let mut roles = std::collections::BTreeSet::new();
        let mut name = None;
        // Both, so that the time tells nothing.
        for (known, role, called) in tokens {
            if known.as_ref().is_some_and(|known| known.matches(token)) {
                roles.insert(role);
                name = Some(called.to_owned());
            }
        }
        if matches!(self.clients, Clients::Open) && name.is_some() {
            roles.insert(Role::Client);
        }
        name.map(|name| Caller {
            tenant: None,
            name: Some(name),
            roles,
        })
    }

    /// Where the metadata of [`METADATA_PATH`] is, if there are any.
    fn metadata_url(&self, headers: &HeaderMap) -> Option<String> {
        let base = self.resource(headers)?;
        matches!(self.clients, Clients::Oidc(_)).then(|| format!("{base}{METADATA_PATH}"))
    }

    /// Our address as clients know it, without a slash at its end.
    fn resource(&self, headers: &HeaderMap) -> Option<String> {
        if let Some(url) = &self.public_url {
            return Some(url.as_str().trim_end_matches('/').to_owned());
        }
        let host = headers.get(HOST)?.to_str().ok()?;
        host.parse::<axum::http::uri::Authority>().ok()?;
        Some(format!("http://{host}"))
    }
}

/// The token of a request. The scheme's letter case does not matter (RFC 9110 §11.1).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

async fn metadata(State(auth): State<Arc<Auth>>, headers: HeaderMap) -> Response {
    let Clients::Oidc(oidc) = &auth.clients else {
        return axum::http::StatusCode::NOT_FOUND.into_response();
    };
    let resource = auth.resource(&headers).unwrap_or_default();
    Json(serde_json::json!({
        "resource": format!("{resource}/mcp"),
        "authorization_servers": [oidc.issuer()],
        "bearer_methods_supported": ["header"],
        "resource_name": "asya-gateway",
    }))
    .into_response()
}
