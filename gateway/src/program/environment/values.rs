//! What values of the gateway's own variables look like.

use std::net::IpAddr;
use std::time::Duration;

use asya_program::Expected;
use asya_program::environment::duration;
use url::Url;

/// A port; 0 is any free one.
pub(super) fn port(value: &str) -> Result<u16, Expected> {
    value.parse().map_err(|_| {
        let expected = Expected::new("a port from 1 to 65535, or 0 for a free one");
        if value.starts_with("tcp://") {
            expected.because("is what Kubernetes sets for a service called asya-gateway")
        } else {
            expected
        }
    })
}

/// An address to listen on.
pub(super) fn address(value: &str) -> Result<IpAddr, Expected> {
    let bare = value.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    bare.unwrap_or(value).parse().map_err(|_| {
        Expected::new("an IP address of this machine, such as 127.0.0.1, or 0.0.0.0 or :: for all of them")
    })
}

/// How long something is kept.
pub(super) fn retention(value: &str) -> Result<Option<Duration>, Expected> {
    if value == "forever" {
        return Ok(None);
    }
    duration(value)
        .map(Some)
        .map_err(|_| Expected::new("a duration such as 24h or 90m, or forever"))
}

/// Texts with commas between them, none of them empty.
#[expect(clippy::unnecessary_wraps, reason = "the form of all parsers")]
pub(super) fn list(value: &str) -> Result<Vec<String>, Expected> {
    let parts = value.split(',').map(str::trim).filter(|part| !part.is_empty());
    Ok(parts.map(str::to_owned).collect())
}

/// Host names without scheme and port.
pub(super) fn hosts(value: &str) -> Result<Vec<String>, Expected> {
    let hosts = list(value)?;
    match hosts.iter().find(|host| !is_host(host)) {
        None => Ok(hosts),
        Some(host) => Err(
            Expected::new("host names without scheme and port, separated by commas")
                .because(format!("holds {host:?}")),
        ),
    }
}

fn is_host(host: &str) -> bool {
    // Colons stand in addresses of IPv6 alone, and those in brackets; elsewhere a port follows.
    let has_port = host.contains(':') && !(host.starts_with('[') && host.ends_with(']'));
    let is_parsed = Url::parse(&format!("http://{host}/"))
        .is_ok_and(|url| url.username().is_empty() && url.path() == "/");
    is_parsed && !has_port && !host.contains(['/', '?', '#', '*', '@', ' '])
}

/// Origins of web pages.
pub(super) fn origins(value: &str) -> Result<Vec<String>, Expected> {
    let origins = list(value)?;
    match origins.iter().find(|origin| *origin != "*" && !is_origin(origin)) {
        None => Ok(origins),
        Some(origin) => Err(Expected::new(
            "origins such as https://app.example.com or http://localhost:3000, separated by commas, or *",
        )
        .because(format!("holds {origin:?}"))),
    }
}

/// Scheme, host and port, and nothing behind them.
fn is_origin(origin: &str) -> bool {
    Url::parse(origin).is_ok_and(|url| {
        let serialised = url.origin().ascii_serialization();
        url.has_host() && serialised.eq_ignore_ascii_case(origin.trim_end_matches('/'))
    })
}

/// A URL of HTTP.
pub(super) fn http_url(value: &str) -> Result<Url, Expected> {
    let expected = || Expected::new("a URL such as https://host.example.com/path");
    let url = Url::parse(value).map_err(|error| expected().because(format!("is no URL ({error})")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.has_host() {
        return Err(expected().because("is no address of HTTP"));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_and_addresses() {
        assert_eq!(port("0"), Ok(0));
        assert_eq!(port("65535"), Ok(65535));
        for text in ["", "-1", "65536", "http", "80 ", ":80", "tcp://10.0.0.1:80"] {
            assert!(port(text).is_err(), "{text}");
        }
        for text in ["127.0.0.1", "::", "[::1]"] {
            assert!(address(text).is_ok(), "{text}");
        }
        for text in ["localhost", "*", "0.0.0.0:80", "256.0.0.1"] {
            assert!(address(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_is_kept_for_ever_says_so() {
        assert_eq!(retention("forever"), Ok(None));
        assert_eq!(retention("0"), Ok(Some(Duration::ZERO)));
        assert_eq!(retention("90m"), Ok(Some(Duration::from_mins(90))));
        assert!(retention("never").is_err());
    }

    #[test]
    fn names_and_origins_are_told_from_urls() {
        assert_eq!(
            hosts("a.example.com, localhost,"),
            Ok(vec!["a.example.com".into(), "localhost".into()])
        );
        for text in ["https://a", "a:80", "a/b", "*", "a@b"] {
            assert!(hosts(text).is_err(), "{text}");
        }
        for text in ["*", "https://a.example.com", "http://localhost:3000/"] {
            assert!(origins(text).is_ok(), "{text}");
        }
        for text in ["a.example.com", "https://a/b", "null"] {
            assert!(origins(text).is_err(), "{text}");
        }
        assert!(http_url("https://a/b").is_ok());
        for text in ["ftp://a", "a", "https://"] {
            assert!(http_url(text).is_err(), "{text}");
        }
    }
}
