//! Bearer tokens as we keep them: only their SHA-256, compared in constant time.
//!
//! A plain hash is enough because our tokens are random: there is nothing to guess, as there would be with passwords.

use std::fmt;

use rand::RngExt as _;
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

/// What every token that we make begins with, so that scanners for leaked secrets can find it.
const PREFIX: &str = "asya_";

/// The shortest token that is taken from a configuration, in bytes: shorter ones can be tried out.
pub const SHORTEST_TOKEN: usize = 16;

/// The hash of a token.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Hashes a token.
    pub fn of(token: &str) -> Self {
        Self(Sha256::digest(token.as_bytes()).into())
    }

    /// Reads `sha256:` and 64 hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let digits = text.strip_prefix("sha256:")?;
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return None;
        }
        let mut bytes = [0; 32];
        for (byte, at) in bytes.iter_mut().zip((0..64).step_by(2)) {
            *byte = u8::from_str_radix(digits.get(at..at + 2)?, 16).ok()?;
        }
        Some(Self(bytes))
    }

    /// Whether both are hashes of the same token; takes the same time whatever they hold.
    pub fn matches(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Display for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Not even the hash belongs into logs.
impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("sha256:***")
    }
}

/// Makes a token of 256 random bits.
pub fn new_token() -> String {
    let bytes: [u8; 32] = rand::rng().random();
    // A digest writes 32 bytes as digits; that these are no hash does not matter.
    let digits = TokenDigest(bytes).to_string();
    format!("{PREFIX}{}", digits.trim_start_matches("sha256:"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_is_written_and_read_and_hidden() {
        let digest = TokenDigest::of("secret");
        let text = digest.to_string();
        assert_eq!(
            text,
            "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
        );
        assert!(TokenDigest::parse(&text).expect("its own text").matches(&digest));
        assert!(!TokenDigest::of("Secret").matches(&digest));
        assert_eq!(format!("{digest:?}"), "sha256:***");
    }

    #[test]
    fn what_is_no_digest_is_refused() {
        for text in [
            "",
            "sha256:",
            "md5:00",
            &format!("sha256:{}", "g".repeat(64)),
            &format!("sha256:{}é", "0".repeat(62)),
        ] {
            assert!(TokenDigest::parse(text).is_none(), "{text}");
        }
        // A sign is no digit.
        assert!(TokenDigest::parse(&format!("sha256:{}", "+f".repeat(32))).is_none());
    }

    #[test]
    fn tokens_are_long_and_never_the_same() {
        let token = new_token();
        assert_eq!(token.len(), PREFIX.len() + 64);
        assert_ne!(token, new_token());
    }
}
