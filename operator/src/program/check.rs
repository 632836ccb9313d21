//! `--check`: all that is wrong with variables and registry, at once.

use std::fmt::Write as _;

use asya_program::{Exit, Problem, Reading, print};

use super::arguments::Output;
use super::environment::Prepared;

/// Says it on standard output: for people line by line, or as one JSON document.
pub(super) fn check(reading: &Reading<Prepared>, output: Option<Output>) -> Exit {
    let is_json = output == Some(Output::Json);
    let printed = print(&if is_json { json(reading) } else { text(reading) });
    if reading.settings.is_ok() {
        printed
    } else {
        Exit::CannotGoOn
    }
}

fn text(reading: &Reading<Prepared>) -> String {
    let mut lines = lines(reading);
    match (&reading.settings, reading.problems().len()) {
        (Ok(prepared), _) => {
            // Writing to a text cannot fail.
            let _ = writeln!(
                lines,
                "the configuration is good; transports: {}",
                prepared.registry.summary()
            );
        }
        (Err(_), 1) => lines.push_str("1 mistake\n"),
        (Err(_), count) => {
            let _ = writeln!(lines, "{count} mistakes");
        }
    }
    lines
}

/// Warnings and mistakes, one line each.
pub(super) fn lines(reading: &Reading<Prepared>) -> String {
    let mut lines = String::new();
    for (kind, problems) in [
        ("warning", reading.warnings.as_slice()),
        ("error", reading.problems()),
    ] {
        for problem in problems {
            let _ = writeln!(lines, "{kind}: {problem}");
        }
    }
    lines
}

fn json(reading: &Reading<Prepared>) -> String {
    let listed = |problems: &[Problem]| -> Vec<_> {
        let entry = |it: &Problem| serde_json::json!({"variable": it.variable, "message": it.text()});
        problems.iter().map(entry).collect()
    };
    let report = serde_json::json!({
        "good": reading.settings.is_ok(),
        "warnings": listed(&reading.warnings),
        "variables": listed(reading.problems()),
    });
    format!("{report:#}\n")
}
