//! Log lines on standard output: one record, one line (contract data-plane §12).
//!
//! Three forms: `json` for machines, `text` as the original writes it, `pretty` for a terminal.

use std::fmt;
use std::io::IsTerminal as _;

use chrono::{SecondsFormat, Utc};
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::{Event, Subscriber};
use tracing_appender::non_blocking::WorkerGuard;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::layer::SubscriberExt as _;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::util::SubscriberInitExt as _;

use crate::environment::{Expected, Reader};
use crate::variable::Variable;

/// Least important lines that are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// What helps to follow single messages.
    Debug,
    /// What happens now and then.
    Info,
    /// What is odd.
    Warn,
    /// What is wrong.
    Error,
}

/// What lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object for each line.
    Json,
    /// `key=value`, as the original writes it.
    Text,
    /// For people.
    Pretty,
}

/// How log lines look. It is known even when nothing else is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LogSettings {
    /// Least important lines that are written.
    pub level: Level,
    /// `None`: whatever suits the place where they go.
    pub format: Option<Format>,
}

impl LogSettings {
    /// Reads them from the two variables of a program.
    pub fn read<G>(
        reader: &mut Reader<'_>,
        level: &'static Variable<G>,
        format: &'static Variable<G>,
    ) -> Self {
        Self {
            level: reader.get(level, read_level),
            format: reader.optional(format, read_format),
        }
    }
}

fn read_level(value: &str) -> Result<Level, Expected> {
    match value.to_ascii_uppercase().as_str() {
        "DEBUG" => Ok(Level::Debug),
        "INFO" => Ok(Level::Info),
        "WARN" | "WARNING" => Ok(Level::Warn),
        "ERROR" => Ok(Level::Error),
        _ => Err(Expected::new("DEBUG, INFO, WARN or ERROR")),
    }
}

fn read_format(value: &str) -> Result<Format, Expected> {
    match value.to_ascii_lowercase().as_str() {
        "json" => Ok(Format::Json),
        "text" => Ok(Format::Text),
        "pretty" => Ok(Format::Pretty),
        _ => Err(Expected::new("json, text or pretty")),
    }
}

impl From<Level> for LevelFilter {
    fn from(level: Level) -> Self {
        match level {
            Level::Debug => Self::DEBUG,
            Level::Info => Self::INFO,
            Level::Warn => Self::WARN,
            Level::Error => Self::ERROR,
        }
    }
}

