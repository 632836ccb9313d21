//! The entry points of the old command line: `asya` under other names.

use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The words that the program's name stands for: a link `asya-mcp` is `asya mcp`, and `asya-mcp-forward` is
/// `asya mcp forward`.
pub(crate) fn alias(words: impl IntoIterator<Item = OsString>) -> Vec<OsString> {
    let mut words = words.into_iter();
    let program = words.next().unwrap_or_else(|| "asya".into());
    let name = Path::new(&program).file_name().and_then(OsStr::to_str);
    let inserted: &[&str] = match name {
        Some("asya-mcp") => &["mcp"],
        Some("asya-mcp-forward") => &["mcp", "forward"],
        _ => &[],
    };
    let program = std::iter::once(program);
    program
        .chain(inserted.iter().map(OsString::from))
        .chain(words)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_stands_for_its_words() {
        for (given, expected) in [
            ("asya mcp list", "asya mcp list"),
            ("/usr/bin/asya-mcp list", "/usr/bin/asya-mcp mcp list"),
            ("asya-mcp-forward -n x", "asya-mcp-forward mcp forward -n x"),
            ("other", "other"),
        ] {
            let words = |line: &str| line.split(' ').map(OsString::from).collect::<Vec<_>>();
            assert_eq!(alias(words(given)), words(expected));
        }
    }
}
