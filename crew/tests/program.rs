//! `asya-crew` as a process beside a sidecar's client.
#![cfg(feature = "program")]
#![expect(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use asya_objects::{Durability, End, Results};
use asya_runtime_protocol::{READY_FILE_NAME, RuntimeClient, SOCKET_NAME, wait_ready};
use asya_tests::Process;
use asya_tests::Signal;

/// No test waits longer for anything.
const LIMIT: Duration = Duration::from_mins(1);

fn crew(variables: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_asya-crew"));
    command
        .env_clear()
        .envs(variables.iter().copied())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    command
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Asks the process to end and gives its exit code and all that it wrote.
fn ended(child: Child) -> (Option<i32>, String) {
    let process = Process {
        pid: child.id().try_into().unwrap(),
        command: String::new(),
    };
    process.signal(Signal::TERM);
    let output = child.wait_with_output().unwrap();
    (output.status.code(), said(&output))
}

#[tokio::test]
async fn it_stores_results_and_serves_on_after_a_signal_until_the_sidecar_has_drained() {
    let dir = tempfile::tempdir().unwrap();
    let (sockets, results) = (dir.path().join("socket"), dir.path().join("results"));
    let child = crew(&[
        ("ASYA_HANDLER", "handlers.end_handlers.happy_end_handler"),
        ("ASYA_HANDLER_MODE", "envelope"),
        ("ASYA_ENABLE_VALIDATION", "false"),
        ("ASYA_SOCKET_DIR", sockets.to_str().unwrap()),
        ("ASYA_RESULTS_URL", results.to_str().unwrap()),
    ])
    .spawn()
    .unwrap();
    let socket = sockets.join(SOCKET_NAME);
    wait_ready(&sockets, &socket, LIMIT).await.unwrap();
    let client = RuntimeClient::new(&socket, 1 << 20);
    let envelope = |id: &str| {
        format!(r#"{{"id":"{id}","route":{{"actors":["one"],"current":1}},"payload":{{"n":1.0}}}}"#)
    };
    let answer = client.call(envelope("e-1").into(), LIMIT).await.unwrap();
    assert!(answer.starts_with(b"[{"), "{answer:?}");

    // Asked to end, it still takes what the sidecar has in hand, and goes when the sidecar says so.
    let process = Process {
        pid: child.id().try_into().unwrap(),
        command: String::new(),
    };
    process.signal(Signal::TERM);
    client.call(envelope("e-2").into(), LIMIT).await.unwrap();
    std::fs::write(sockets.join("sidecar-drained"), "").unwrap();
    let output = tokio::task::spawn_blocking(move || child.wait_with_output().unwrap());
    let output = tokio::time::timeout(LIMIT, output).await.unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert!(!sockets.join(READY_FILE_NAME).exists());

    let results = Results::open_directory(&results, Durability::Process).unwrap();
    for id in ["e-1", "e-2"] {
        let found = results.find(id).await.unwrap();
        assert_eq!(found.len(), 1, "{id}");
        assert_eq!(found[0].end, End::Happy);
        let stored = results.read(&found[0]).await.unwrap();
        assert!(
            String::from_utf8_lossy(&stored).contains("1.0"),
            "numbers as they were written"
        );
    }
}

#[test]
fn every_mistake_is_told_at_once_and_ends_with_1() {
    let mistaken = crew(&[
        ("ASYA_HANDLER", "handlers.mine"),
        ("ASYA_HANDLER_MODE", "payload"),
        ("ASYA_CONCURRENCY", "0"),
        ("ASYA_S3_SECRET_KEY", "hush"),
    ]);
    for arguments in [&["--check"][..], &[]] {
        let mut command = Command::new(mistaken.get_program());
        command.env_clear().args(arguments);
        let variables = mistaken
            .get_envs()
            .filter_map(|(name, value)| Some((name, value?)));
        let output = command.envs(variables).output().unwrap();
        let said = said(&output);
        assert_eq!(output.status.code(), Some(1), "{said}");
        for name in ["ASYA_HANDLER:", "ASYA_HANDLER_MODE:", "ASYA_CONCURRENCY:"] {
            assert!(said.contains(name), "{name}: {said}");
        }
        assert!(!said.contains("hush"), "{said}");
    }
}

#[test]
fn a_place_that_cannot_be_opened_ends_it_and_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "").unwrap();
    let output = crew(&[
        ("ASYA_HANDLER", "error-end"),
        ("ASYA_SOCKET_DIR", dir.path().to_str().unwrap()),
        ("ASYA_RESULTS_URL", file.to_str().unwrap()),
    ])
    .output()
    .unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(
        said(&output).contains(file.to_str().unwrap()),
        "{}",
        said(&output)
    );
}

#[test]
fn without_a_place_it_says_that_results_are_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let sockets = dir.path().join("socket");
    let child = crew(&[
        ("ASYA_HANDLER", "error-end"),
        ("ASYA_SOCKET_DIR", sockets.to_str().unwrap()),
        ("ASYA_SHUTDOWN_GRACE", "0"),
    ])
    .spawn()
    .unwrap();
    asya_tests::wait_for("the ready file", || {
        sockets.join(READY_FILE_NAME).exists().then_some(())
    });
    let (code, said) = ended(child);
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("results are not kept"), "{said}");
}

#[test]
fn the_tables_of_the_page_are_those_of_the_program() {
    const PAGE: &str = include_str!("../../docs/crew.md");
    let output = crew(&[]).arg("--markdown").output().unwrap();
    let markdown = String::from_utf8(output.stdout).unwrap();
    for part in ["variables", "exit-codes"] {
        let begin = format!("<!-- begin {part} -->");
        let of = |text: &str| {
            let begin = text.find(&begin).unwrap();
            let length = text[begin..].find("<!-- end ").unwrap();
            text[begin..begin + length].to_owned()
        };
        assert_eq!(
            of(PAGE),
            of(&markdown),
            "run `asya-crew --markdown` and put this part into docs/crew.md"
        );
    }
}
