//! `--check`: all that is wrong with variables, keys and tool files, at once.

use std::fmt::Write as _;

use asya_program::{Exit, print};

use super::environment::Told;

/// Says it on standard output: for people line by line, or as one JSON document.
pub(super) fn check(told: &Told, as_json: bool) -> Exit {
    let printed = print(&if as_json { json(told) } else { text(told) });
    if is_good(told) { printed } else { Exit::CannotGoOn }
}

fn is_good(told: &Told) -> bool {
    told.reading.settings.is_ok()
}

fn text(told: &Told) -> String {
    let mut lines = String::new();
    let mut add = |kind: &str, text: &dyn std::fmt::Display| {
        // Writing to a text cannot fail.
        let _ = writeln!(lines, "{kind}: {text}");
    };
    for warning in &told.reading.warnings {
        add("warning", warning);
    }
    for problem in told.reading.problems() {
        add("error", problem);
    }
    for problem in &told.tools {
        add("error", problem);
    }
    let count = told.reading.problems().len() + told.tools.len();
    match count {
        0 => lines.push_str("the configuration is good\n"),
        1 => lines.push_str("1 mistake\n"),
        count => {
            let _ = writeln!(lines, "{count} mistakes");
        }
    }
    lines
}

fn json(told: &Told) -> String {
    let about_variables = |problems: &[asya_program::Problem]| -> Vec<_> {
        let entry = |problem: &asya_program::Problem| serde_json::json!({"variable": problem.variable, "message": problem.text()});
        problems.iter().map(entry).collect()
    };
    let report = serde_json::json!({
        "good": is_good(told),
        "warnings": about_variables(&told.reading.warnings),
        "variables": about_variables(told.reading.problems()),
        "tools": told.tools,
    });
    format!("{report:#}\n")
}
