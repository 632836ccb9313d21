//! Tokens of an identity provider: signed JWTs, checked with the keys that the provider publishes.
//!
//! What it is: the check of signature, issuer, audience and time, and the fetching of keys, shared by all requests.
//! What it is not: it makes nobody log in; clients bring their tokens (OAuth 2.0 resource server).

mod keyring;

use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::{Map, Value};
use url::Url;

use super::caller::{Caller, Role};
use keyring::Keyring;

/// What is accepted: signatures that only the provider can make. A shared secret is none.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// How far clocks may differ, in seconds.
const LEEWAY_SECONDS: u64 = 30;

/// The longest token that is looked at, in bytes.
const LONGEST_TOKEN: usize = 16 * 1024;

/// Whose tokens are accepted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OidcOptions {
    /// Who must have signed them, exactly as in their claim `iss`.
    pub issuer: String,
    /// For whom they must be: one of these stands in their claim `aud`.
    pub audience: Vec<String>,
    /// Where the keys are; found through `ISSUER/.well-known/openid-configuration` when absent.
    pub jwks_url: Option<Url>,
    /// The claim that names the tenant. If set, tokens without it are refused.
    pub tenant_claim: Option<String>,
}

/// Checks tokens.
#[derive(Debug)]
pub struct Oidc {
    options: OidcOptions,
    keyring: Keyring,
}

/// Why a token is not good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("the token is no JWT")]
    NotAToken,
    #[error("the token is not signed with a key of the issuer")]
    UnknownKey,
    #[error("the token has expired")]
    Expired,
    #[error("the token is not valid yet")]
    TooEarly,
    #[error("the token is from another issuer")]
    Issuer,
    #[error("the token is for another audience")]
    Audience,
    #[error("the token has no usable claim {0:?}")]
    Claim(String),
    #[error("the token's signature is not valid")]
    Signature,
    /// Not the token's fault.
    #[error("the keys of the issuer cannot be fetched just now")]
    NoKeys,
}

impl Oidc {
    /// Prepares the check. Nothing is fetched before the first token comes.
    pub fn new(options: OidcOptions) -> Result<Self, reqwest::Error> {
        Ok(Self {
            keyring: Keyring::new(&options)?,
            options,
        })
    }

    /// Who issues the tokens.
    pub fn issuer(&self) -> &str {
        &self.options.issuer
    }

    /// Who brings this token.
    pub(super) async fn check(&self, token: &str) -> Result<Caller, TokenError> {
        if token.len() > LONGEST_TOKEN {
            return Err(TokenError::NotAToken);
        }
        let header = decode_header(token).map_err(|_| TokenError::NotAToken)?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(TokenError::Signature);
        }
        let key = self.keyring.find(header.kid.as_deref(), header.alg).await?;
        let claims = self.decode(token, &key, header.alg)?;
        self.caller(&claims)
    }

    fn decode(
        &self,
        token: &str,
        key: &DecodingKey,
        algorithm: Algorithm,
    ) -> Result<Map<String, Value>, TokenError> {
        let mut validation = Validation::new(algorithm);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.set_required_spec_claims(&["exp", "iss", "aud"]);
        validation.set_issuer(&[&self.options.issuer]);
        validation.set_audience(&self.options.audience);
        match decode::<Map<String, Value>>(token, key, &validation) {
            Ok(data) => Ok(data.claims),
            Err(error) => Err(told(error.kind())),
        }
    }

    fn caller(&self, claims: &Map<String, Value>) -> Result<Caller, TokenError> {
        let text = |claim: &str| {
            let value = claims.get(claim).and_then(Value::as_str);
            value.filter(|text| !text.is_empty()).map(str::to_owned)
        };
        let tenant = match &self.options.tenant_claim {
            Some(claim) => Some(text(claim).ok_or_else(|| TokenError::Claim(claim.clone()))?),
            None => None,
        };
        Ok(Caller {
            tenant,
            name: text("sub"),
            roles: [Role::Client].into(),
        })
    }
}

fn told(error: &jsonwebtoken::errors::ErrorKind) -> TokenError {
    use jsonwebtoken::errors::ErrorKind;
    match error {
        ErrorKind::ExpiredSignature => TokenError::Expired,
        ErrorKind::ImmatureSignature => TokenError::TooEarly,
        ErrorKind::InvalidIssuer => TokenError::Issuer,
        ErrorKind::InvalidAudience => TokenError::Audience,
        ErrorKind::MissingRequiredClaim(claim) => TokenError::Claim(claim.clone()),
        ErrorKind::InvalidSignature | ErrorKind::InvalidAlgorithm => TokenError::Signature,
        _ => TokenError::NotAToken,
    }
}
