//! Log lines on standard error: errors and warnings about the queue by default, JSON when `ASYA_LOG_FORMAT=json`.

use std::io::IsTerminal as _;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::{Event, Level, Metadata};
use tracing_subscriber::layer::{Context, Filter, SubscriberExt as _};
use tracing_subscriber::util::SubscriberInitExt as _;
use tracing_subscriber::{EnvFilter, Layer as _, Registry, filter::FilterExt as _};

use crate::arguments::Arguments;
use crate::view::LogLines;

/// Least time between two warnings, unless the log is asked for: a full disk causes thousands in a second.
const WARNING_INTERVAL: Duration = Duration::from_mins(1);

/// Starts logging for this process. Lines go through the thread that writes to standard error, so that they tear no
/// live lines.
pub(crate) fn start(arguments: &Arguments) {
    let (level, interval) = match arguments.verbose {
        // A queue that cannot be written, as on a full disk, makes everything wait: that must be seen.
        0 => ("error,asya_transport=warn", WARNING_INTERVAL),
        1 => ("info", Duration::ZERO),
        _ => ("debug", Duration::ZERO),
    };
    let (filter, interval) = match EnvFilter::try_from_env("ASYA_LOG_LEVEL") {
        Ok(filter) => (filter, Duration::ZERO),
        Err(_) => (EnvFilter::new(level), interval),
    };
    let filter = filter.and(Sparingly {
        interval,
        last: Mutex::new(None),
    });
    let lines = tracing_subscriber::fmt::layer().with_writer(LogLines::writer);
    let registry = tracing_subscriber::registry();
    if std::env::var("ASYA_LOG_FORMAT").is_ok_and(|format| format == "json") {
        let lines = lines.json().flatten_event(true);
        registry.with(lines.with_filter(filter)).init();
    } else {
        let lines = lines
            .with_target(false)
            .with_ansi(std::io::stderr().is_terminal());
        registry.with(lines.with_filter(filter)).init();
    }
}

/// Lets a warning through only when the last one was long ago.
struct Sparingly {
    interval: Duration,
    last: Mutex<Option<Instant>>,
}

impl Filter<Registry> for Sparingly {
    fn enabled(&self, _: &Metadata<'_>, _: &Context<'_, Registry>) -> bool {
        true
    }

    fn event_enabled(&self, event: &Event<'_>, _: &Context<'_, Registry>) -> bool {
        if *event.metadata().level() != Level::WARN {
            return true;
        }
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let is_due = last.is_none_or(|last| last.elapsed() >= self.interval);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }
}
