//! The gateway: what its promises cost, beside the least that could do the same.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use asya_gateway::core::ToolBook;
use asya_gateway::life::Server;
use asya_gateway::settings::Settings;
use asya_manifest::Tools;
use asya_transport::local::LocalOptions;

use super::{Options, Outcome, Section};
use crate::stage::Stage;

pub mod calls;
pub mod reports;
pub mod streams;
pub mod submits;

/// The tool that all sections call.
const TOOL: &str = "\
tools:
  - name: work
    description: Goes through three actors.
    route: [one, two, three]
    progress: true
    timeout: 3600
";

/// The actors of [`TOOL`].
const ACTORS: [&str; 3] = ["one", "two", "three"];

/// Measures one section.
pub(super) async fn section(section: Section, options: &Options, say: &dyn Fn(&str)) -> Result<Outcome> {
    match section {
        Section::GatewaySubmits => submits::measure(options, say).await,
        Section::GatewayReports => reports::measure(options, say).await,
        Section::GatewayStreams => streams::measure(options, say).await,
        _ => calls::measure(options, say).await,
    }
}

/// The tools of [`TOOL`], written to a file below `directory` and read as a gateway reads them.
fn tools(directory: &Path) -> Result<Tools> {
    let path = directory.join("tools.yaml");
    std::fs::write(&path, TOOL)?;
    Tools::load(&path).map_err(|problems| anyhow::anyhow!("{problems}"))
}

/// A queue with the three actors, and a gateway on it with SQLite.
pub(super) struct Site {
    stage: Stage,
    pub(super) server: Server,
}

impl Site {
    pub(super) async fn start(options: &Options) -> Result<Self> {
        let stage = Stage::new(&options.directory, &LocalOptions::default())?;
        stage.declare(&ACTORS).await?;
        stage.declare(&["happy-end", "error-end"]).await?;
        let transport = Arc::new(stage.transport.clone());
        let directory = stage.path("directory");
        std::fs::create_dir_all(&directory)?;
        let tools = ToolBook::fixed(tools(&directory)?);
        let server = Server::start(Settings::embedded(&directory, 0, transport, tools)).await?;
        Ok(Self { stage, server })
    }
}

/// Calls the tool over REST; the id of its envelope.
async fn call(client: &reqwest::Client, url: &str) -> Result<String> {
    let answer = client
        .post(format!("{url}/tools/call"))
        .body(r#"{"name":"work","arguments":{"text":"to be or not to be"}}"#)
        .send()
        .await?
        .error_for_status()?
        .bytes()
        .await?;
    let answer: serde_json::Value = serde_json::from_slice(&answer)?;
    let text = answer["content"][0]["text"]
        .as_str()
        .context("no text in the answer")?;
    let reply: serde_json::Value = serde_json::from_str(text).with_context(|| text.to_owned())?;
    let id = reply["envelope_id"].as_str().with_context(|| text.to_owned())?;
    Ok(id.to_owned())
}
