//! What a person asked to be sent where, resolved against the directory.

use std::borrow::Cow;
use std::io::Read as _;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use asya_manifest::{Directory, Tool};
use asya_runtime_protocol::{Envelope, RawJson, Route, message_id};
use asya_transport::{Outgoing, QueueName};
use bytes::Bytes;
use chrono::{SecondsFormat, Utc};

use crate::arguments::Job;
use crate::exit::UsageError;

/// Inputs and where they go.
#[derive(Debug)]
pub(crate) struct Order {
    route: Vec<String>,
    timeout: Option<Duration>,
    inputs: Vec<RawJson>,
}

/// One input, ready to be published.
#[derive(Debug)]
pub(crate) struct Input {
    /// Id of its envelope.
    pub(crate) id: String,
    /// The message.
    pub(crate) message: Outgoing,
}

impl Order {
    /// One envelope with a fresh id per input, with the deadline of the tool counted from now.
    pub(crate) fn envelopes(&self) -> Vec<Input> {
        self.inputs.iter().map(|input| self.envelope(input)).collect()
    }

    fn envelope(&self, input: &RawJson) -> Input {
        let id = uuid::Uuid::new_v4().to_string();
        let deadline = self
            .timeout
            .map(|timeout| (Utc::now() + timeout).to_rfc3339_opts(SecondsFormat::Millis, true));
        let envelope = Envelope {
            id: id.clone(),
            route: Route::new(self.route.iter().map(String::as_str)),
            payload: Some(input.clone()),
            deadline,
            ..Envelope::default()
        };
        let message = Outgoing {
            queue: QueueName::for_actor(&self.route[0]),
            message_id: message_id(&id, 0, 1, 0),
            body: envelope.to_bytes(),
            delay: Duration::ZERO,
        };
        Input { id, message }
    }

    /// The actors that the envelopes visit, unless handlers change their routes.
    pub(crate) fn route(&self) -> &[String] {
        &self.route
    }
}

/// Resolves what was asked for: `--route`, or `--tool`, or the only tool, or the only actor.
pub(crate) fn resolve(directory: &Directory, job: &Job) -> anyhow::Result<Order> {
    let inputs = job.input.as_deref().map(read).transpose()?;
    if !job.route.is_empty() {
        check_route(directory, &job.route)?;
        let inputs =
            inputs.ok_or_else(|| UsageError("--route needs --input (JSON text, @FILE or -)".into()))?;
        return Ok(Order {
            route: job.route.clone(),
            timeout: None,
            inputs,
        });
    }
    if let Some(tool) = tool(directory, job.tool.as_deref())? {
        let inputs = match inputs {
            None => vec![arguments(tool, "{}")?],
            Some(inputs) => inputs
                .iter()
                .map(|input| arguments(tool, input.as_str()))
                .collect::<Result<_, _>>()?,
        };
        check_route(directory, tool.route())?;
        return Ok(Order {
            route: tool.route().to_vec(),
            timeout: tool.timeout,
            inputs,
        });
    }
    let steps: Vec<_> = directory
        .actors
        .iter()
        .filter(|actor| !actor.is_end_actor())
        .collect();
    match (steps.as_slice(), inputs) {
        ([only], Some(inputs)) => Ok(Order {
            route: vec![only.name.clone()],
            timeout: None,
            inputs,
        }),
        ([only], None) => Err(UsageError(format!(
            "actor {} needs --input (JSON text, @FILE or -)",
            only.name
        ))
        .into()),
        (several, _) => {
            let names: Vec<_> = several.iter().map(|actor| actor.name.as_str()).collect();
            Err(UsageError(format!(
                "say where to: --route {} (any of them, in order)",
                names.join(",")
            ))
            .into())
        }
    }
}

fn tool<'a>(directory: &'a Directory, name: Option<&str>) -> anyhow::Result<Option<&'a Tool>> {
    let tools: &[Tool] = directory.tools.as_ref().map_or(&[], |tools| &tools.tools);
    let names = || {
        tools
            .iter()
            .map(|tool| tool.name.as_str())
            .collect::<Vec<_>>()
            .join(", ")
    };
    match (name, tools) {
        (Some(name), _) => match tools.iter().find(|tool| tool.name == name) {
            Some(tool) => Ok(Some(tool)),
            None if tools.is_empty() => Err(UsageError(format!(
                "there is no tool {name}: the directory has no asya.yaml with tools"
            ))
            .into()),
            None => Err(UsageError(format!("there is no tool {name}; asya.yaml has: {}", names())).into()),
        },
        (None, []) => Ok(None),
        (None, [only]) => Ok(Some(only)),
        (None, _) => Err(UsageError(format!(
            "asya.yaml has several tools; choose one with --tool: {}",
            names()
        ))
        .into()),
    }
}

fn arguments(tool: &Tool, json: &str) -> anyhow::Result<RawJson> {
    match tool.arguments(json) {
        Ok(Cow::Borrowed(text)) => Ok(RawJson::parse(Bytes::copy_from_slice(text.as_bytes()))?),
        Ok(Cow::Owned(text)) => Ok(RawJson::parse(text)?),
        Err(problems) => Err(UsageError(format!("input for tool {}: {problems}", tool.name)).into()),
    }
}

fn check_route(directory: &Directory, route: &[String]) -> anyhow::Result<()> {
    let unknown: Vec<_> = route
        .iter()
        .filter(|name| {
            directory
                .actor(name)
                .is_none_or(asya_manifest::Actor::is_end_actor)
        })
        .collect();
    if unknown.is_empty() {
        return Ok(());
    }
    let known: Vec<_> = directory
        .actors
        .iter()
        .filter(|actor| !actor.is_end_actor())
        .map(|actor| actor.name.as_str())
        .collect();
    let unknown: Vec<_> = unknown.into_iter().map(String::as_str).collect();
    Err(UsageError(format!(
        "the route names no actor of this directory: {} (it has: {})",
        unknown.join(", "),
        known.join(", ")
    ))
    .into())
}

/// Reads the inputs that `argument` stands for. Numbers, key order and escapes stay as they are written.
fn read(argument: &str) -> anyhow::Result<Vec<RawJson>> {
    let (text, source) = if argument == "-" {
        let mut text = Vec::new();
        std::io::stdin()
            .lock()
            .read_to_end(&mut text)
            .context("failed to read the input from standard input")?;
        (text, String::from("standard input"))
    } else if let Some(path) = argument.strip_prefix('@') {
        let text = std::fs::read(path)
            .map_err(|error| UsageError(format!("--input: cannot read {path}: {error}")))?;
        (text, path.to_owned())
    } else {
        (argument.as_bytes().to_vec(), String::from("--input"))
    };
    let is_lines = argument
        .strip_prefix('@')
        .is_some_and(|path| Path::new(path).extension() == Some("jsonl".as_ref()));
    let parse = |text: Bytes, place: &str| {
        RawJson::parse(text).map_err(|error| UsageError(format!("{place} is not JSON: {error}")))
    };
    if !is_lines {
        return Ok(vec![parse(Bytes::from(text), &source)?]);
    }
    let text = Bytes::from(text);
    let mut inputs = Vec::new();
    for (number, line) in text.split(|byte| *byte == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            inputs.push(parse(
                text.slice_ref(line),
                &format!("{source} line {}", number + 1),
            )?);
        }
    }
    if inputs.is_empty() {
        return Err(UsageError(format!("{source} has no input: every line is empty")).into());
    }
    Ok(inputs)
}
