//! Where and how it runs: places, streams, handlers that cannot start, help.

use std::path::PathBuf;
use std::time::Duration;

use asya_tests::{Actor, Finished, Pipeline, Signal, Stdout, processes_under, wait_for};
use serde_json::json;

use crate::pipelines::{GATE, gated, lines, run_to_the_gate};

fn doubling(pipeline: Pipeline) -> Pipeline {
    pipeline
        .file("steps.py", "def double(payload):\n    return payload * 2\n")
        .actor(&Actor::python("double", "steps.double"))
}

fn run_double(pipeline: &Pipeline) -> Finished {
    let ended = pipeline
        .asya("run")
        .args(["--route", "double,double", "--input", "3"])
        .run()
        .expect_code(0);
    assert_eq!(ended.payloads(), [json!(12)]);
    pipeline.assert_at_rest();
    ended
}

#[test]
fn sockets_work_wherever_the_state_directory_lies() {
    let deep: PathBuf = std::iter::repeat_n("a-directory-with-a-rather-long-name", 6).collect();
    let deep = deep.to_str().unwrap();
    assert!(deep.len() > 150);
    run_double(&doubling(Pipeline::new().with_state(deep)));
}

#[test]
fn directories_may_have_spaces_and_any_letters() {
    let pipeline = doubling(Pipeline::named("m\u{ef}x \u{1f600} 'quoted\" $HOME"));
    run_double(&pipeline);
    assert_eq!(pipeline.happy()[0].payload(), json!(12));
}

#[test]
fn a_temporary_directory_with_a_long_path_does_no_harm() {
    let pipeline = doubling(Pipeline::new());
    let temporary = pipeline.path(&"t".repeat(120));
    std::fs::create_dir(&temporary).unwrap();
    let ended = pipeline
        .asya("run")
        .args(["--input", "1"])
        .env("TMPDIR", temporary)
        .run()
        .expect_code(0);
    assert_eq!(ended.payloads(), [json!(2)]);
}

#[test]
fn a_handler_that_cannot_start_ends_the_run_with_its_own_words() {
    let pipeline = Pipeline::new()
        .file(
            "model.py",
            "class Model:\n    def __init__(self):\n        raise RuntimeError('weights are missing')\n    def run(self, payload):\n        return payload\n",
        )
        .actor(&Actor::python("model", "model.Model.run"));
    let log = pipeline.state().join("logs/model.log").display().to_string();
    let ended = pipeline
        .asya("run")
        .args(["--input", "1"])
        .run()
        .expect_code(4)
        .expect_stderr(&[
            "model",
            "RuntimeError: weights are missing",
            "raise RuntimeError",
            &log,
        ]);
    assert!(ended.took < Duration::from_secs(45), "it took {:?}", ended.took);
    assert_eq!(ended.stdout, "");
    assert_eq!(
        pipeline.queue().messages(),
        1,
        "the input waits for a better handler"
    );
    pipeline.await_no_process();

    pipeline.write(
        "model.py",
        "class Model:\n    def run(self, payload):\n        return payload\n",
    );
    pipeline.asya("up").arg("--drain").run().expect_code(0);
    assert_eq!(pipeline.happy().len(), 1);
}

#[test]
fn a_reader_that_leaves_early_does_no_harm() {
    let pipeline = doubling(Pipeline::new());
    pipeline.write("in.jsonl", lines((0..50).map(|n| json!(n))));
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let ended = pipeline
        .asya("run")
        .args(["--input", &input])
        .stdout(Stdout::CloseAfter(1))
        .run()
        .expect_code(0);
    assert_eq!(ended.envelopes().len(), 1);
    assert_eq!(pipeline.happy().len(), 50);
    pipeline.assert_at_rest();
}

#[test]
fn a_slow_reader_gets_every_result() {
    let pipeline = Pipeline::new()
        .file("big.py", "def make(payload):\n    return ['x' * 20000] * 70\n")
        .actor(&Actor::python("big", "big.make"));
    let through = pipeline.asya("run").through("sh").args([
        "-c",
        r#""$@" --input 1 --grace 100ms | (while [ ! -e "$STORED" ]; do sleep 0.1; done; sleep 2; cat)"#,
        "sh",
    ]);
    let stored = pipeline.path("stored");
    let shell = through
        .arg(asya_tests::asya())
        .arg("run")
        .arg(pipeline.path(""))
        .env("STORED", &stored)
        .spawn();
    // More than the pipe and what may wait for it, and the reader takes longer than the grace.
    wait_for("results that wait for the reader", || {
        (pipeline.happy().len() == 70).then_some(())
    });
    std::fs::write(stored, "").unwrap();
    let ended = shell.wait().expect_code(0);
    assert_eq!(ended.envelopes().len(), 70);
    pipeline.assert_at_rest();
}

