//! From a manifest to what a local sidecar and a local runtime are started with.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use asya_manifest::{Actor, EnvValue, GoDuration, Problem, Problems, RuntimeKind};
use asya_sidecar::{BadRetryValue, Config, Protocol, RetryPolicy, Role};

/// The variable that keeps a sidecar to the older protocol.
const PROTOCOL: &str = "ASYA_RUNTIME_PROTOCOL";

/// How the runtime of one actor is started.
#[derive(Debug, Clone)]
pub(crate) struct RuntimeSettings {
    /// Name of the actor.
    pub(crate) actor: String,
    /// Program and arguments.
    pub(crate) command: Vec<String>,
    /// Variables on top of this process's own.
    pub(crate) environment: BTreeMap<String, String>,
    /// Working directory: where the manifests and handlers are.
    pub(crate) directory: PathBuf,
}

impl RuntimeSettings {
    /// The command below a [guard](crate::guard), with pipes for input and output. Everything that it starts ends when
    /// its standard input is closed, and so with this process. It has a process group of its own, so that Ctrl-C on
    /// the terminal reaches only `asya`.
    pub(crate) fn guarded(&self) -> std::io::Result<tokio::process::Command> {
        let mut command = tokio::process::Command::new(std::env::current_exe()?);
        command
            .arg(crate::guard::ARGUMENT)
            .args(&self.command)
            .envs(&self.environment)
            .current_dir(&self.directory)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Ok(command)
    }
}

/// The runtime of `actor`; remarks about what differs from a cluster go to `notices`, mistakes to `problems`.
pub(crate) fn runtime(
    actor: &Actor,
    directory: &Path,
    runtime_file: &Path,
    python: &str,
    notices: &mut Problems,
    problems: &mut Problems,
) -> RuntimeSettings {
    let mut environment: BTreeMap<String, String> = actor
        .runtime_variables()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value))
        .collect();
    for (name, value) in actor.runtime_env() {
        match value {
            EnvValue::Literal(value) => {
                environment.insert(name, value);
            }
            EnvValue::FromCluster { reference, location } => {
                if std::env::var_os(&name).is_none() {
                    let message = format!("comes from {reference}, which a local run does not have");
                    let hint = format!("set {name} in the environment of asya if the handler needs it");
                    notices.push(Problem::new(location, name, message).hint(hint));
                }
            }
        }
    }
    check_sidecar(actor, problems);
    let directory = std::path::absolute(directory).unwrap_or_else(|_| directory.to_path_buf());
    let command = match actor.workload.runtime {
        RuntimeKind::Python => {
            let search = environment.get("PYTHONPATH").filter(|path| !path.is_empty());
            let search = search.map_or_else(String::new, |path| format!(":{path}"));
            environment.insert("PYTHONPATH".into(), format!("{}{search}", directory.display()));
            let python = executable(actor, python, notices);
            vec![python, "-u".into(), runtime_file.display().to_string()]
        }
        RuntimeKind::Native => native_command(actor, problems),
    };
    RuntimeSettings {
        actor: actor.name.clone(),
        command,
        environment,
        directory,
    }
}

/// Variables of `spec.sidecar.env` that say nothing usable: a run without retries would not be what was asked for
/// (rulings 23). What `spec.retry` says has been checked with the manifest.
fn check_sidecar(actor: &Actor, problems: &mut Problems) {
    for (index, (name, value)) in actor.sidecar_env().into_iter().enumerate() {
        let Some(value) = value.literal() else { continue };
        let read = match name.as_str() {
            PROTOCOL => protocol(value).map(|_| ()),
            _ => apply_retry(&mut RetryPolicy::default(), &name, value),
        };
        if let Err(rule) = read {
            let key = format!("spec.sidecar.env[{index}].value");
            let message = format!("{name} {rule}, not {value:?}");
            problems.push(Problem::new(actor.location(&key), key, message));
        }
    }
}

/// The manifest's Python if this machine has it, else the one that was asked for.
fn executable(actor: &Actor, fallback: &str, notices: &mut Problems) -> String {
    let wanted = actor.python_executable();
    if wanted == "python3" {
        return fallback.to_owned();
    }
    if Path::new(wanted).is_file() || (!wanted.contains('/') && on_path(wanted)) {
        return wanted.to_owned();
    }
    let location = actor.location("spec.workload.pythonExecutable");
    let message = format!("{wanted} is not on this machine; using {fallback}");
    notices.push(
        Problem::new(location, "spec.workload.pythonExecutable", message).hint("--python names another"),
    );
    fallback.to_owned()
}

fn on_path(program: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|dir| dir.join(program).is_file()))
}

