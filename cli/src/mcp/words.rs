//! What is said on standard error, and what is printed on standard output.

use std::io::{ErrorKind, Write as _};

use super::exit::McpError;

/// Says a line. A reader that has gone away is no reason to stop: the answer goes elsewhere.
pub(super) fn note(line: &str) {
    let _unread = writeln!(std::io::stderr(), "{}", plain(line));
}

/// A text without what a terminal would take for a command: it may come from anybody.
pub(super) fn plain(text: &str) -> String {
    let replaced = |c: char| {
        if c.is_control() && !matches!(c, '\n' | '\t') {
            '\u{fffd}'
        } else {
            c
        }
    };
    text.chars().map(replaced).collect()
}

/// Prints text on standard output. Whoever has closed it has seen enough (`| head`).
pub(super) fn print(text: &str) -> Result<(), McpError> {
    let mut output = std::io::stdout().lock();
    match output.write_all(text.as_bytes()).and_then(|()| output.flush()) {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(McpError::Local(format!(
            "cannot write to standard output: {error}"
        ))),
        _ => Ok(()),
    }
}

/// JSON with two spaces a level; numbers and strings stay as they are.
pub(super) fn indented(json: &str) -> String {
    let mut text = String::from_utf8_lossy(&asya_objects::indent(json.as_bytes())).into_owned();
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_told_what_to_do() {
        assert_eq!(
            plain("a\tb\nc\u{1b}[31mé\u{9b}\u{7}\r"),
            "a\tb\nc\u{fffd}[31mé\u{fffd}\u{fffd}\u{fffd}"
        );
    }
}
