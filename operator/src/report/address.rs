//! Where the gateway is: its base URL, checked once, with the credentials taken out so that they cannot slip into a log.

use std::fmt;

use url::Url;

/// The base URL of a gateway. Shows itself without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct GatewayAddress {
    /// Without user, password, query, fragment and trailing slashes.
    base: Url,
}

/// Why a text is no usable base URL. Never quotes the text, since it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a URL at all.
    #[error("not a URL: {0}")]
    Syntax(String),
    /// Neither `http` nor `https`.
    #[error("the URL must start with http:// or https://")]
    Scheme,
    /// The paths of the gateway cannot be appended to it.
    #[error("the URL must end with its path: it has a query or a fragment")]
    Tail,
    /// User and password are for HTTP; the operator shows a token.
    #[error("the URL holds a user or password; give the operator's token as ASYA_GATEWAY_TOKEN instead")]
    Credentials,
}

impl GatewayAddress {
    /// Reads a base URL: `http` or `https`, with a path if the gateway is below one.
    pub fn parse(text: &str) -> Result<Self, AddressError> {
        let text = text.trim();
        let mut base = Url::parse(text).map_err(|error| match text.split_once("://") {
            Some(("http" | "https", _)) => AddressError::Syntax(error.to_string()),
            _ => AddressError::Scheme,
        })?;
        if !matches!(base.scheme(), "http" | "https") {
            return Err(AddressError::Scheme);
        }
        if base.query().is_some() || base.fragment().is_some() {
            return Err(AddressError::Tail);
        }
        if !base.username().is_empty() || base.password().is_some() {
            return Err(AddressError::Credentials);
        }
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        Ok(Self { base })
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.base.scheme() == "https"
    }
}

impl fmt::Display for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.base.as_str().trim_end_matches('/'))
    }
}

impl fmt::Debug for GatewayAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "GatewayAddress({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_url_keeps_its_path_and_loses_its_last_slashes() {
        for (text, shown) in [
            ("http://gateway", "http://gateway"),
            (" https://gateway:8080/asya// ", "https://gateway:8080/asya"),
            ("http://[::1]:80/", "http://[::1]"),
        ] {
            assert_eq!(GatewayAddress::parse(text).unwrap().to_string(), shown);
        }
    }

    #[test]
    fn unusable_urls_are_refused_without_quoting_them() {
        for (text, expected) in [
            ("gateway:8080", AddressError::Scheme),
            ("", AddressError::Scheme),
            ("http://g/?a=secret", AddressError::Tail),
            ("http://g/#secret", AddressError::Tail),
            ("http://user:secret@g", AddressError::Credentials),
        ] {
            let error = GatewayAddress::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("secret"));
        }
    }
}
