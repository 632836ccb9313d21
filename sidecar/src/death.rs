//! What is said about a worker process that ended with a message in its hands.

use asya_runtime_protocol::{RawJson, RawObject};

/// See the module documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Death {
    /// Whether the kernel ended it for want of memory.
    pub(crate) oom: bool,
    /// In words, on one line.
    pub(crate) message: String,
    /// The `details` of the error envelope.
    pub(crate) details: RawJson,
}

/// How a process ended, as far as anybody knows.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct End<'a> {
    pub(crate) signal: Option<i32>,
    pub(crate) signal_name: Option<&'a str>,
    pub(crate) exit_code: Option<i32>,
    pub(crate) oom: bool,
}

impl Death {
    pub(crate) fn of(end: &End<'_>) -> Self {
        let message = in_words(end);
        let number = |number: Option<i32>| {
            number
                .and_then(|number| RawJson::from_value(&number).ok())
                .unwrap_or_else(RawJson::null)
        };
        let mut details = RawObject::new();
        details.insert("message", &RawJson::from_text(&message));
        details.insert("type", &RawJson::from_text(exception(end.oom)));
        details.insert("traceback", &RawJson::from_text(""));
        details.insert("signal", &number(end.signal));
        details.insert("exit_code", &number(end.exit_code));
        Self {
            oom: end.oom,
            message,
            details: details.into_raw(),
        }
    }

    /// The error code of it.
    pub(crate) const fn code(&self) -> &'static str {
        if self.oom { "oom" } else { "worker_died" }
    }

    /// The exception name that retry rules know it by.
    pub(crate) const fn exception(&self) -> &'static str {
        exception(self.oom)
    }
}

const fn exception(oom: bool) -> &'static str {
    if oom { "OutOfMemory" } else { "WorkerDied" }
}

fn in_words(end: &End<'_>) -> String {
    if end.oom {
        return "The worker process was killed because the memory was used up".to_owned();
    }
    match (end.signal, end.signal_name, end.exit_code) {
        (Some(signal), Some(name), _) => format!("The worker process was ended by signal {signal} ({name})"),
        (Some(signal), None, _) => format!("The worker process was ended by signal {signal}"),
        (None, _, Some(code)) => format!("The worker process exited with code {code}"),
        (None, _, None) => "The worker process has gone away".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_death_is_told_with_its_signal_or_its_exit_code() {
        let killed = Death::of(&End {
            signal: Some(11),
            signal_name: Some("SIGSEGV"),
            ..End::default()
        });
        assert_eq!(killed.code(), "worker_died");
        assert_eq!(
            killed.details.as_str(),
            r#"{"message":"The worker process was ended by signal 11 (SIGSEGV)","type":"WorkerDied","traceback":"","signal":11,"exit_code":null}"#
        );
        let exited = Death::of(&End {
            exit_code: Some(3),
            ..End::default()
        });
        assert_eq!(exited.message, "The worker process exited with code 3");
        let starved = Death::of(&End {
            signal: Some(9),
            oom: true,
            ..End::default()
        });
        assert_eq!((starved.code(), starved.exception()), ("oom", "OutOfMemory"));
    }
}