/// Starts logging on standard output. `label`, a key and a value, stands on every line of `json` and `text`.
///
/// Lines are written by a thread of their own, and dropped when nobody takes them: a full pipe must not stop the
/// program. The value writes what is left when it is dropped.
pub fn start(settings: LogSettings, label: Option<(&'static str, String)>) -> WorkerGuard {
    let level = LevelFilter::from(settings.level);
    // Of libraries only what is wrong; the client of the broker logs bodies of messages, and what it reports is
    // reported by the transport as well. The library of MCP warns of every mistake of a client, in the client's words,
    // and has errors for every one that goes early. That of Kubernetes has an error for every request that fails, which
    // names neither object nor server: whoever asked says that.
    let filter = Targets::new()
        .with_target("asya", level)
        .with_target("lapin", LevelFilter::OFF)
        .with_target("rmcp", LevelFilter::OFF)
        .with_target("kube_client", LevelFilter::OFF)
        .with_default(level.min(LevelFilter::WARN));
    let is_terminal = std::io::stdout().is_terminal();
    let suitable = if is_terminal { Format::Pretty } else { Format::Json };
    let registry = tracing_subscriber::registry().with(filter);
    let (writer, guard) = tracing_appender::non_blocking(std::io::stdout());
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    match settings.format.unwrap_or(suitable) {
        Format::Pretty => registry
            .with(lines.with_target(false).with_ansi(is_terminal))
            .init(),
        Format::Json => registry
            .with(lines.event_format(Lines { write: json, label }))
            .init(),
        Format::Text => registry
            .with(lines.event_format(Lines { write: text, label }))
            .init(),
    }
    guard
}

/// Records as lines of `key=value` or JSON.
struct Lines {
    write: fn(&Record, &mut Writer<'_>) -> fmt::Result,
    label: Option<(&'static str, String)>,
}

/// One record, with time, level and message first.
#[derive(Default)]
struct Record {
    time: String,
    level: &'static str,
    message: String,
    fields: Vec<(&'static str, Value)>,
}

enum Value {
    Text(String),
    /// Numbers and booleans.
    Bare(String),
}

impl<S, N> FormatEvent<S, N> for Lines
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut record = Record {
            time: Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true),
            level: event.metadata().level().as_str(),
            ..Record::default()
        };
        event.record(&mut record);
        if let Some((label, value)) = &self.label
            && !record.fields.iter().any(|(key, _)| key == label)
        {
            record.fields.insert(0, (label, Value::Text(value.clone())));
        }
        (self.write)(&record, &mut writer)?;
        writer.write_char('\n')
    }
}

impl Record {
    fn add(&mut self, field: &Field, value: Value) {
        match (field.name(), value) {
            ("message", Value::Text(text) | Value::Bare(text)) => self.message = text,
            (name, value) => self.fields.push((name, value)),
        }
    }
}

impl Visit for Record {
    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, Value::Text(format!("{value:?}")));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, Value::Text(value.to_owned()));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.add(field, Value::Bare(value.to_string()));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.add(field, Value::Bare(value.to_string()));
    }
}

fn json(record: &Record, writer: &mut Writer<'_>) -> fmt::Result {
    let text = |text: &str| serde_json::Value::from(text).to_string();
    write!(
        writer,
        r#"{{"time":{},"level":{},"msg":{}"#,
        text(&record.time),
        text(record.level),
        text(&record.message)
    )?;
    for (key, value) in &record.fields {
        match value {
            Value::Text(value) => write!(writer, ",{}:{}", text(key), text(value))?,
            Value::Bare(value) => write!(writer, ",{}:{value}", text(key))?,
        }
    }
    writer.write_char('}')
}

fn text(record: &Record, writer: &mut Writer<'_>) -> fmt::Result {
    write!(
        writer,
        "time={} level={} msg={:?}",
        record.time, record.level, record.message
    )?;
    for (key, value) in &record.fields {
        match value {
            Value::Text(value) if needs_quotes(value) => write!(writer, " {key}={value:?}")?,
            Value::Text(value) | Value::Bare(value) => write!(writer, " {key}={value}")?,
        }
    }
    Ok(())
}

fn needs_quotes(value: &str) -> bool {
    value.is_empty()
        || value.contains(|c: char| c.is_whitespace() || c.is_control() || matches!(c, '"' | '='))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            time: "2026-01-02T03:04:05.678Z".into(),
            level: "INFO",
            message: "a \"word\"\nor two".into(),
            fields: vec![
                ("actor", Value::Text("worker".into())),
                ("count", Value::Bare("7".into())),
                ("error", Value::Text("it = bad".into())),
            ],
        }
    }

    fn written(write: fn(&Record, &mut Writer<'_>) -> fmt::Result) -> String {
        let mut line = String::new();
        write(&record(), &mut Writer::new(&mut line)).expect("writes into memory");
        line
    }

    #[test]
    fn text_is_what_the_original_writes() {
        assert_eq!(
            written(text),
            r#"time=2026-01-02T03:04:05.678Z level=INFO msg="a \"word\"\nor two" actor=worker count=7 error="it = bad""#
        );
    }

    #[test]
    fn json_is_json_on_one_line() {
        let line = written(json);
        assert!(!line.contains('\n'));
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        assert_eq!(value["msg"], "a \"word\"\nor two");
        assert_eq!(value["count"], 7);
        assert_eq!(value["actor"], "worker");
    }
}
