//! Names that are checked once and then trusted: [`ActorName`], and paths that fit into a socket address.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use thiserror::Error;

/// Most characters of a DNS-1123 label.
const MAX_LABEL: usize = 63;
/// Most bytes of a Unix socket path on Linux: `sun_path` has 108, the last one is NUL.
const MAX_SOCKET_PATH: usize = 107;

/// The name of an actor: a DNS-1123 label (lower-case letters, digits, `-` inside, at most 63 characters).
///
/// It holds for actors that we configure. Names inside a route are any text: the data plane forwards to actors that
/// it does not know (ruling 31).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ActorName(String);

impl ActorName {
    /// Checks the name.
    pub fn new(name: impl Into<String>) -> Result<Self, ActorNameError> {
        let name = name.into();
        let length = name.chars().count();
        if name.is_empty() {
            return Err(ActorNameError::Empty);
        }
        let wrong = |c: char| !matches!(c, 'a'..='z' | '0'..='9' | '-');
        if let Some((at, character)) = name.chars().enumerate().find(|&(_, c)| wrong(c)) {
            return Err(ActorNameError::Character {
                name,
                character,
                position: at + 1,
            });
        }
        if name.starts_with('-') || name.ends_with('-') {
            return Err(ActorNameError::Hyphen { name });
        }
        if length > MAX_LABEL {
            return Err(ActorNameError::TooLong { length });
        }
        Ok(Self(name))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ActorName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl AsRef<str> for ActorName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl FromStr for ActorName {
    type Err = ActorNameError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::new(name)
    }
}

impl From<ActorName> for String {
    fn from(name: ActorName) -> Self {
        name.0
    }
}

/// Why a text is no actor name.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ActorNameError {
    /// There is nothing.
    #[error("actor name is empty")]
    Empty,
    /// Some character does not belong into a name.
    #[error(
        "actor name `{name}` has {character:?} at character {position}: use lower-case letters, digits and `-` only"
    )]
    Character {
        /// The text.
        name: String,
        /// The first wrong character.
        character: char,
        /// Where it stands, from 1.
        position: usize,
    },
    /// It starts or ends with a hyphen.
    #[error("actor name `{name}` must start and end with a letter or digit")]
    Hyphen {
        /// The text.
        name: String,
    },
    /// It has more than 63 characters.
    #[error("actor name has {length} characters, at most {MAX_LABEL} are possible")]
    TooLong {
        /// Its length in characters.
        length: usize,
    },
}

/// A path that does not fit into a Unix socket address.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "socket path has {length} bytes, at most {MAX_SOCKET_PATH} fit into a Unix socket address; \
     choose a shorter directory: {path}"
)]
pub struct SocketPathTooLong {
    /// The path.
    pub path: String,
    /// Its length in bytes.
    pub length: usize,
}

/// Refuses a path that the kernel would refuse with a riddle.
pub fn check_socket_path(path: &Path) -> Result<(), SocketPathTooLong> {
    let length = path.as_os_str().len();
    if length <= MAX_SOCKET_PATH {
        return Ok(());
    }
    Err(SocketPathTooLong {
        path: path.display().to_string(),
        length,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_names() {
        for name in ["a", "0", "ocr-model-2", &"x".repeat(63)] {
            assert_eq!(ActorName::new(name).unwrap().as_str(), name);
        }
    }

    #[test]
    fn other_texts_are_refused_with_the_place() {
        for (name, problem) in [
            ("", "actor name is empty"),
            ("Ocr", "has 'O' at character 1"),
            ("a_b", "has '_' at character 2"),
            ("aé", "has 'é' at character 2"),
            ("a\n", r"has '\n' at character 2"),
            ("-a", "must start and end"),
            ("a-", "must start and end"),
            (&"x".repeat(64), "has 64 characters"),
        ] {
            let error = name.parse::<ActorName>().unwrap_err().to_string();
            assert!(error.contains(problem), "{error}");
        }
    }

    #[test]
    fn a_socket_path_ends_at_107_bytes() {
        assert!(check_socket_path(Path::new(&"a".repeat(107))).is_ok());
        let error = check_socket_path(Path::new(&"a".repeat(108)))
            .unwrap_err()
            .to_string();
        assert!(
            error.starts_with("socket path has 108 bytes, at most 107"),
            "{error}"
        );
    }
}
