//! What became of reading the environment, and how a program says it.

use std::collections::BTreeMap;

use crate::environment::Problem;
use crate::exit::Exit;
use crate::logging::LogSettings;

/// What became of reading the environment; `S` is the program's settings.
#[derive(Debug)]
pub struct Reading<S> {
    /// The settings, unless there are problems.
    pub settings: Result<S, Vec<Problem>>,
    /// What is odd, and what holds instead.
    pub warnings: Vec<Problem>,
    /// How to say it.
    pub log: LogSettings,
    /// The variables that are set, with values that may be shown.
    pub set: BTreeMap<&'static str, String>,
}

impl<S> Reading<S> {
    /// The variables that are set, as JSON and without secrets.
    pub fn shown(&self) -> String {
        let shown = serde_json::json!(self.set);
        format!("{shown:#}\n")
    }

    /// Why there are no settings; nothing when there are.
    pub fn problems(&self) -> &[Problem] {
        self.settings.as_ref().err().map_or(&[], Vec::as_slice)
    }

    /// Says what is wrong; all of it, whatever the outcome.
    pub fn check(&self) -> Exit {
        self.warn();
        match &self.settings {
            Ok(_) => {
                tracing::info!("the configuration is good");
                Exit::Success
            }
            Err(problems) => {
                complain(problems);
                Exit::CannotGoOn
            }
        }
    }

    /// Says what is odd or wrong, and with which configuration the program of this `version` starts. `None` if it
    /// cannot.
    pub fn start(self, version: &str) -> Option<S> {
        let set: Vec<_> = self
            .set
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let settings = self.settings()?;
        tracing::info!(
            version,
            configuration = set.join(" "),
            "starting; what is not named here is at its default"
        );
        Some(settings)
    }

    /// Says what is odd or wrong. `None` if there are no settings.
    pub fn settings(self) -> Option<S> {
        self.warn();
        self.settings.map_err(|problems| complain(&problems)).ok()
    }

    fn warn(&self) {
        for warning in &self.warnings {
            tracing::warn!("{warning}");
        }
    }
}

fn complain(problems: &[Problem]) {
    for problem in problems {
        tracing::error!("{problem}");
    }
}
