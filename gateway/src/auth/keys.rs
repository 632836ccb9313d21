//! Static bearer keys: a file with the name, the hash and the rights of each one.
//!
//! One key per line, in columns that spaces part: its name, `sha256:` and the hash of the key, then what it may do:
//! `roles=client,sidecar,operator` (default `client`), `tenant=NAME`, `expires=RFC3339`. A `#` begins a comment.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use chrono::{DateTime, Utc};

use super::caller::{Caller, Role};
use super::digest::TokenDigest;

/// Pause between two looks whether the file has changed.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// The keys of one file, read again when it changes.
#[derive(Debug)]
pub struct Keys {
    path: PathBuf,
    present: ArcSwap<Present>,
}

#[derive(Debug)]
struct Present {
    text_digest: TokenDigest,
    keys: Vec<Key>,
}

/// One key.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Key {
    digest: TokenDigest,
    caller: Caller,
    expires: Option<DateTime<Utc>>,
}

/// What is wrong with a key file: every mistake with its line.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct KeyFileError {
    /// The file.
    pub path: PathBuf,
    /// Line (from 1; 0 for the whole file) and what is wrong there.
    pub problems: Vec<(usize, String)>,
}

impl fmt::Display for KeyFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (line, problem)) in self.problems.iter().enumerate() {
            let separator = if index == 0 { "" } else { "\n" };
            write!(f, "{separator}{}", self.path.display())?;
            match line {
                0 => write!(f, ": {problem}")?,
                line => write!(f, ":{line}: {problem}")?,
            }
        }
        Ok(())
    }
}

