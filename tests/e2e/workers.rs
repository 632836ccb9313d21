//! Workers that hang, die or are killed: the call is one error, the others go on, the runtime lives, nothing is left.

use std::collections::BTreeSet;

use asya_tests::{Actor, Finished, Pipeline, Signal, Stored, processes_under, wait_for};
use serde_json::{Value, json};

use crate::pipelines::lines;

/// Returns the worker and the process that has started it, unless the payload names something else to do.
const HANDLER: &str = r#"
import ctypes, os, signal, subprocess, time
from asya_runtime import context

def handle(payload):
    if isinstance(payload, str):
        globals()[payload]()
    return [[os.getpid(), os.getppid()]]

def hangs():
    while True:
        time.sleep(3600)

def holds_the_gil():
    ctypes.PyDLL(None).sleep(3600)

def ignores_all_signals():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, signal.NSIG))
    hangs()

def ends_early():
    while not context.cancelled():
        time.sleep(0.01)

def crashes():
    os.kill(os.getpid(), signal.SIGSEGV)

def exits():
    os._exit(3)

def needs_too_much():
    raise MemoryError("no room")

def gate():
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.setsid()
        while True:
            time.sleep(3600)
    subprocess.Popen(["sleep", "3600"])
    with open("gate-%d" % os.getpid(), "w"):
        pass
    hangs()
"#;

fn pipeline(workers: usize, inputs: impl IntoIterator<Item = Value>) -> Pipeline {
    let actor = Actor::python("step", "handler.handle")
        .runtime(&format!("{{workers: {workers}}}"))
        .variable("ASYA_CANCEL_GRACE", "300ms")
        .processing_timeout(3);
    Pipeline::new()
        .file("handler.py", HANDLER)
        .file("in.jsonl", &lines(inputs))
        .actor(&actor)
}

fn input(pipeline: &Pipeline) -> String {
    format!("@{}", pipeline.path("in.jsonl").display())
}

/// Ten good calls around a bad one, on two workers: the bad call is one error, the good ones are done, by workers of
/// one and the same arbiter. Returns what the error says, with its details.
fn fails(what: &str) -> String {
    let inputs = (0..11).map(|n| if n == 4 { json!(what) } else { json!(n) });
    let pipeline = pipeline(2, inputs);
    let ended = pipeline.asya("run").args(["--input", &input(&pipeline)]).run();
    let ended = ended.expect_code(1);
    pipeline.assert_at_rest();
    assert_eq!(
        (pipeline.happy().len(), pipeline.errors().len()),
        (10, 1),
        "{what}"
    );
    let error = pipeline.errors()[0].payload();
    assert_eq!(error["original_payload"], json!(what));
    let (_, arbiters) = processes(&ended);
    assert_eq!(arbiters.len(), 1, "{what}: the runtime lives on");
    format!("{} {}", error["error"], error["details"])
}

/// The workers that returned something, and the processes that had started them.
fn processes(ended: &Finished) -> (BTreeSet<u64>, BTreeSet<u64>) {
    let pair = |payload: &Value| Some((payload.get(0)?.as_u64()?, payload.get(1)?.as_u64()?));
    ended.payloads().iter().filter_map(pair).unzip()
}

#[test]
fn a_hung_call_costs_nobody_else_anything() {
    for what in ["hangs", "holds_the_gil", "ignores_all_signals"] {
        let error = fails(what);
        assert!(
            error.contains("Runtime timeout exceeded after 3s"),
            "{what}: {error}"
        );
    }
}

#[test]
fn a_call_that_ends_when_it_is_asked_to_keeps_its_worker() {
    let pipeline = pipeline(1, [json!(1), json!("ends_early"), json!(2)]);
    let ended = pipeline.asya("run").args(["--input", &input(&pipeline)]).run();
    let ended = ended.expect_code(1);
    let error = pipeline.errors()[0].payload()["error"].to_string();
    assert!(error.contains("Runtime timeout exceeded after 3s"), "{error}");
    let (workers, arbiters) = processes(&ended);
    assert_eq!((workers.len(), arbiters.len()), (1, 1));
}

#[test]
fn a_worker_that_dies_says_how() {
    let error = fails("crashes");
    assert!(
        error.contains("worker_died") && error.contains("SIGSEGV"),
        "{error}"
    );
    let error = fails("exits");
    assert!(
        error.contains("worker_died") && error.contains("\"exit_code\":3"),
        "{error}"
    );
}

#[test]
fn a_handler_that_finds_no_memory_says_so_and_its_worker_lives_on() {
    let error = fails("needs_too_much");
    assert!(error.contains("oom") && error.contains("no room"), "{error}");
}

