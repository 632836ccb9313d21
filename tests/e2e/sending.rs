//! `asya send` and `asya up`: work that is queued by one process and done by another.

use std::collections::BTreeSet;
use std::time::Duration;

use asya_tests::{Actor, Pipeline, Signal, Stdout, wait_for};
use serde_json::json;

use crate::pipelines::lines;

fn doubling() -> Pipeline {
    Pipeline::new()
        .file("steps.py", "def double(payload):\n    return payload * 2\n")
        .actor(&Actor::python("double", "steps.double"))
}

/// The ids in `happy-asya`.
fn stored_ids(pipeline: &Pipeline) -> BTreeSet<String> {
    pipeline.happy().into_iter().map(|stored| stored.id).collect()
}

#[test]
fn work_sent_while_nothing_runs_is_done_by_a_later_up() {
    let pipeline = doubling().file("in.jsonl", "1\n2\n3\n");
    let lines = format!("@{}", pipeline.path("in.jsonl").display());
    let sent = pipeline
        .asya("send")
        .args(["--route", "double,double", "--input", &lines])
        .run()
        .expect_code(0);
    let ids: BTreeSet<_> = sent.ids().into_iter().collect();
    assert_eq!(ids.len(), 3, "an id per line: {}", sent.stdout);
    assert_eq!(pipeline.queue().messages(), 3);
    assert_eq!(pipeline.happy().len(), 0);

    pipeline.asya("up").arg("--drain").run().expect_code(0);
    assert_eq!(stored_ids(&pipeline), ids);
    let payloads: BTreeSet<_> = pipeline
        .happy()
        .iter()
        .map(|stored| stored.payload().as_i64())
        .collect();
    assert_eq!(payloads, BTreeSet::from([Some(4), Some(8), Some(12)]));
    pipeline.assert_at_rest();
}

#[test]
fn work_sent_while_up_runs_is_done_at_once_and_ctrl_c_ends_it_with_0() {
    let pipeline = doubling();
    let up = pipeline.asya("up").spawn();
    up.await_stderr("asya send");
    for n in 1..=3 {
        let sent = pipeline
            .asya("send")
            .args(["--input", &n.to_string()])
            .run()
            .expect_code(0);
        assert_eq!(sent.ids().len(), 1);
        wait_for("the result", || {
            stored_ids(&pipeline).contains(&sent.ids()[0]).then_some(())
        });
    }
    up.signal(Signal::INT);
    let ended = up.wait().expect_code(0);
    assert_eq!(ended.stdout, "", "results are stored, not printed");
    assert_eq!(pipeline.happy().len(), 3);
    pipeline.assert_at_rest();
}

#[test]
fn sending_does_not_wait_for_handlers() {
    let pipeline = Pipeline::new()
        .file(
            "slow.py",
            "import time\ndef wait(payload):\n    time.sleep(3600)\n",
        )
        .actor(&Actor::python("slow", "slow.wait"));
    let up = pipeline.asya("up").args(["--grace", "100ms"]).spawn();
    up.await_stderr("asya send");
    let sent = pipeline.asya("send").args(["--input", "1"]).run().expect_code(0);
    assert_eq!(sent.ids().len(), 1);
    assert!(sent.took < Duration::from_secs(30));
    assert_eq!(pipeline.queue().messages(), 1, "it is at work or waits");
    up.signal(Signal::TERM);
    up.wait().expect_code(0);
    assert_eq!(pipeline.queue().messages(), 1, "and is still there afterwards");
    pipeline.await_no_process();
}

#[test]
fn a_tool_can_be_sent_to_with_its_defaults() {
    let pipeline = doubling()
        .file("pick.py", "def pick(payload):\n    return payload['n']\n")
        .actor(&Actor::python("pick", "pick.pick"))
        .file(
            "asya.yaml",
            "tools:\n- name: twice\n  parameters:\n    n: {type: integer, default: 21}\n  route: [pick, double]\n",
        );
    pipeline
        .asya("send")
        .args(["--tool", "twice"])
        .run()
        .expect_code(0);
    pipeline.asya("up").arg("--drain").run().expect_code(0);
    assert_eq!(pipeline.happy()[0].payload(), json!(42));
}

#[test]
fn everything_is_queued_although_nobody_reads_the_ids_to_their_end() {
    let pipeline = doubling().file("in.jsonl", &lines((0..1200).map(|n| json!(n))));
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let ended = pipeline
        .asya("send")
        .args(["--input", &input])
        .stdout(Stdout::CloseAfter(1))
        .run()
        .expect_code(0);
    assert_eq!(ended.ids().len(), 1);
    assert_eq!(pipeline.queue().messages(), 1200);
}

#[test]
fn a_second_run_or_up_on_the_same_state_ends_with_4_and_names_the_first() {
    let pipeline = doubling();
    let up = pipeline.asya("up").spawn();
    up.await_stderr("asya send");
    let pid = format!("pid {}", up.pid());
    let state = pipeline.state().display().to_string();
    for arguments in [&["--input", "1"][..], &[]] {
        let command = if arguments.is_empty() { "up" } else { "run" };
        pipeline
            .asya(command)
            .args(arguments.iter().copied())
            .run()
            .expect_code(4)
            .expect_stderr(&["in use", &pid, &state, "asya send"]);
    }
    up.signal(Signal::INT);
    up.wait().expect_code(0);
    // Free again.
    pipeline.asya("run").args(["--input", "1"]).run().expect_code(0);
}

#[test]
fn an_interrupted_drain_does_not_claim_that_the_queues_are_empty() {
    let pipeline = Pipeline::new()
        .file(
            "slow.py",
            "import time\ndef wait(payload):\n    open('entered', 'w').close()\n    time.sleep(3600)\n",
        )
        .actor(&Actor::python("slow", "slow.wait"));
    pipeline.asya("send").args(["--input", "1"]).run().expect_code(0);
    let up = pipeline.asya("up").args(["--drain", "--grace", "100ms"]).spawn();
    wait_for("the handler", || pipeline.path("entered").exists().then_some(()));
    up.signal(Signal::INT);
    up.wait().expect_code(130);
    assert_eq!(pipeline.queue().messages(), 1);
    pipeline.await_no_process();
}

#[test]
fn drain_does_not_wait_for_messages_of_actors_that_the_directory_does_not_have() {
    let pipeline = doubling();
    let sent = pipeline.asya("send").args(["--input", "1"]).run().expect_code(0);
    pipeline.queue().put(
        "removed",
        "m-1",
        &b"{\"id\":\"x\",\"route\":{\"actors\":[\"removed\"],\"current\":0},\"payload\":1}"[..],
    );
    pipeline
        .asya("up")
        .arg("--drain")
        .run()
        .expect_code(0)
        .expect_stderr(&["note: 1 message waits for removed, which this directory does not have"]);
    assert_eq!(stored_ids(&pipeline), sent.ids().into_iter().collect());
    assert_eq!(
        pipeline.queue().messages(),
        1,
        "it still waits for an actor that takes it"
    );
}
