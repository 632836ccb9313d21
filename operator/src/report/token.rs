//! The bearer token that a gateway asks operators for. Never shown.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A file is read again after this time: mounted secrets and projected tokens change while the process runs.
const FRESH: Duration = Duration::from_secs(30);

/// A bearer token, given as text or as a file that holds it. Its `Debug` says only which of them.
#[derive(Clone)]
pub struct GatewayToken(Arc<Source>);

enum Source {
    Text(String),
    File { path: PathBuf, read: Mutex<Read> },
}

struct Read {
    token: String,
    at: Instant,
}

/// A token that cannot be used: empty, or with characters that no header can hold. Does not say what it is.
#[derive(Debug, thiserror::Error)]
#[error("a token is one or more visible ASCII characters without spaces")]
pub struct TokenError;

impl GatewayToken {
    /// The token itself; white space around it is ignored.
    pub fn text(token: &str) -> Result<Self, TokenError> {
        Ok(Self(Arc::new(Source::Text(checked(token)?))))
    }

    /// The file that holds it, with its present `content`. It is read again now and then; as long as that does not work,
    /// the last good content holds. White space around it is ignored.
    pub fn file(path: impl Into<PathBuf>, content: &str) -> Result<Self, TokenError> {
        let read = Read {
            token: checked(content)?,
            at: Instant::now(),
        };
        Ok(Self(Arc::new(Source::File {
            path: path.into(),
            read: Mutex::new(read),
        })))
    }

    /// The value of the header `authorization`.
    pub(super) fn bearer(&self) -> String {
        match &*self.0 {
            Source::Text(token) => format!("Bearer {token}"),
            Source::File { path, read } => {
                let mut read = read.lock().unwrap_or_else(PoisonError::into_inner);
                if read.at.elapsed() >= FRESH {
                    read.again(path);
                }
                format!("Bearer {}", read.token)
            }
        }
    }
}

impl Read {
    fn again(&mut self, path: &Path) {
        self.at = Instant::now();
        let content = std::fs::read_to_string(path).map_err(|error| error.to_string());
        match content.and_then(|content| checked(&content).map_err(|error| error.to_string())) {
            Ok(token) => self.token = token,
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the token for the gateway is not read again");
            }
        }
    }
}

fn checked(text: &str) -> Result<String, TokenError> {
    let token = text.trim();
    if token.is_empty() || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(TokenError);
    }
    Ok(token.to_owned())
}

impl fmt::Debug for GatewayToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Source::Text(_) => f.write_str("GatewayToken(…)"),
            Source::File { path, .. } => write!(f, "GatewayToken({})", path.display()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_trimmed_checked_and_never_shown() {
        let token = GatewayToken::text(" s3cret\n").unwrap();
        assert_eq!(token.bearer(), "Bearer s3cret");
        assert_eq!(format!("{token:?}"), "GatewayToken(…)");
        for bad in ["", " \n", "two words", "line\nbreak", "ünïcode"] {
            let error = GatewayToken::text(bad).unwrap_err().to_string();
            assert!(bad.trim().is_empty() || !error.contains(bad.trim()), "{error}");
        }
    }

    #[test]
    fn a_file_is_read_again_and_its_last_good_content_holds() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let token = GatewayToken::file(&path, "first\n").unwrap();
        assert_eq!(token.bearer(), "Bearer first");
        assert!(!format!("{token:?}").contains("first"));
        let Source::File { read, .. } = &*token.0 else {
            panic!("a file");
        };
        let again = |content: Option<&str>| {
            if let Some(content) = content {
                std::fs::write(&path, content).unwrap();
            }
            read.lock().unwrap().again(&path);
            token.bearer()
        };
        assert_eq!(again(None), "Bearer first", "it is not there");
        assert_eq!(again(Some("second\n")), "Bearer second");
        assert_eq!(again(Some("")), "Bearer second", "it is being written");
    }
}
