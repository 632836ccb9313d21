//! Signals and kills at any moment: nothing is lost, nothing is left.

use std::collections::BTreeSet;

use asya_tests::{Actor, Pipeline, Signal, processes_under, wait_for};

use crate::pipelines::{GATE, await_gate, gated, run_to_the_gate};

/// Like [`GATE`], and each call leaves processes behind that end by no signal but SIGKILL.
const GATE_WITH_CHILDREN: &str = r#"
import os, signal, subprocess, time
def wait(payload):
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        if os.fork() == 0:
            os.execlp("sleep", "sleep", "3600")
        while True:
            time.sleep(3600)
    subprocess.Popen(["sleep", "3600"])
    with open("calls", "a") as file:
        file.write("%s\n" % payload)
    while payload == "gate" and not os.path.exists("open"):
        time.sleep(0.01)
    return payload
"#;

fn calls(pipeline: &Pipeline) -> Vec<String> {
    pipeline.read("calls").lines().map(str::to_owned).collect()
}

/// Opens the gate, lets `up --drain` finish everything, and checks that there is one result for each input.
fn drain_and_check(pipeline: &Pipeline) {
    pipeline.write("open", "");
    pipeline.asya("up").arg("--drain").run().expect_code(0);
    pipeline.assert_at_rest();
    assert_eq!(pipeline.errors().len(), 0);
    let happy = pipeline.happy();
    assert_eq!(happy.len(), 20, "one result for each input");
    let ids: BTreeSet<_> = happy.iter().map(|stored| &stored.id).collect();
    assert_eq!(ids.len(), 20, "every id once");
    let payloads: BTreeSet<_> = happy.iter().map(|stored| stored.payload().to_string()).collect();
    assert_eq!(payloads.len(), 20, "every input once");
}

#[test]
fn ctrl_c_lets_the_running_call_end_and_keeps_the_rest() {
    let pipeline = gated(GATE);
    let run = run_to_the_gate(&pipeline);
    let before = calls(&pipeline).len();
    run.signal(Signal::INT);
    // It drains: the call under way may end, and does once the gate is open.
    pipeline.write("open", "");
    let ended = run
        .wait()
        .expect_code(130)
        .expect_stderr(&["interrupted", "asya up"]);
    let done = ended.envelopes().len();
    assert_eq!(
        done,
        calls(&pipeline).len(),
        "what was begun was finished and printed"
    );
    assert!(done >= before && done < 20, "{done} of 20");
    assert_eq!(pipeline.happy().len(), done);
    assert_eq!(
        pipeline.queue().messages(),
        20 - done as u64,
        "the rest is still queued"
    );

    drain_and_check(&pipeline);
    assert_eq!(calls(&pipeline).len(), 20, "no call was made twice");
}

#[test]
fn ctrl_c_returns_a_call_that_does_not_end_within_the_grace() {
    let pipeline = gated(GATE);
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let run = pipeline
        .asya("run")
        .args(["--input", &input, "--grace", "200ms"])
        .spawn();
    await_gate(&pipeline);
    run.signal(Signal::INT);
    run.wait().expect_code(130);
    pipeline.await_no_process();
    drain_and_check(&pipeline);
    let gate_calls = calls(&pipeline).iter().filter(|call| *call == "gate").count();
    assert_eq!(gate_calls, 2, "the call that was cut off was made again");
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let pipeline = gated(GATE_WITH_CHILDREN);
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let run = pipeline
        .asya("run")
        .args(["--input", &input, "--grace", "1h"])
        .spawn();
    await_gate(&pipeline);
    run.signal(Signal::INT);
    // It waits for the gate now; until it does, the second signal would only be the first.
    wait_for("the return of waiting messages", || {
        run.signal(Signal::INT);
        (processes_under(pipeline.mark())
            .iter()
            .all(|process| !process.command.contains(" run ")))
        .then_some(())
    });
    run.wait().expect_code(130);
    pipeline.await_no_process();
    drain_and_check(&pipeline);
}

#[test]
fn sigkill_of_asya_takes_every_process_with_it_and_loses_nothing() {
    let pipeline = gated(GATE_WITH_CHILDREN);
    let run = run_to_the_gate(&pipeline);
    let before = processes_under(pipeline.mark());
    let sleeping = before
        .iter()
        .filter(|process| process.command.starts_with("sleep"))
        .count();
    assert!(sleeping >= 4, "handlers have left processes behind: {before:#?}");
    run.signal(Signal::KILL);
    let ended = run.wait();
    assert_eq!(ended.code, None);
    pipeline.await_no_process();
    drain_and_check(&pipeline);
}

#[test]
fn sigkill_of_asya_and_its_guards_at_once_leaves_no_runtime() {
    let pipeline = gated(GATE);
    let run = run_to_the_gate(&pipeline);
    let processes = processes_under(pipeline.mark());
    let (mut doomed, others): (Vec<_>, Vec<_>) = processes
        .into_iter()
        .partition(|process| process.command.contains("__guard"));
    assert_eq!(doomed.len(), 1, "one guard for one actor");
    assert!(
        others
            .iter()
            .any(|process| process.command.contains("asya_runtime.py"))
    );
    doomed.extend(
        others
            .into_iter()
            .filter(|process| process.pid.unsigned_abs() == run.pid()),
    );
    assert_eq!(doomed.len(), 2);
    for process in &doomed {
        process.signal(Signal::KILL);
    }
    assert_eq!(run.wait().code, None);
    pipeline.await_no_process();
    drain_and_check(&pipeline);
}

#[test]
fn sigkill_of_a_guard_alone_is_healed() {
    let pipeline = gated(GATE);
    let run = run_to_the_gate(&pipeline);
    let processes = processes_under(pipeline.mark());
    let guard = processes
        .iter()
        .find(|process| process.command.contains("__guard"))
        .unwrap();
    guard.signal(Signal::KILL);
    // Its runtime goes with it, the call under way is an error, all others are worked on.
    let ended = run.wait().expect_code(1);
    assert_eq!(ended.envelopes().len(), 20);
    assert_eq!((pipeline.happy().len(), pipeline.errors().len()), (19, 1));
    pipeline.assert_at_rest();
}

#[test]
fn an_import_that_is_cut_short_leaves_nothing() {
    for signal in [Signal::KILL, Signal::INT, Signal::TERM] {
        let pipeline = Pipeline::new()
            .file(
                "slow.py",
                "import subprocess, time\nsubprocess.Popen(['sleep', '3600'])\nopen('importing', 'w').close()\ntime.sleep(3600)\n",
            )
            .actor(&Actor::python("slow", "slow.run"));
        let run = pipeline.asya("run").args(["--input", "1"]).spawn();
        wait_for("the import", || pipeline.path("importing").exists().then_some(()));
        run.signal(signal);
        assert_ne!(run.wait().code, Some(0), "{signal:?}");
        pipeline.await_no_process();
    }
}

#[test]
fn a_killed_up_goes_on_where_it_was_killed_again_and_again() {
    let pipeline = gated(GATE);
    let input = format!("@{}", pipeline.path("in.jsonl").display());
    let sent = pipeline
        .asya("send")
        .args(["--input", &input])
        .run()
        .expect_code(0);
    for _ in 0..3 {
        let up = pipeline.asya("up").spawn();
        await_gate(&pipeline);
        up.signal(Signal::KILL);
        assert_eq!(up.wait().code, None);
        pipeline.await_no_process();
    }
    drain_and_check(&pipeline);
    let ids: BTreeSet<_> = pipeline.happy().into_iter().map(|stored| stored.id).collect();
    assert_eq!(ids, sent.ids().into_iter().collect());
}
