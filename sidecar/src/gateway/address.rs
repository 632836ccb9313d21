//! Where a gateway is: its base URL, checked once, with the credentials taken out so that they cannot slip into a log.

use std::fmt;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use reqwest::Url;

/// What stays readable in a path segment; everything else is escaped.
const SEGMENT: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// The base URL of a gateway. Shows itself without its credentials.
#[derive(Clone, PartialEq, Eq)]
pub struct GatewayAddress {
    /// Without user, password, query, fragment and trailing slashes.
    base: Url,
    credentials: Option<Credentials>,
}

#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credentials {
    pub(super) user: String,
    pub(super) password: String,
}

/// Why a text is no usable base URL. Never quotes the text, since it may hold a password.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
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
    /// User or password are not UTF-8 once decoded.
    #[error("the user or password in the URL is not UTF-8 after percent-decoding")]
    Credentials,
}

impl GatewayAddress {
    /// Reads a base URL: `http` or `https`, with a path if the gateway is below one, and with credentials
    /// (percent-encoded) if it asks for basic authentication.
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
        let credentials = credentials(&base)?;
        // Both can only fail for URLs without a host, which these schemes always have.
        let (Ok(()), Ok(())) = (base.set_username(""), base.set_password(None)) else {
            return Err(AddressError::Scheme);
        };
        let path = base.path().trim_end_matches('/').to_owned();
        base.set_path(&path);
        Ok(Self { base, credentials })
    }

    pub(super) fn credentials(&self) -> Option<&Credentials> {
        self.credentials.as_ref()
    }

    pub(super) fn is_encrypted(&self) -> bool {
        self.base.scheme() == "https"
    }

    /// Whether it is on this machine, where no proxy is asked.
    pub(super) fn is_local(&self) -> bool {
        let host = self.base.host_str().unwrap_or_default();
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost"
            || address
                .parse::<std::net::IpAddr>()
                .is_ok_and(|address| address.is_loopback())
    }

    /// The URL of a path without variable parts; `path` starts with a slash.
    pub(super) fn fixed(&self, path: &str) -> Url {
        let mut url = self.base.clone();
        url.set_path(&format!("{}{path}", self.base.path().trim_end_matches('/')));
        url
    }

    /// The URL of `/envelopes/{id}/{verb}`. `None` for the ids `.` and `..`: no URL can hold them as a segment,
    /// escaped or not.
    pub(super) fn envelope(&self, id: &str, verb: &str) -> Option<Url> {
        if matches!(id, "." | ".." | "") {
            return None;
        }
        let id = utf8_percent_encode(id, SEGMENT);
        Some(self.fixed(&format!("/envelopes/{id}/{verb}")))
    }
}

fn credentials(url: &Url) -> Result<Option<Credentials>, AddressError> {
    let decode = |text: &str| {
        let decoded = percent_decode_str(text).decode_utf8();
        decoded
            .map(std::borrow::Cow::into_owned)
            .map_err(|_| AddressError::Credentials)
    };
    if url.username().is_empty() && url.password().is_none() {
        return Ok(None);
    }
    Ok(Some(Credentials {
        user: decode(url.username())?,
        password: decode(url.password().unwrap_or_default())?,
    }))
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

    fn address(text: &str) -> GatewayAddress {
        GatewayAddress::parse(text).unwrap()
    }

    #[test]
    fn trailing_slashes_go_and_a_base_path_stays() {
        for (text, health) in [
            ("http://gateway", "http://gateway/health"),
            ("http://gateway:8080/", "http://gateway:8080/health"),
            (" https://gateway/asya// ", "https://gateway/asya/health"),
            ("http://[::1]:80/a%2Fb", "http://[::1]/a%2Fb/health"),
        ] {
            assert_eq!(address(text).fixed("/health").as_str(), health);
        }
    }

    #[test]
    fn ids_are_one_segment_whatever_they_hold() {
        let gateway = address("http://g/base/");
        for (id, path) in [
            ("a-b_c.d~1", "a-b_c.d~1"),
            ("a/b?c#d", "a%2Fb%3Fc%23d"),
            ("100% é", "100%25%20%C3%A9"),
            ("%2e%2e", "%252e%252e"),
            ("...", "..."),
        ] {
            let url = gateway.envelope(id, "final").unwrap();
            assert_eq!(url.as_str(), format!("http://g/base/envelopes/{path}/final"));
        }
        for id in [".", "..", ""] {
            assert_eq!(gateway.envelope(id, "final"), None);
        }
    }

    #[test]
    fn credentials_are_decoded_and_never_shown() {
        let gateway = address("http://us%40er:p%2Fss@g:81/");
        let credentials = gateway.credentials().unwrap();
        assert_eq!(
            (credentials.user.as_str(), credentials.password.as_str()),
            ("us@er", "p/ss")
        );
        assert_eq!(gateway.to_string(), "http://g:81");
        assert_eq!(format!("{gateway:?}"), "GatewayAddress(http://g:81)");
        assert_eq!(gateway.fixed("/health").as_str(), "http://g:81/health");
        assert!(address("http://token@g").credentials().is_some());
        assert!(address("http://g").credentials().is_none());
    }

    #[test]
    fn unusable_urls_are_refused_without_quoting_them() {
        for (text, expected) in [
            ("gateway:8080", AddressError::Scheme),
            ("user:secret@gateway", AddressError::Scheme),
            ("amqp://user:secret@gateway", AddressError::Scheme),
            ("", AddressError::Scheme),
            ("http://user:secret@g/?a=1", AddressError::Tail),
            ("http://user:secret@g/#a", AddressError::Tail),
            ("http://user:%ff@g/", AddressError::Credentials),
        ] {
            let error = GatewayAddress::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
        }
        for text in ["http://user:secret@", "http://user:secret@g:port"] {
            let error = GatewayAddress::parse(text).unwrap_err().to_string();
            assert!(error.starts_with("not a URL: "), "{error}");
            assert!(!error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn this_machine_is_recognised() {
        for text in ["http://localhost:1", "http://127.0.0.1", "http://[::1]"] {
            assert!(address(text).is_local(), "{text}");
        }
        assert!(!address("http://gateway").is_local());
    }
}
