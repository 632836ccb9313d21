//! Who may do what.

use std::path::{Path, PathBuf};

use asya_program::environment::text;
use asya_program::{Expected, Reader};

use super::super::variables as v;
use super::values;
use crate::auth::{Auth, Clients, Keys, Oidc, OidcOptions, OriginPolicy, Role, SHORTEST_TOKEN, TokenDigest};
use crate::settings::Listen;

/// The kinds of `ASYA_AUTH`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Open,
    Keys,
    Oidc,
}

/// Reads it; `None` when something is wrong.
pub(super) fn read(reader: &mut Reader<'_>, listen: Listen) -> Option<Auth> {
    let before = reader.problems.len();
    // Without a choice the gateway listens on loopback, and asks nobody.
    let kind = reader.optional(&v::AUTH, kind).unwrap_or(Kind::Open);
    let keys_file = reader.optional(&v::AUTH_KEYS_FILE, text).map(PathBuf::from);
    let issuer = reader.optional(&v::AUTH_OIDC_ISSUER, issuer);
    let audience = reader.optional(&v::AUTH_OIDC_AUDIENCE, values::list);
    let jwks_url = reader.optional(&v::AUTH_OIDC_JWKS_URL, values::http_url);
    let tenant_claim = reader.optional(&v::AUTH_OIDC_TENANT_CLAIM, text);
    warn_about_others(reader, kind);
    let clients = match kind {
        Kind::Open => Some(Clients::Open),
        Kind::Keys => keys(reader, keys_file),
        Kind::Oidc => {
            require(reader, &v::AUTH_OIDC_ISSUER);
            require(reader, &v::AUTH_OIDC_AUDIENCE);
            oidc(reader, issuer, audience, jwks_url, tenant_claim)
        }
    };
    let auth = Auth {
        sidecars: token(reader, &v::AUTH_SIDECAR_TOKEN, &v::AUTH_SIDECAR_TOKEN_FILE),
        operators: token(reader, &v::AUTH_OPERATOR_TOKEN, &v::AUTH_OPERATOR_TOKEN_FILE),
        origins: OriginPolicy {
            loopback_only: listen.is_loopback(),
            hosts: reader
                .optional(&v::ALLOWED_HOSTS, values::hosts)
                .unwrap_or_default(),
            origins: reader
                .optional(&v::ALLOWED_ORIGINS, values::origins)
                .unwrap_or_default(),
        },
        public_url: reader.optional(&v::PUBLIC_URL, values::http_url),
        clients: clients?,
    };
    warn_if_nobody_may_report(reader, &auth);
    (reader.problems.len() == before).then_some(auth)
}

fn kind(value: &str) -> Result<Kind, Expected> {
    match value.to_ascii_lowercase().as_str() {
        "none" => Ok(Kind::Open),
        "keys" => Ok(Kind::Keys),
        "oidc" => Ok(Kind::Oidc),
        _ => Err(Expected::new("none, keys or oidc")),
    }
}

fn issuer(value: &str) -> Result<String, Expected> {
    values::http_url(value)?;
    Ok(value.to_owned())
}

/// What is set for another kind does nothing, which somebody may not expect.
fn warn_about_others(reader: &mut Reader<'_>, kind: Kind) {
    let others: [(Kind, &str, &[&'static v::Variable]); 2] = [
        (Kind::Keys, "keys", &[&v::AUTH_KEYS_FILE]),
        (
            Kind::Oidc,
            "oidc",
            &[
                &v::AUTH_OIDC_ISSUER,
                &v::AUTH_OIDC_AUDIENCE,
                &v::AUTH_OIDC_JWKS_URL,
                &v::AUTH_OIDC_TENANT_CLAIM,
            ],
        ),
    ];
    for (other, name, variables) in others {
        for variable in variables {
            if other != kind && reader.is_set(variable) {
                reader.warn(variable, format!("without effect unless ASYA_AUTH={name}"));
            }
        }
    }
}

/// Where clients are told apart, sidecars need credentials of their own, or all envelopes stay where they are.
fn warn_if_nobody_may_report(reader: &mut Reader<'_>, auth: &Auth) {
    let may_report = match &auth.clients {
        Clients::Open => true,
        Clients::Keys(keys) => keys.grants(Role::Sidecar),
        Clients::Oidc(_) => false,
    };
    if auth.sidecars.is_none() && !may_report {
        reader.warn(
            &v::AUTH_SIDECAR_TOKEN,
            "not set, and no key has the role sidecar: every report of a sidecar will be refused",
        );
    }
}

fn require(reader: &mut Reader<'_>, variable: &'static v::Variable) {
    if !reader.is_set(variable) {
        reader.problem(
            variable,
            format!("not set; expected: {}", variable.meaning.trim_end_matches('.')),
        );
    }
}

fn keys(reader: &mut Reader<'_>, file: Option<PathBuf>) -> Option<Clients> {
    let Some(file) = file else {
        require(reader, &v::AUTH_KEYS_FILE);
        return None;
    };
    match Keys::load(file) {
        Ok(keys) => Some(Clients::Keys(keys)),
        Err(error) => {
            for line in error.to_string().lines() {
                reader.problem(&v::AUTH_KEYS_FILE, line);
            }
            None
        }
    }
}

fn oidc(
    reader: &mut Reader<'_>,
    issuer: Option<String>,
    audience: Option<Vec<String>>,
    jwks_url: Option<url::Url>,
    tenant_claim: Option<String>,
) -> Option<Clients> {
    let oidc = Oidc::new(OidcOptions {
        issuer: issuer?,
        audience: audience?,
        jwks_url,
        tenant_claim,
    });
    match oidc {
        Ok(oidc) => Some(Clients::Oidc(Box::new(oidc))),
        Err(error) => {
            reader.problem(
                &v::AUTH_OIDC_ISSUER,
                format!("no client for its keys can be made: {error}"),
            );
            None
        }
    }
}

/// A token from its variable or its file.
fn token(
    reader: &mut Reader<'_>,
    variable: &'static v::Variable,
    file: &'static v::Variable,
) -> Option<TokenDigest> {
    let token = reader.optional(variable, long_enough);
    let Some(path) = reader.optional(file, text) else {
        return token;
    };
    if reader.is_set(variable) {
        reader.problem(
            file,
            format!("{} is set as well; expected one of the two", variable.name),
        );
    }
    let content = reader.file(file, Path::new(&path))?;
    match long_enough(content.trim_end_matches(['\r', '\n'])) {
        Ok(token) => Some(token),
        Err(expected) => {
            reader.problem(
                file,
                format!("the token in {path} is too short; expected {}", expected.what),
            );
            None
        }
    }
}

fn long_enough(value: &str) -> Result<TokenDigest, Expected> {
    if value.len() < SHORTEST_TOKEN {
        return Err(
            Expected::new(format!("at least {SHORTEST_TOKEN} bytes")).because("is too short to be a secret")
        );
    }
    Ok(TokenDigest::of(value))
}
