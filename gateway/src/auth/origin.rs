//! Which web pages may speak to the gateway: the check against DNS rebinding and foreign origins.
//!
//! A browser sends requests wherever a page tells it to. `Origin` names the page, `Host` the name under which the
//! gateway was reached: a name that the page's owner pointed at 127.0.0.1 is not one of ours.

use axum::http::uri::Authority;
use url::Url;

/// Names of this machine, as they stand in `Host` and `Origin`.
const LOOPBACK: [&str; 3] = ["localhost", "127.0.0.1", "[::1]"];

/// Who is let in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct OriginPolicy {
    /// Whether the gateway listens on loopback only: then `Host` must be a name of this machine or one of `hosts`,
    /// and pages of this machine are let in.
    pub loopback_only: bool,
    /// Names, without port, under which the gateway may be reached; empty for any, unless it listens on loopback only.
    pub hosts: Vec<String>,
    /// Origins that may speak to it, such as `https://app.example.com`; `*` for all.
    pub origins: Vec<String>,
}

/// Why a request is refused, in words for whoever has to mend it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OriginRefusal {
    /// `Host` is not one of ours.
    #[error("host {0:?} is not a name of this gateway; add it to ASYA_ALLOWED_HOSTS if it is")]
    Host(String),
    /// The page may not speak to us.
    #[error("origin {0:?} is not allowed here; add it to ASYA_ALLOWED_ORIGINS if it should be")]
    Origin(String),
}

impl OriginPolicy {
    /// Decides about a request by its `Host` (or `:authority`) and its `Origin`.
    pub fn admits(&self, host: Option<&str>, origin: Option<&str>) -> Result<(), OriginRefusal> {
        if let Some(host) = host
            && !self.knows_host(host)
        {
            return Err(OriginRefusal::Host(shortened(host)));
        }
        match origin {
            Some(origin) if !self.knows_origin(origin) => Err(OriginRefusal::Origin(shortened(origin))),
            _ => Ok(()),
        }
    }

    fn knows_host(&self, host: &str) -> bool {
        if !self.loopback_only && self.hosts.is_empty() {
            return true;
        }
        let Ok(authority) = host.parse::<Authority>() else {
            return false;
        };
        let name = authority.host();
        let is_ours = self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name));
        is_ours || (self.loopback_only && is_loopback(name))
    }

    fn knows_origin(&self, origin: &str) -> bool {
        let listed =
            |known: &String| known == "*" || known.trim_end_matches('/').eq_ignore_ascii_case(origin);
        if self.origins.iter().any(listed) {
            return true;
        }
        let host = Url::parse(origin)
            .ok()
            .and_then(|url| url.host_str().map(str::to_owned));
        self.loopback_only && host.is_some_and(|host| is_loopback(&host))
    }
}

fn is_loopback(name: &str) -> bool {
    LOOPBACK.iter().any(|known| known.eq_ignore_ascii_case(name))
}

/// What a stranger sent, short enough for an answer.
fn shortened(text: &str) -> String {
    text.chars().take(100).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn on_loopback_only_names_and_pages_of_this_machine_are_let_in() {
        let policy = OriginPolicy {
            loopback_only: true,
            ..OriginPolicy::default()
        };
        for host in ["localhost", "LOCALHOST:8080", "127.0.0.1:8080", "[::1]:8080"] {
            assert_eq!(policy.admits(Some(host), None), Ok(()), "{host}");
            assert_eq!(policy.admits(Some(host), Some("http://localhost:6274")), Ok(()));
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example:80",
            "localhost.evil.example",
            "x@localhost@evil",
            "",
        ] {
            assert!(
                matches!(policy.admits(Some(host), None), Err(OriginRefusal::Host(_))),
                "{host}"
            );
        }
        for origin in [
            "https://evil.example",
            "null",
            "http://localhost.evil.example",
            "file://",
        ] {
            assert!(
                matches!(
                    policy.admits(Some("localhost"), Some(origin)),
                    Err(OriginRefusal::Origin(_))
                ),
                "{origin}"
            );
        }
    }

    #[test]
    fn elsewhere_any_name_is_ours_until_they_are_listed_and_pages_must_be_listed() {
        let any = OriginPolicy::default();
        assert_eq!(any.admits(Some("gateway.default.svc"), None), Ok(()));
        assert_eq!(any.admits(None, None), Ok(()));
        assert!(any.admits(Some("gateway"), Some("http://gateway")).is_err());
        assert!(any.admits(Some("gateway"), Some("http://localhost")).is_err());
        let listed = OriginPolicy {
            hosts: vec!["api.example.com".into()],
            origins: vec!["https://app.example.com/".into()],
            ..OriginPolicy::default()
        };
        assert_eq!(
            listed.admits(Some("api.example.com:443"), Some("https://app.example.com")),
            Ok(())
        );
        assert!(listed.admits(Some("other.example.com"), None).is_err());
        assert!(
            listed
                .admits(Some("api.example.com"), Some("http://app.example.com"))
                .is_err()
        );
        let all = OriginPolicy {
            origins: vec!["*".into()],
            ..OriginPolicy::default()
        };
        assert_eq!(all.admits(Some("x"), Some("null")), Ok(()));
    }
}