#[test]
fn ctrl_c_works_although_nobody_reads_the_results() {
    let pipeline = Pipeline::new()
        .file(
            "big.py",
            "def make(payload):\n    open('made', 'a').write('.')\n    return ['x' * 20000] * 300\n",
        )
        .actor(&Actor::python("big", "big.make"));
    let run = pipeline
        .asya("run")
        .args(["--input", "1", "--grace", "1s"])
        .stdout(Stdout::Stalled)
        .spawn();
    wait_for("some results", || (pipeline.happy().len() > 20).then_some(()));
    run.signal(Signal::INT);
    run.wait().expect_code(130);
    pipeline.await_no_process();
}

#[test]
fn ctrl_c_works_although_nobody_reads_the_last_results() {
    let pipeline = Pipeline::new()
        .file("big.py", "def make(payload):\n    return ['x' * 20000] * 20\n")
        .actor(&Actor::python("big", "big.make"));
    let run = pipeline
        .asya("run")
        .args(["--input", "1"])
        .stdout(Stdout::Stalled)
        .spawn();
    // Everything is done and all runtimes have ended; only the results are not printed.
    wait_for("the end of the work", || {
        let only_asya = processes_under(pipeline.mark()).len() == 1;
        (pipeline.happy().len() == 20 && only_asya).then_some(())
    });
    run.signal(Signal::INT);
    run.wait().expect_code(130);
    pipeline.assert_at_rest();
}

#[test]
fn a_closed_standard_error_does_no_harm() {
    let pipeline = doubling(Pipeline::new());
    let through = |script: &str| {
        let shell = pipeline
            .asya("run")
            .through("sh")
            .args(["-c", script, "sh"])
            .arg(asya_tests::asya())
            .arg("run")
            .arg(pipeline.path(""))
            .env("CODE", pipeline.path("code"));
        shell.run()
    };
    let ended = through(r#""$@" --input 1 2>&-"#).expect_code(0);
    assert_eq!(ended.payloads(), [json!(2)]);
    // The exit code is right although its reason cannot be told: closed, or a pipe that nobody reads.
    through(r#""$@" --input no 2>&-"#).expect_code(2);
    through(r#"{ sleep 0.2; "$@" --input no; echo $? >"$CODE"; } 2>&1 | true"#).expect_code(0);
    let code = wait_for("the exit code", || {
        Some(pipeline.read("code")).filter(|code| code.ends_with('\n'))
    });
    assert_eq!(code, "2\n");
}

#[test]
fn without_a_terminal_progress_is_plain_lines() {
    let pipeline = gated(GATE);
    let run = run_to_the_gate(&pipeline);
    run.await_stderr("running");
    pipeline.write("open", "");
    let ended = run.wait().expect_code(0);
    assert!(!ended.stderr.contains('\u{1b}'), "no escapes: {:?}", ended.stderr);
    assert!(!ended.stderr.contains('\r'), "no overwriting: {:?}", ended.stderr);
    let progress = ended
        .stderr
        .lines()
        .find(|line| line.contains("running"))
        .unwrap();
    for word in ["finished", "failed", "open", "queued", "running"] {
        assert!(progress.contains(word), "{word} in {progress}");
    }
}

#[test]
fn every_help_has_examples_or_exit_codes() {
    let pipeline = Pipeline::new();
    let help = pipeline.bare_asya().arg("--help").run().expect_code(0).stdout;
    for text in ["run", "up", "send", "Exit codes", "130"] {
        assert!(help.contains(text), "{text} in {help}");
    }
    for command in ["run", "up", "send"] {
        let help = pipeline
            .bare_asya()
            .args([command, "--help"])
            .run()
            .expect_code(0)
            .stdout;
        for text in [
            "Examples:",
            &format!("asya {command} "),
            "exit codes",
            "--state-dir",
        ] {
            assert!(help.contains(text), "{text} in {help}");
        }
    }
    pipeline.bare_asya().arg("fly").run().expect_code(2);
    pipeline.bare_asya().run().expect_code(2);
}
