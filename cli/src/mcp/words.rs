//! What is said on standard error, and what is printed on standard output.

use std::io::{ErrorKind, Write as _};

use super::exit::McpError;

/// Says a line. A reader that has gone away is no reason to stop: the answer goes elsewhere.
pub(super) fn note(line: &str) {
    let _unread = writeln!(std::io::stderr(), "{line}");
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
