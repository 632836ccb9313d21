//! `asya mcp`: the tools of a gateway from the command line (contract gateway §10).
//!
//! What it is: a client over HTTP, of our gateway and of the original's. What it is not: it starts nothing but, for
//! `forward`, a `kubectl`. The old entry points `asya-mcp` and `asya-mcp-forward` are links to `asya`, see [`alias`].

mod alias;
mod bar;
mod client;
mod exit;
mod following;
mod forward;
mod listing;
mod options;
mod values;
mod words;

use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

pub(crate) use alias::alias;
pub(crate) use exit::{McpError, McpExit};
pub(crate) use options::{EXIT_CODES, McpOptions};

use bar::Bar;
use client::Client;
use following::{Event, Seen, follow};
use options::{CallOptions, McpCommand};
use words::{indented, note, print};

/// Where a gateway is looked for when nobody says where; `asya up` starts one there.
pub(crate) const DEFAULT_PORT: u16 = 8089;

/// What is said when a call is followed and nobody answers any more.
const LOST: &str = "[!] The gateway does not answer, trying again; the envelope goes on";

/// Carries out a command. Ctrl-C ends it; what it asked the gateway for goes on.
pub(crate) async fn run(options: McpOptions) -> Result<McpExit, McpError> {
    let settings = Settings::new(&options);
    if let McpCommand::Forward(options) = options.command {
        // Which ends its own process when asked to end.
        return forward::run(options).await;
    }
    let carried_out = carry_out(options.command, &settings);
    tokio::select! {
        ended = carried_out => ended,
        _ = tokio::signal::ctrl_c() => Ok(McpExit::Interrupted),
    }
}

/// What holds for all commands.
struct Settings {
    url: String,
    no_stream: bool,
    debug: bool,
}

impl Settings {
    /// Options first, then the environment; the second names are those of the old README (contract gateway §10.1).
    fn new(options: &McpOptions) -> Self {
        let default = || format!("http://localhost:{DEFAULT_PORT}");
        Self {
            url: options
                .url
                .clone()
                .or_else(|| variable(&["ASYA_CLI_MCP_URL", "ASYA_CLI_URL"]))
                .unwrap_or_else(default),
            no_stream: options.no_stream || switched_on(&["ASYA_CLI_NO_STREAM"]),
            debug: options.debug || switched_on(&["ASYA_CLI_MCP_DEBUG", "ASYA_CLI_DEBUG"]),
        }
    }

    fn client(&self) -> Result<Client, McpError> {
        Client::new(&self.url, variable(&["ASYA_CLI_MCP_TOKEN"]).as_deref())
    }
}

fn variable(names: &[&str]) -> Option<String> {
    let set = names.iter().find_map(|name| std::env::var(name).ok());
    set.filter(|value| !value.is_empty())
}

fn switched_on(names: &[&str]) -> bool {
    let is_on = |value: String| matches!(value.to_ascii_lowercase().as_str(), "1" | "true" | "yes");
    variable(names).is_some_and(is_on)
}

async fn carry_out(command: McpCommand, settings: &Settings) -> Result<McpExit, McpError> {
    match command {
        McpCommand::List => list(&settings.client()?).await,
        McpCommand::Show { tool } => show(&settings.client()?, &tool).await,
        McpCommand::Call(options) => call(options, settings).await,
        McpCommand::Status { id } => {
            print(&indented(&settings.client()?.envelope(&id).await?))?;
            Ok(McpExit::Success)
        }
        McpCommand::Stream { id, json } => stream(&settings.client()?, &id, json).await,
        McpCommand::Cancel { id, reason } => {
            let answer = settings.client()?.cancel(&id, reason.as_deref()).await?;
            print(&indented(&answer))?;
            Ok(McpExit::Success)
        }
        McpCommand::Forward(_) => unreachable!("carried out without a client"),
    }
}

async fn list(client: &Client) -> Result<McpExit, McpError> {
    let tools = client.tools().await?;
    if tools.is_empty() {
        note("[!] No tools available");
        return Ok(McpExit::Success);
    }
    let yaml = listing::list(&tools).map_err(|error| McpError::Local(error.to_string()))?;
    print(&format!("{yaml}\n"))?;
    Ok(McpExit::Success)
}

async fn show(client: &Client, name: &str) -> Result<McpExit, McpError> {
    let tools = client.tools().await?;
    let tool = find(&tools, name).ok_or_else(|| McpError::NoTool(name.to_owned()))?;
    print(&listing::show(tool).map_err(|error| McpError::Local(error.to_string()))?)?;
    Ok(McpExit::Success)
}