#[test]
fn an_async_call_that_hangs_is_cancelled_and_its_neighbours_go_on() {
    let code = r#"
import asyncio, os

async def handle(payload):
    try:
        await asyncio.sleep(3600 if payload == "hangs" else 0.001)
    except asyncio.CancelledError:
        open("cancelled", "w").close()
        raise
    return [[os.getpid(), os.getppid()]]
"#;
    let actor = Actor::python("step", "handler.handle")
        .runtime("{concurrency: 4}")
        .processing_timeout(3);
    let inputs = (0..20).map(|n| if n == 2 { json!("hangs") } else { json!(n) });
    let pipeline = Pipeline::new()
        .file("handler.py", code)
        .file("in.jsonl", &lines(inputs))
        .actor(&actor);
    let ended = pipeline.asya("run").args(["--input", &input(&pipeline)]).run();
    let (workers, _) = processes(&ended.expect_code(1));
    assert_eq!(workers.len(), 1, "the worker is the same for all");
    assert!(pipeline.path("cancelled").exists());
    assert_eq!((pipeline.happy().len(), pipeline.errors().len()), (19, 1));
    let error = pipeline.errors()[0].payload()["error"].to_string();
    assert!(error.contains("Runtime timeout exceeded after 3s"), "{error}");
    pipeline.assert_at_rest();
}

#[test]
fn an_only_worker_is_replaced_too() {
    let pipeline = pipeline(
        1,
        [json!(1), json!("crashes"), json!(2), json!("exits"), json!(3)],
    );
    let ended = pipeline.asya("run").args(["--input", &input(&pipeline)]).run();
    let (workers, arbiters) = processes(&ended.expect_code(1));
    assert_eq!((workers.len(), arbiters.len()), (3, 1));
    assert_eq!(pipeline.errors().len(), 2);
    pipeline.assert_at_rest();
}

#[test]
fn a_worker_killed_from_outside_is_replaced() {
    let pipeline = pipeline(2, []);
    let up = pipeline.asya("up").arg("-v").spawn();
    let ask = |n: u64| {
        let known = pipeline.happy().len();
        pipeline
            .asya("send")
            .args(["--input", &n.to_string()])
            .run()
            .expect_code(0);
        wait_for("the result", || {
            let happy = pipeline.happy();
            (happy.len() > known).then(|| happy.last().map(Stored::payload))?
        })
    };
    let first = ask(1);
    let (worker, arbiter) = (first[0].as_i64().unwrap(), first[1].clone());
    let victims = processes_under(pipeline.mark());
    let victim = victims.iter().find(|process| i64::from(process.pid) == worker);
    victim.unwrap().signal(Signal::KILL);
    // What is sent to it before that is known may have been run for all that one can tell.
    up.await_stderr("a worker of the runtime has ended");
    for n in 2..8 {
        let next = ask(n);
        assert_ne!(next[0].as_i64(), Some(worker));
        assert_eq!(next[1], arbiter);
    }
    assert_eq!(pipeline.errors().len(), 0, "it had no call");
    up.signal(Signal::TERM);
    up.wait().expect_code(0);
    pipeline.assert_at_rest();
}

/// All three workers are in a call, and each has left processes behind that end by no signal but SIGKILL.
fn at_the_gate() -> (Pipeline, asya_tests::Running) {
    let pipeline = pipeline(3, vec![json!("gate"); 3]);
    let timeout = pipeline
        .read("actors.yaml")
        .replace("processing: 3", "processing: 300");
    pipeline.write("actors.yaml", timeout);
    let run = pipeline
        .asya("run")
        .args(["--input", &input(&pipeline), "--grace", "200ms"])
        .spawn();
    wait_for("three calls under way", || {
        let entries = std::fs::read_dir(pipeline.path("")).unwrap().flatten();
        let gates = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("gate-"));
        (gates.count() == 3).then_some(())
    });
    // asya, guard, arbiter, and of each worker itself, its fork and its sleep.
    assert!(processes_under(pipeline.mark()).len() >= 12);
    (pipeline, run)
}

#[test]
fn nothing_is_left_of_several_workers_however_asya_ends() {
    for (signal, code) in [
        (Signal::KILL, None),
        (Signal::INT, Some(130)),
        (Signal::TERM, Some(130)),
    ] {
        let (pipeline, run) = at_the_gate();
        run.signal(signal);
        assert_eq!(run.wait().code, code);
        pipeline.await_no_process();
        assert_eq!(pipeline.queue().messages(), 3, "all three are still queued");
    }
}

#[test]
fn nothing_is_left_of_several_workers_when_the_guard_is_killed_too() {
    let (pipeline, run) = at_the_gate();
    // Of what handlers left behind nobody knows then; the workers themselves end with their arbiter.
    let doomed = processes_under(pipeline.mark());
    let is_doomed = |command: &str| command.contains("__guard") || command.contains(" run ");
    for process in doomed.iter().filter(|process| is_doomed(&process.command)) {
        process.signal(Signal::KILL);
    }
    assert_eq!(run.wait().code, None);
    wait_for("the end of the arbiter and its workers", || {
        let left = processes_under(pipeline.mark());
        let forks = 3;
        let of_runtime = left
            .iter()
            .filter(|process| process.command.contains("asya_runtime"));
        (of_runtime.count() <= forks).then_some(())
    });
}
