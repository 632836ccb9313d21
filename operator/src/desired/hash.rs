//! Short names for long contents.

use std::fmt::Write as _;

use sha2::{Digest as _, Sha256};

/// First 16 hexadecimal digits of the SHA-256.
pub(super) fn short(content: &[u8]) -> String {
    let mut text = String::new();
    for byte in Sha256::digest(content).iter().take(8) {
        // A text can always be written to.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