/// `command` and `args` of the container; without a command the image would tell, and there is no image here.
fn native_command(actor: &Actor, problems: &mut Problems) -> Vec<String> {
    let words = |key: &str| -> Vec<String> {
        let list = actor
            .runtime_container()
            .and_then(|container| container.get(key)?.as_array());
        list.into_iter()
            .flatten()
            .filter_map(|word| word.as_str().map(str::to_owned))
            .collect()
    };
    let mut command = words("command");
    if command.is_empty() {
        let location = actor.location("spec.workload.runtime");
        let message = "a native runtime without a command cannot be run locally";
        let hint = "add `command` to the asya-runtime container: a local run has no image to take it from";
        problems.push(Problem::new(location, "spec.workload.runtime", message).hint(hint));
    }
    command.extend(words("args"));
    command
}

/// The sidecar of `actor`, with its socket in `socket_dir`.
pub(crate) fn sidecar(actor: &Actor, socket_dir: PathBuf) -> Config {
    let mut config = base(&actor.name, Role::Step, socket_dir);
    config.runtime_timeout = actor.processing_timeout();
    let written = actor
        .sidecar_variables()
        .into_iter()
        .map(|(name, value)| (name.to_owned(), value));
    let own = actor
        .sidecar_env()
        .into_iter()
        .filter_map(|(name, value)| Some((name, value.literal()?.to_owned())));
    for (name, value) in written.chain(own) {
        apply(&mut config, &name, &value);
    }
    config
}

/// A sidecar with everything at its local default.
pub(crate) fn base(actor: &str, role: Role, socket_dir: PathBuf) -> Config {
    let mut config = Config::new(actor, role);
    config.socket_dir = socket_dir;
    // All queues of a local pipeline exist before it starts: a missing one will not come.
    config.unroutable_patience = Duration::ZERO;
    config.publish_limit = 2 * config.max_message_size;
    config
}

/// Takes one variable of the sidecar into account; those that a local run has no use for are passed over.
fn apply(config: &mut Config, name: &str, value: &str) {
    let duration = || value.parse::<GoDuration>().ok().map(|duration| duration.0);
    match name {
        "ASYA_RUNTIME_TIMEOUT" => config.runtime_timeout = duration().unwrap_or(config.runtime_timeout),
        "ASYA_RUNTIME_READY_TIMEOUT" => {
            config.runtime_ready_timeout = duration().unwrap_or(config.runtime_ready_timeout);
        }
        "ASYA_MAX_DELIVERIES" => config.max_deliveries = value.parse().unwrap_or(config.max_deliveries),
        "ASYA_MAX_HOPS" => config.max_hops = value.parse().unwrap_or(config.max_hops),
        "ASYA_MAX_MESSAGE_SIZE" => config.max_message_size = value.parse().unwrap_or(config.max_message_size),
        PROTOCOL => config.protocol = protocol(value).unwrap_or(config.protocol),
        _ => {
            // What cannot be used was refused before anything started.
            let _checked = apply_retry(&mut config.retry, name, value);
        }
    }
}

/// What the sidecar and its runtime speak.
fn protocol(value: &str) -> Result<Protocol, String> {
    match value {
        "" | "auto" => Ok(Protocol::Auto),
        "v1" => Ok(Protocol::V1),
        _ => Err(String::from("must be auto or v1")),
    }
}

/// Takes one variable of the retry policy into account; passes over all others. The error is the rule for its value.
fn apply_retry(policy: &mut RetryPolicy, name: &str, value: &str) -> Result<(), String> {
    let duration = || {
        let written = value.parse::<GoDuration>().map(|duration| duration.0).ok();
        let seconds = || Duration::try_from_secs_f64(value.parse().ok()?).ok();
        written
            .or_else(seconds)
            .ok_or_else(|| String::from("must be a duration such as 500ms, 30s or 5m"))
    };
    let rule = |error: BadRetryValue| error.to_string();
    match name {
        _ if value.is_empty() => {}
        "ASYA_RETRY_MAX_ATTEMPTS" => {
            let attempts = value.trim().parse();
            policy.max_attempts =
                attempts.map_err(|_| String::from("must be a whole number of at least 1"))?;
        }
        "ASYA_RETRY_INITIAL_BACKOFF" => policy.initial_backoff = duration()?,
        "ASYA_RETRY_MAX_BACKOFF" => policy.max_backoff = duration()?,
        "ASYA_RETRY_MAX_DURATION" => policy.max_duration = Some(duration()?),
        "ASYA_RETRY_MULTIPLIER" => policy.multiplier = value.parse().map_err(rule)?,
        "ASYA_RETRY_JITTER" => policy.jitter = value.parse().map_err(rule)?,
        "ASYA_RETRY_ON" => policy.on = value.split(',').collect(),
        "ASYA_RETRY_NEVER_ON" => policy.never_on = value.split(',').collect(),
        _ => {}
    }
    Ok(())
}
