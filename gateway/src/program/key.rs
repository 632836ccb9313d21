//! `asya-gateway key`: a new key for `ASYA_AUTH=keys`.

use std::fmt::Write as _;

use asya_program::{Exit, print};
use clap::{Args, ValueEnum};

use crate::auth::{TokenDigest, new_token};

/// What the key is for.
#[derive(Debug, Args)]
pub struct Wish {
    /// Whom it is for; stands in logs
    #[arg(value_parser = word)]
    name: String,
    /// What it may do
    #[arg(long = "role", value_name = "ROLE", value_enum, default_value = "client")]
    roles: Vec<KeyRole>,
    /// Whose envelopes it sees; without a tenant those of all
    #[arg(long, value_parser = word)]
    tenant: Option<String>,
    /// When it ends, such as 2027-01-31T00:00:00Z
    #[arg(long, value_name = "TIME", value_parser = instant)]
    expires: Option<String>,
}

/// What a key may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KeyRole {
    /// Calls tools and looks at envelopes
    Client,
    /// Reports about envelopes
    Sidecar,
    /// Reports about actors
    Operator,
}

impl KeyRole {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Client => "client",
            Self::Sidecar => "sidecar",
            Self::Operator => "operator",
        }
    }
}

/// Columns of the file are parted by spaces.
fn word(text: &str) -> Result<String, String> {
    let bad = |c: char| c.is_whitespace() || c.is_control() || c == '#';
    if text.is_empty() || text.contains(bad) {
        return Err("expected a word without white space and without #".into());
    }
    Ok(text.to_owned())
}

fn instant(text: &str) -> Result<String, String> {
    chrono::DateTime::parse_from_rfc3339(text)
        .map(|_| text.to_owned())
        .map_err(|_| "expected a time such as 2027-01-31T00:00:00Z".into())
}

/// Prints a new key and the line for the file.
pub(super) fn make(wish: &Wish) -> Exit {
    let token = new_token();
    print(&text(wish, &token))
}

fn text(wish: &Wish, token: &str) -> String {
    let roles: Vec<_> = wish.roles.iter().map(|role| role.as_str()).collect();
    let mut line = format!(
        "{} {} roles={}",
        wish.name,
        TokenDigest::of(token),
        roles.join(",")
    );
    for (key, value) in [("tenant", &wish.tenant), ("expires", &wish.expires)] {
        if let Some(value) = value {
            // Writing to a text cannot fail.
            let _ = write!(line, " {key}={value}");
        }
    }
    format!(
        "# For the caller, as `Authorization: Bearer …`; it is kept nowhere:\n{token}\n\
         # A line for the file that ASYA_AUTH_KEYS_FILE names:\n{line}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::{Keys, Role};

    #[test]
    fn the_line_is_one_that_the_file_takes() {
        let wish = Wish {
            name: "ci".into(),
            roles: vec![KeyRole::Client, KeyRole::Sidecar],
            tenant: Some("a".into()),
            expires: Some("2099-01-01T00:00:00Z".into()),
        };
        let text = text(&wish, "asya_secret-secret-secret");
        let file = tempfile::NamedTempFile::new().unwrap();
        let line = text.lines().last().unwrap();
        assert!(!line.contains("secret"), "{line}");
        std::fs::write(file.path(), line).unwrap();
        let keys = Keys::load(file.path()).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(keys.grants(Role::Sidecar) && !keys.grants(Role::Operator));
    }

    #[test]
    fn names_that_would_break_the_file_are_refused() {
        for name in ["", "a b", "a#b", "a\nb"] {
            assert!(word(name).is_err(), "{name:?}");
        }
    }
}
