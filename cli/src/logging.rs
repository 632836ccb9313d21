//! Log lines on standard error: warnings by default, JSON when `ASYA_LOG_FORMAT=json`.

use std::io::IsTerminal as _;

use tracing_subscriber::EnvFilter;

use crate::arguments::Arguments;
use crate::view::SharedScreen;

/// Starts logging for this process. Lines go through the screen, so that they do not tear its live lines.
pub(crate) fn start(arguments: &Arguments) {
    let level = match arguments.verbose {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let filter = EnvFilter::try_from_env("ASYA_LOG_LEVEL").unwrap_or_else(|_| EnvFilter::new(level));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(SharedScreen::writer);
    if std::env::var("ASYA_LOG_FORMAT").is_ok_and(|format| format == "json") {
        builder.json().flatten_event(true).init();
    } else {
        builder
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal())
            .init();
    }
}
