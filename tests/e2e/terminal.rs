//! On a terminal: one live line per actor, colours unless they are not wanted, and results apart from both.

use asya_tests::{Actor, Finished, Pipeline, Running, Screen, wait_for};

const WIDTH: usize = 100;

/// Two actors, of which the second waits until this test has seen enough.
fn pipeline() -> Pipeline {
    Pipeline::new()
        .file(
            "steps.py",
            r#"
import os, time
def first(payload):
    return [1, 2, 3, 4]
def second(payload):
    print("at work on", payload)
    while not os.path.exists("open"):
        time.sleep(0.01)
    if payload == 4:
        raise ValueError("four")
    return payload
"#,
        )
        .actor(&Actor::python("first-step", "steps.first"))
        .actor(&Actor::python("second-step", "steps.second"))
}

/// Runs it with standard error on a pseudo-terminal and standard output in `out.jsonl`.
fn on_a_terminal(pipeline: &Pipeline, route: &str, variables: &[(&str, &str)]) -> Running {
    let command = format!(
        "stty cols {WIDTH} rows 40; {} run {} --route {route} --input 1 > {}",
        asya_tests::asya().display(),
        pipeline.path("").display(),
        pipeline.path("out.jsonl").display(),
    );
    let mut script = pipeline
        .bare_asya()
        .through("script")
        .args(["--quiet", "--return", "--command", &command, "/dev/null"])
        .env("TERM", "xterm-256color");
    for (name, value) in variables {
        script = script.env(name, value);
    }
    script.spawn()
}

/// Returns what the live lines said while the first call of the second actor was under way, and the end.
fn run_on_a_terminal(pipeline: &Pipeline, variables: &[(&str, &str)]) -> (Screen, Finished) {
    let running = on_a_terminal(pipeline, "first-step,second-step", variables);
    let live = wait_for("live lines with the figures of this moment", || {
        let screen = Screen::showing(&running.stdout_text(), WIDTH);
        let at_work = screen.rows_of("second-step") == ["second-step 3 queued 1 running 0 done 0 failed"];
        at_work.then_some(screen)
    });
    pipeline.write("open", "");
    (live, running.wait())
}

/// Notes and prints stand whole above the live lines, which are gone in the end.
fn assert_screens(live: &Screen, end: &Screen) {
    assert_eq!(
        live.rows_of("first-step"),
        ["first-step 0 queued 0 running 1 done 0 failed"]
    );
    let note = "note: the embedded queue stands in for transport rabbitmq of the manifests";
    for (screen, name) in [(live, "live"), (end, "last")] {
        let rows = screen.rows();
        for whole in [note, "[second-step] at work on 1"] {
            assert!(
                rows.iter().any(|row| row == whole),
                "{whole:?} is torn on the {name} screen:\n{rows:#?}"
            );
        }
    }
    let rows = end.rows();
    assert!(
        rows.iter()
            .any(|row| row.starts_with("4 envelopes: 3 succeeded, 1 failed")),
        "{rows:#?}"
    );
    assert!(
        rows.iter().all(|row| !row.contains(" queued ")),
        "live lines are left on the screen:\n{rows:#?}"
    );
    // The table of hops.
    assert_eq!(end.rows_of("first-step").len(), 1, "{rows:#?}");
    assert_eq!(end.rows_of("second-step").len(), 1, "{rows:#?}");
}

#[test]
fn a_terminal_shows_a_live_line_per_actor_in_colour() {
    let pipeline = pipeline();
    let (live, ended) = run_on_a_terminal(&pipeline, &[]);
    let ended = ended.expect_code(1);
    assert_screens(&live, &Screen::showing(&ended.stdout, WIDTH));
    assert!(ended.stdout.contains("\u{1b}[32m"), "green for what is done");
    assert!(ended.stdout.contains("\u{1b}[31m"), "red for what failed");
    let results = pipeline.read("out.jsonl");
    assert_eq!(results.lines().count(), 4, "results go to standard output alone");
    assert!(!results.contains('\u{1b}'));
}

#[test]
fn without_colours_a_terminal_shows_the_same_lines() {
    let pipeline = pipeline();
    let (live, ended) = run_on_a_terminal(&pipeline, &[("NO_COLOR", "1")]);
    let ended = ended.expect_code(1);
    assert_screens(&live, &Screen::showing(&ended.stdout, WIDTH));
    let colour = ended.stdout.split("\u{1b}[").skip(1).find(|code| {
        code.trim_start_matches(|c: char| c.is_ascii_digit() || c == ';')
            .starts_with('m')
    });
    assert_eq!(colour, None, "a colour in {:?}", ended.stdout);
}

#[test]
fn a_terminal_shows_what_handlers_tell_in_their_live_lines() {
    let code = r#"
import os, time
from asya_runtime import context

def wait_for(name):
    while not os.path.exists(name):
        time.sleep(0.01)

def work(payload):
    context.progress(0.42, "reading\r\n\x1b[2J page 3")
    wait_for("noted")
    yield "so far " * 1000 + "and no further"
    wait_for("seen")
    yield "done"
"#;
    let actor = Actor::python("worker", "steps.work").runtime("{stream: true}");
    let pipeline = Pipeline::new().file("steps.py", code).actor(&actor);
    let running = on_a_terminal(&pipeline, "worker", &[]);
    let figures = "worker 0 queued 1 running 0 done 0 failed";
    wait_for("the progress note in the live line", || {
        let rows = Screen::showing(&running.stdout_text(), WIDTH).rows_of("worker");
        (rows == [format!("{figures} 42 % reading [2J page 3")]).then_some(())
    });
    pipeline.write("noted", "");
    wait_for("the end of the partial, cut to the width of the terminal", || {
        let rows = Screen::showing(&running.stdout_text(), WIDTH).rows_of("worker");
        let told = rows.first()?.strip_prefix(figures)?.trim();
        (rows.len() == 1 && told.starts_with('…') && told.contains("so far so far")).then_some(())
    });
    pipeline.write("seen", "");
    let ended = running.wait().expect_code(0);
    let end = Screen::showing(&ended.stdout, WIDTH);
    assert!(end.rows().iter().all(|row| !row.contains("so far")), "{end:#?}");
    assert_eq!(pipeline.read("out.jsonl").lines().count(), 1);
}