fn find<'a>(tools: &'a [Value], name: &str) -> Option<&'a Value> {
    tools
        .iter()
        .find(|tool| tool.get("name").and_then(Value::as_str) == Some(name))
}

/// The part of a `CallToolResult` that matters here.
#[derive(Deserialize)]
struct CallResult {
    #[serde(default)]
    content: Vec<Content>,
    #[serde(rename = "isError", default)]
    is_error: bool,
}

#[derive(Deserialize)]
struct Content {
    #[serde(default)]
    text: String,
}

/// The part of a gateway's reply that matters here.
#[derive(Deserialize)]
struct Handle {
    envelope_id: String,
}

async fn call(options: CallOptions, settings: &Settings) -> Result<McpExit, McpError> {
    let client = settings.client()?;
    let arguments = arguments(&client, &options).await?;
    if settings.debug {
        note(&format!("[.] Calling tool: {}", options.tool));
        note(&format!("[.] Arguments: {arguments}"));
    }
    let answer = client
        .call(&options.tool, &arguments, options.idempotency_key.as_deref())
        .await?;
    let result: CallResult =
        serde_json::from_str(&answer).map_err(|_| McpError::NotUnderstood(answer.clone()))?;
    let forgiving = |exit: McpExit| if options.exit_zero { exit.forgiven() } else { exit };
    if result.is_error {
        for content in &result.content {
            note(&format!("[-] {}", content.text));
        }
        print(&indented(&answer))?;
        return Ok(forgiving(McpExit::ToolError));
    }
    let handle = result
        .content
        .first()
        .map(|content| serde_json::from_str::<Handle>(&content.text));
    let (false, Some(Ok(handle))) = (settings.no_stream, handle) else {
        // Also what a tool answers that makes no envelope.
        print(&indented(&answer))?;
        return Ok(McpExit::Success);
    };
    note(&format!("[.] Envelope ID: {}", handle.envelope_id));
    let mut bar = Bar::new();
    let followed = follow(&client, &handle.envelope_id, |seen| match seen {
        Seen::Event(_, text) if settings.debug => note(&one_line(text)),
        Seen::Event(event, _) => bar.show(event),
        Seen::Lost => bar.note(LOST),
    })
    .await;
    bar.end();
    let last = followed?;
    print(&indented(&last.text))?;
    Ok(forgiving(if last.succeeded {
        McpExit::Success
    } else {
        McpExit::EnvelopeFailed
    }))
}

/// The arguments of a call as JSON text.
async fn arguments(client: &Client, options: &CallOptions) -> Result<String, McpError> {
    let words = &options.arguments;
    let refused = |error: values::ArgumentError| McpError::Arguments(error.to_string(), words.join(" "));
    match words.as_slice() {
        [] => Ok("{}".to_owned()),
        [text] if text.starts_with('@') => {
            let path = Path::new(&text[1..]);
            let text = std::fs::read_to_string(path)
                .map_err(|error| McpError::Local(format!("cannot read {}: {error}", path.display())))?;
            values::from_json(&text).map_err(refused)
        }
        [text] if !text.starts_with("--") => values::from_json(text).map_err(refused),
        flags => {
            // What the parameters are decides how words are read; a gateway that does not tell must not keep a call
            // from being made.
            let tools = client.tools().await.unwrap_or_default();
            let schema = find(&tools, &options.tool).and_then(|tool| tool.pointer("/inputSchema/properties"));
            values::from_flags(flags, schema.and_then(Value::as_object)).map_err(refused)
        }
    }
}

async fn stream(client: &Client, id: &str, json: bool) -> Result<McpExit, McpError> {
    if !json {
        note(&format!("[.] Streaming updates for envelope {id}"));
        note(&"-".repeat(60));
    }
    let mut unwritten = Ok(());
    let last = follow(client, id, |seen| match seen {
        Seen::Event(_, text) if json => {
            let printed = print(&format!("{}\n", one_line(text)));
            unwritten = std::mem::replace(&mut unwritten, Ok(())).and(printed);
        }
        Seen::Event(event, text) => note(&format!("[.] {}: {}", label(event), indented(text).trim_end())),
        Seen::Lost => note(LOST),
    })
    .await?;
    unwritten?;
    Ok(if last.succeeded {
        McpExit::Success
    } else {
        McpExit::EnvelopeFailed
    })
}

fn label(event: &Event) -> &str {
    event.envelope_state.as_deref().unwrap_or(&event.status)
}

/// JSON on one line: line breaks in it are white space.
fn one_line(text: &str) -> String {
    text.replace(['\n', '\r'], " ")
}
