//! Short names for long contents.

use sha2::{Digest as _, Sha256};

/// First 16 hexadecimal digits of the SHA-256.
pub(super) fn short(content: &[u8]) -> String {
    Sha256::digest(content)
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect()
}
