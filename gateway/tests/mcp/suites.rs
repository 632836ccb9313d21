//! The official conformance suite and the Python client, run by `tests/mcp/run.sh`, which says where they are.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use crate::plant::Plant;

/// Runs a program of `tests/mcp` against a gateway of its own; its output is the report.
async fn run(program: &str, arguments: &[&str]) {
    let tests = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/mcp");
    let python = std::env::var("ASYA_MCP_PYTHON").expect("run this test by tests/mcp/run.sh");
    let plant = Plant::start().await;
    let mut command = Command::new(python);
    command
        .arg(tests.join(program))
        .args(arguments)
        .arg(plant.url())
        .stdin(Stdio::null());
    let running = tokio::task::spawn_blocking(move || command.status());
    let status = running.await.unwrap().expect("the program starts");
    assert!(status.success(), "{program} {arguments:?}: {status}");
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node and the suite from npm: tests/mcp/run.sh"]
async fn the_conformance_suite_passes_for_2025_11_25() {
    run("conformance.py", &["2025-11-25"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs Node and the suite from npm: tests/mcp/run.sh"]
async fn the_conformance_suite_passes_for_2026_07_28() {
    run("conformance.py", &["2026-07-28"]).await;
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs an MCP client from PyPI: tests/mcp/run.sh"]
async fn the_client_in_python_is_served() {
    run("client.py", &[]).await;
}
