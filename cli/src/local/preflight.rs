//! Everything that can be wrong is found before anything starts: manifests, tool file, and whether each handler can
//! be imported.

use std::path::Path;
use std::process::Output;

use asya_manifest::{Actor, Directory, Inspection, Problem, RuntimeKind};
use futures::stream::{self, StreamExt as _};
use serde_json::Value;

use super::settings::{self, RuntimeSettings};
use super::state::State;
use crate::guard;

/// Imports checked at the same time.
const CHECKS: usize = 4;

/// Longest time for the import of a handler; a model that takes longer to import is not a mistake, so passing it only
/// skips the check.
const IMPORT_TIMEOUT: std::time::Duration = std::time::Duration::from_mins(1);

/// A directory of actors, checked, with what each needs to start.
#[derive(Debug)]
pub(crate) struct Project {
    pub(crate) directory: Directory,
    /// In the order of the manifests; end actors are built in and not among them.
    pub(crate) actors: Vec<(Actor, RuntimeSettings)>,
    /// Remarks for the person, one line each.
    pub(crate) notices: Vec<String>,
}

/// Loads and checks `dir`.
///
/// # Errors
/// All problems at once, as [`Problems`](asya_manifest::Problems).
pub(crate) async fn load(dir: &Path, state: &State, python: &str) -> anyhow::Result<Project> {
    let Inspection {
        directory,
        mut problems,
    } = Directory::inspect(dir);
    let runtime_file = state.python_runtime()?;
    let mut found = directory.notices.clone();
    let mut actors = Vec::new();
    let mut notices = transport_notice(&directory).into_iter().collect::<Vec<_>>();
    for actor in &directory.actors {
        if actor.is_end_actor() {
            notices.push(format!(
                "{} in {} is built into a local run; its manifest is not used",
                actor.name, actor.source
            ));
            continue;
        }
        let settings = settings::runtime(actor, dir, &runtime_file, python, &mut found, &mut problems);
        actors.push((actor.clone(), settings));
    }
    problems.extend(import_problems(&actors).await);
    if !problems.is_empty() {
        state.forget_if_unused();
        return Err(problems.into());
    }
    notices.extend(found.iter().map(ToString::to_string));
    Ok(Project {
        directory,
        actors,
        notices,
    })
}

/// Manifests may name any transport of a cluster; a local run has its own.
fn transport_notice(directory: &Directory) -> Option<String> {
    let mut named: Vec<&str> = directory
        .actors
        .iter()
        .map(|actor| actor.transport.as_str())
        .collect();
    named.sort_unstable();
    named.dedup();
    named.retain(|name| *name != "local");
    (!named.is_empty()).then(|| {
        format!(
            "the embedded queue stands in for transport {} of the manifests",
            named.join(", ")
        )
    })
}

async fn import_problems(actors: &[(Actor, RuntimeSettings)]) -> Vec<Problem> {
    let python = actors
        .iter()
        .filter(|(actor, _)| actor.workload.runtime == RuntimeKind::Python);
    let checks: Vec<_> = python
        .map(|(actor, settings)| import_problem(actor, settings))
        .collect();
    stream::iter(checks)
        .buffered(CHECKS)
        .filter_map(async |problem| problem)
        .collect()
        .await
}

/// Below a guard like the runtime itself: what the import starts must not outlive the check, nor `asya` being killed.
async fn check(settings: &RuntimeSettings) -> std::io::Result<Output> {
    let mut child = settings.guarded()?.arg("--check").spawn()?;
    // Waiting closes the pipe that is still in the child, and the guard would kill.
    let _open = child.stdin.take();
    child.wait_with_output().await
}

fn python_problem(actor: &Actor, reason: &str) -> Problem {
    let key = "spec.workload.pythonExecutable";
    Problem::new(
        actor.location(key),
        key,
        format!("Python cannot be started: {reason}"),
    )
    .hint("install Python 3.7 or newer, or name one with --python")
}

fn last_line(output: &[u8]) -> String {
    let said = String::from_utf8_lossy(output);
    said.lines()
        .last()
        .unwrap_or("the runtime said nothing")
        .to_owned()
}

/// The variables of the runtime that a message names, in order.
fn variables(message: &str) -> impl Iterator<Item = &str> {
    let words = message.split(|c: char| !(c.is_ascii_uppercase() || c == '_'));
    words.filter(|word| word.starts_with("ASYA_"))
}

/// Asks the runtime itself whether it can import the handler.
async fn import_problem(actor: &Actor, settings: &RuntimeSettings) -> Option<Problem> {
    let output = match tokio::time::timeout(IMPORT_TIMEOUT, check(settings)).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => return Some(python_problem(actor, &error.to_string())),
        Err(_) => return None,
    };
    if output.status.success() {
        return None;
    }
    if output.status.code() == Some(guard::NOT_STARTED.into()) {
        return Some(python_problem(actor, &last_line(&output.stderr)));
    }
    let answer = output.stdout.split(|byte| *byte == b'\n').rev().find_map(|line| {
        serde_json::from_slice::<Value>(line)
            .ok()
            .filter(Value::is_object)
    });
    let text = |name: &str| {
        answer
            .as_ref()
            .and_then(|answer| Some(answer.get(name)?.as_str()?.to_owned()))
    };
    let message = text("error")
        .unwrap_or_else(|| format!("the handler cannot be loaded: {}", last_line(&output.stderr)));
    let about = variables(&message).find_map(|variable| actor.runtime_setting_key(variable));
    let key = about
        .or_else(|| actor.runtime_env_key("ASYA_HANDLER"))
        .unwrap_or_default();
    let problem = Problem::new(actor.location(&key), key, message);
    Some(match text("hint") {
        Some(hint) => problem.hint(hint),
        None => problem,
    })
}
