//! Everything that can be wrong is found before anything starts: manifests, tool file, and whether each handler can
//! be imported.

use std::path::Path;
use std::process::Stdio;

use asya_manifest::{Actor, Directory, Inspection, Problem, RuntimeKind};
use futures::stream::{self, StreamExt as _};
use serde_json::Value;

use super::settings::{self, RuntimeSettings};
use super::state::State;

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

/// Asks the runtime itself whether it can import the handler.
async fn import_problem(actor: &Actor, settings: &RuntimeSettings) -> Option<Problem> {
    let (program, arguments) = settings.command.split_first()?;
    let mut command = tokio::process::Command::new(program);
    command
        .args(arguments)
        .arg("--check")
        .envs(&settings.environment)
        .current_dir(&settings.directory)
        .stdin(Stdio::null())
        .stderr(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    let output = match tokio::time::timeout(IMPORT_TIMEOUT, command.output()).await {
        Ok(Ok(output)) => output,
        Ok(Err(error)) => {
            let key = "spec.workload.pythonExecutable";
            let problem = Problem::new(
                actor.location(key),
                key,
                format!("cannot start {program}: {error}"),
            );
            return Some(problem.hint("install Python 3.7 or newer, or name one with --python"));
        }
        Err(_) => return None,
    };
    if output.status.success() {
        return None;
    }
    let key = actor.runtime_env_key("ASYA_HANDLER").unwrap_or_default();
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
    let message = text("error").unwrap_or_else(|| {
        let said = String::from_utf8_lossy(&output.stderr);
        format!(
            "the handler cannot be loaded: {}",
            said.lines().last().unwrap_or("the runtime said nothing")
        )
    });
    let problem = Problem::new(actor.location(&key), key, message);
    Some(match text("hint") {
        Some(hint) => problem.hint(hint),
        None => problem,
    })
}
