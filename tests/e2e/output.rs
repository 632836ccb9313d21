//! What handlers print and what `asya` says, when nobody reads it and when there is much of it.

use std::time::Duration;

use asya_tests::{Actor, Asya, Pipeline, Signal, wait_for};
use serde_json::json;

use crate::pipelines::lines;

/// Prints more than all pipes and queues hold, then waits for ever.
fn chatterbox() -> Pipeline {
    Pipeline::new()
        .file(
            "talk.py",
            r#"
import time
def run(payload):
    open("called", "w").close()
    for n in range(100000):
        print("line", n, "of very many lines that nobody will ever read")
    open("printed", "w").close()
    while True:
        time.sleep(3600)
"#,
        )
        .actor(&Actor::python("talk", "talk.run"))
}

/// `asya run` with standard error in a pipe whose only other end is open and never read.
fn run_unread(pipeline: &Pipeline, options: &[&str]) -> Asya {
    let fifo = pipeline.path("stderr");
    let asya = pipeline.bare_asya().through("sh").args([
        "-c",
        r#"mkfifo "$FIFO" && exec 3<>"$FIFO" && exec "$@" 2>"$FIFO""#,
        "sh",
    ]);
    asya.env("FIFO", &fifo)
        .arg(asya_tests::asya())
        .arg("run")
        .arg(pipeline.path(""))
        .args(["--input", "1"])
        .args(options.iter().copied())
}

#[test]
fn a_timeout_ends_a_run_whose_standard_error_nobody_reads() {
    let pipeline = chatterbox();
    let ended = run_unread(&pipeline, &["--timeout", "3s", "--grace", "1s"])
        .run()
        .expect_code(3);
    assert!(ended.took < Duration::from_secs(20), "it took {:?}", ended.took);
    assert!(pipeline.path("called").exists());
    assert!(!pipeline.path("printed").exists(), "the handler was held back");
    pipeline.await_no_process();
    assert_eq!(pipeline.queue().messages(), 1, "the input is still queued");
}

#[test]
fn signals_end_a_run_whose_standard_error_nobody_reads() {
    for signal in [Signal::INT, Signal::TERM] {
        let pipeline = chatterbox();
        let run = run_unread(&pipeline, &["--grace", "100ms"]).spawn();
        wait_for("the call", || pipeline.path("called").exists().then_some(()));
        run.signal(signal);
        let ended = run.wait().expect_code(130);
        assert!(ended.took < Duration::from_secs(20), "it took {:?}", ended.took);
        pipeline.await_no_process();
    }
}

#[test]
fn every_line_of_a_handler_is_shown_and_logged_in_order() {
    let pipeline = Pipeline::new()
        .file(
            "talk.py",
            "def run(payload):\n    for n in range(20000):\n        print('line', n)\n    return payload\n",
        )
        .actor(&Actor::python("talk", "talk.run"));
    let ended = pipeline.asya("run").args(["--input", "1"]).run().expect_code(0);
    let wanted: Vec<String> = (0..20000).map(|n| format!("line {n}")).collect();
    let shown: Vec<&str> = ended
        .stderr
        .lines()
        .filter_map(|line| line.strip_prefix("[talk] "))
        .collect();
    assert_eq!(shown, wanted, "shown");
    let log = std::fs::read_to_string(pipeline.state().join("logs/talk.log")).unwrap();
    let logged: Vec<&str> = log.lines().filter(|line| line.starts_with("line ")).collect();
    assert_eq!(logged, wanted, "logged");
}

#[test]
fn output_without_line_ends_is_cut_and_all_of_it_logged() {
    let pipeline = Pipeline::new()
        .file(
            "dots.py",
            "def run(payload):\n    print('.' * 200000, end='')\n    return payload\n",
        )
        .actor(&Actor::python("dots", "dots.run"));
    pipeline
        .asya("run")
        .args(["--input", "1"])
        .run()
        .expect_code(0)
        .expect_stderr(&["… (the line goes on)\n"]);
    let log = std::fs::read_to_string(pipeline.state().join("logs/dots.log")).unwrap();
    let dots = log.lines().filter(|line| line.starts_with('.'));
    let dots: usize = dots
        .map(|line| line.split(' ').next().unwrap_or_default().len())
        .sum();
    assert_eq!(dots, 200_000);
}

#[test]
fn a_handler_that_asks_its_runtime_to_end_each_time_is_not_taken_for_one_that_cannot_start() {
    let pipeline = Pipeline::new()
        .file(
            "ends.py",
            "import os\ndef run(payload):\n    os.kill(os.getpid(), 15)\n    return payload\n",
        )
        .actor(&Actor::python("ends", "ends.run"));
    pipeline.write("in.jsonl", lines((0..6).map(|n| json!(n))));
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let ended = pipeline.asya("run").args(["--input", &input]).run();
    assert!(matches!(ended.code, Some(0 | 1)), "{}", ended.stderr);
    assert_eq!(ended.envelopes().len(), 6);
    pipeline.assert_at_rest();
}