impl Keys {
    /// Reads the file.
    pub fn load(path: impl Into<PathBuf>) -> Result<Arc<Self>, KeyFileError> {
        let path = path.into();
        let text = read(&path)?;
        let keys = parse(&path, &text)?;
        Ok(Arc::new(Self {
            path,
            present: ArcSwap::from_pointee(Present {
                text_digest: TokenDigest::of(&text),
                keys,
            }),
        }))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.present.load().keys.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether a key gives this role.
    pub fn grants(&self, role: Role) -> bool {
        self.present.load().keys.iter().any(|key| key.caller.is(role))
    }

    /// Who has this token; `None` if nobody has, `Err` if it was somebody's until lately.
    pub(super) fn find(&self, token: &TokenDigest, now: DateTime<Utc>) -> Result<Option<Caller>, Expired> {
        let present = self.present.load();
        let mut found = None;
        // All of them, so that the time tells nothing about where a key stands.
        for key in &present.keys {
            if key.digest.matches(token) {
                found = Some(key);
            }
        }
        match found {
            Some(key) if key.expires.is_some_and(|expires| expires <= now) => Err(Expired),
            Some(key) => Ok(Some(key.caller.clone())),
            None => Ok(None),
        }
    }

    /// Reads the file again if it has changed, and says whether it had. A broken version leaves the keys as they were.
    pub fn look(&self) -> Result<bool, KeyFileError> {
        let text = read(&self.path)?;
        let text_digest = TokenDigest::of(&text);
        if self.present.load().text_digest == text_digest {
            return Ok(false);
        }
        let keys = parse(&self.path, &text)?;
        self.present.store(Arc::new(Present { text_digest, keys }));
        Ok(true)
    }

    /// [Looks](Self::look) every two seconds, for ever; what is wrong is logged once.
    pub async fn follow(self: Arc<Self>) {
        let mut told = None;
        loop {
            tokio::time::sleep(LOOK_INTERVAL).await;
            match self.look() {
                Ok(changed) => {
                    if changed {
                        tracing::info!(path = %self.path.display(), keys = self.len(), "read the keys again");
                    }
                    told = None;
                }
                Err(error) => {
                    if told.as_ref() != Some(&error) {
                        tracing::error!("the keys stay as they were: {error}");
                    }
                    told = Some(error);
                }
            }
        }
    }
}

/// The key was valid until lately.
pub(super) struct Expired;

fn read(path: &Path) -> Result<String, KeyFileError> {
    std::fs::read_to_string(path).map_err(|error| KeyFileError {
        path: path.to_owned(),
        problems: vec![(0, format!("cannot be read: {error}"))],
    })
}

/// Reads all lines, and tells of all mistakes at once.
fn parse(path: &Path, text: &str) -> Result<Vec<Key>, KeyFileError> {
    let mut keys: Vec<Key> = Vec::new();
    let mut problems = Vec::new();
    for (line, content) in (1..).zip(text.lines()) {
        let content = content.split('#').next().unwrap_or_default().trim();
        if content.is_empty() {
            continue;
        }
        match parse_line(content) {
            Ok(key) if keys.iter().any(|other| other.caller.name == key.caller.name) => {
                let name = key.caller.name.unwrap_or_default();
                problems.push((line, format!("there is a key {name:?} above already")));
            }
            Ok(key) if keys.iter().any(|other| other.digest == key.digest) => {
                problems.push((line, "the same key stands above under another name".to_owned()));
            }
            Ok(key) => keys.push(key),
            Err(problem) => problems.push((line, problem)),
        }
    }
    if problems.is_empty() {
        Ok(keys)
    } else {
        Err(KeyFileError {
            path: path.to_owned(),
            problems,
        })
    }
}

fn parse_line(content: &str) -> Result<Key, String> {
    let mut columns = content.split_whitespace();
    let (Some(name), Some(digest)) = (columns.next(), columns.next()) else {
        return Err("expected NAME sha256:HASH [roles=…] [tenant=…] [expires=…]".to_owned());
    };
    let digest = TokenDigest::parse(digest).ok_or_else(|| {
        // It may be the key itself, so it is not shown.
        format!("the second column of {name:?} is no hash; expected sha256: and 64 hexadecimal digits (make one with: asya-gateway key {name})")
    })?;
    let (mut roles, mut tenant, mut expires) = (None, None, None);
    for column in columns {
        match column.split_once('=') {
            Some(("roles", value)) if roles.is_none() => roles = Some(parse_roles(value)?),
            Some(("tenant", value)) if tenant.is_none() && !value.is_empty() => {
                tenant = Some(value.to_owned());
            }
            Some(("expires", value)) if expires.is_none() => {
                let time = DateTime::parse_from_rfc3339(value).map_err(|error| {
                    format!("{column:?} is no time ({error}); write it like expires=2030-01-31T00:00:00Z")
                })?;
                expires = Some(time.to_utc());
            }
            _ => {
                return Err(format!(
                    "{column:?} is not understood; expected each of roles=…, tenant=… and expires=… at most once"
                ));
            }
        }
    }
    Ok(Key {
        digest,
        caller: Caller {
            tenant,
            name: Some(name.to_owned()),
            roles: roles.unwrap_or_else(|| [Role::Client].into()),
        },
        expires,
    })
}

fn parse_roles(value: &str) -> Result<std::collections::BTreeSet<Role>, String> {
    value
        .split(',')
        .map(|word| match word {
            "client" => Ok(Role::Client),
            "sidecar" => Ok(Role::Sidecar),
            "operator" => Ok(Role::Operator),
            other => Err(format!(
                "there is no role {other:?}; expected client, sidecar or operator"
            )),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn digest(token: &str) -> String {
        TokenDigest::of(token).to_string()
    }

    #[test]
    fn a_file_gives_callers_their_roles_and_tenants() {
        let text = format!(
            "# who  what\nci {}\n\nacme {} tenant=acme roles=client expires=2030-01-01T00:00:00Z # until then\npods {} roles=sidecar,operator\n",
            digest("one"),
            digest("two"),
            digest("three")
        );
        let keys = Keys {
            path: "keys".into(),
            present: ArcSwap::from_pointee(Present {
                text_digest: TokenDigest::of(&text),
                keys: parse(Path::new("keys"), &text).expect("a good file"),
            }),
        };
        let find = |token: &str, at: &str| {
            let now = DateTime::parse_from_rfc3339(at).expect("a time").to_utc();
            keys.find(&TokenDigest::of(token), now)
        };
        let now = "2026-01-01T00:00:00Z";
        let Ok(Some(one)) = find("one", now) else {
            panic!("one is known")
        };
        assert_eq!(
            (one.name.as_deref(), one.tenant, one.roles),
            (Some("ci"), None, [Role::Client].into())
        );
        let Ok(Some(two)) = find("two", now) else {
            panic!("two is known")
        };
        assert_eq!(two.tenant.as_deref(), Some("acme"));
        assert!(find("two", "2030-01-01T00:00:00Z").is_err(), "expired");
        let Ok(Some(three)) = find("three", now) else {
            panic!("three is known")
        };
        assert!(three.is(Role::Sidecar) && three.is(Role::Operator) && !three.is(Role::Client));
        assert!(matches!(find("four", now), Ok(None)));
        assert!(keys.grants(Role::Operator) && keys.len() == 3);
    }

    #[test]
    fn every_mistake_is_told_with_its_line_and_without_the_secret() {
        let text = format!(
            "a\nb my-plain-secret\nc {0} roles=admin\nd {0} tenant=x tenant=y\ne {0} expires=soon\nf {0}\nf {1}\ng {0}",
            digest("x"),
            digest("y")
        );
        let error = parse(Path::new("keys.txt"), &text).expect_err("a bad file");
        let lines: Vec<_> = error.problems.iter().map(|(line, _)| *line).collect();
        assert_eq!(lines, [1, 2, 3, 4, 5, 7, 8]);
        let told = error.to_string();
        assert!(told.contains("keys.txt:3: there is no role \"admin\""), "{told}");
        assert!(!told.contains("my-plain-secret"), "{told}");
    }
}
