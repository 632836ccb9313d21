//! `asya up` with its gateway, and `asya mcp`: a pipeline as tools.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use asya_tests::{Actor, Asya, Finished, Pipeline, Running, Signal, wait_for};
use serde_json::{Value, json};

const TOOLS: &str = r#"
tools:
  - name: double
    description: Doubles a number.
    parameters:
      n: {type: integer, required: true, description: The number.}
      zip: {type: string, default: "00000"}
      my_list: {type: array, items: {type: string}}
    route: [double, double]
    progress: true
  - name: fail
    description: Fails.
    route: [fail]
  - name: wait
    description: Waits for a file.
    parameters: {file: {type: string, required: true}}
    route: [wait, double]
    progress: true
  - name: nowhere
    description: Goes to an actor that does not exist.
    route: [nowhere]
"#;

const STEPS: &str = "\
import os, time

def double(payload):
    return dict(payload, n=payload.get('n', 0) * 2)

def fail(payload):
    raise ValueError('on purpose')

def wait(payload):
    while not os.path.exists(payload['file']):
        time.sleep(0.02)
    return payload
";

/// A pipeline that runs, and the address of its gateway.
struct Up {
    pipeline: Pipeline,
    running: Running,
    url: String,
}

fn pipeline() -> Pipeline {
    let actors = ["double", "fail", "wait"];
    let pipeline = Pipeline::new().file("steps.py", STEPS).file("asya.yaml", TOOLS);
    actors.into_iter().fold(pipeline, |pipeline, name| {
        pipeline.actor(&Actor::python(name, &format!("steps.{name}")))
    })
}

fn start(pipeline: &Pipeline) -> (Running, String) {
    let running = pipeline.asya("up").args(["--port", "0"]).spawn();
    running.await_stderr("gateway at ");
    let said = running.stderr_text();
    let url = said
        .split("gateway at ")
        .nth(1)
        .unwrap()
        .split(' ')
        .next()
        .unwrap()
        .to_owned();
    (running, url)
}

impl Up {
    fn start() -> Self {
        let pipeline = pipeline();
        let (running, url) = start(&pipeline);
        Self {
            pipeline,
            running,
            url,
        }
    }

    fn mcp(&self, arguments: &[&str]) -> Asya {
        let asya = self.pipeline.bare_asya().env("ASYA_CLI_MCP_URL", &self.url);
        asya.arg("mcp").args(arguments.iter().copied())
    }

    fn end(self) {
        self.running.signal(Signal::INT);
        self.running.wait().expect_code(0);
        self.pipeline.assert_at_rest();
    }
}

fn document(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stdout))
}

#[test]
fn tools_are_listed_shown_and_called_with_progress() {
    let up = Up::start();
    let listed = up.mcp(&["list"]).run().expect_code(0).stdout;
    for line in [
        "- name: double",
        "  description: Doubles a number.",
        "      required: true",
    ] {
        assert!(listed.contains(line), "{line:?} in {listed}");
    }
    let show = up.mcp(&["show", "double"]).run().expect_code(0).stdout;
    assert!(
        show.contains("description: The number.") && show.contains("default: \"00000\""),
        "{show}"
    );
    up.mcp(&["show", "nothing"])
        .run()
        .expect_code(1)
        .expect_stderr(&["[-] Tool 'nothing' not found"]);

    let called = up
        .mcp(&[
            "call",
            "double",
            "--n",
            "10",
            "--zip",
            "01234",
            "--my-list",
            "a",
            "--my-list",
            "2",
        ])
        .run()
        .expect_code(0)
        .expect_stderr(&["[.] Envelope ID: ", "Processing: ", "| double | completed"]);
    let last = document(&called);
    assert_eq!(
        (&last["status"], &last["progress_percent"]),
        (&json!("succeeded"), &json!(100))
    );
    assert_eq!(
        last["result"],
        json!({"n": 40, "zip": "01234", "my_list": ["a", "2"]})
    );

    let id = last["id"].as_str().unwrap();
    let envelope = document(&up.mcp(&["status", id]).run().expect_code(0));
    assert_eq!(
        (&envelope["status"], &envelope["actors_completed"]),
        (&json!("succeeded"), &json!(2))
    );
    let streamed = up.mcp(&["stream", id, "--json"]).run().expect_code(0);
    let states: Vec<_> = streamed
        .stdout
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["status"].clone())
        .collect();
    assert_eq!(states.last(), Some(&json!("succeeded")));
    assert!(states.len() > 2, "the whole history: {states:?}");
    up.end();
}

#[test]
fn exit_codes_tell_what_became_of_a_call() {
    let up = Up::start();
    let refused = up
        .mcp(&["call", "double", r#"{"n": "many"}"#])
        .run()
        .expect_code(2);
    assert_eq!(document(&refused)["isError"], true);
    up.mcp(&["call", "double"])
        .run()
        .expect_code(2)
        .expect_stderr(&["required"]);
    up.mcp(&["call", "nowhere"])
        .run()
        .expect_code(2)
        .expect_stderr(&["nowhere"]);
    let failed = up.mcp(&["call", "fail"]).run().expect_code(3);
    assert_eq!(document(&failed)["status"], "failed");
    up.mcp(&["call", "--exit-zero", "fail"]).run().expect_code(0);
    up.mcp(&["call", "unknown"])
        .run()
        .expect_code(1)
        .expect_stderr(&["[-] Request failed: 404"]);
    for (id, told) in [
        ("no-such-id", "Envelope not found"),
        ("no/such/../id", "Invalid envelope path"),
    ] {
        up.mcp(&["status", id])
            .run()
            .expect_code(1)
            .expect_stderr(&[told]);
    }
    for (words, told) in [
        (&["call", "double", "{"][..], "not valid JSON"),
        (&["call", "double", "[1]"], "not a JSON object"),
        (&["call", "double", "--n", "many"], "--n \"many\" is no integer"),
    ] {
        up.mcp(words).run().expect_code(1).expect_stderr(&["[-] ", told]);
    }
    let away = up
        .pipeline
        .bare_asya()
        .args(["mcp", "--url", "http://127.0.0.1:1", "list"]);
    away.run().expect_code(1).expect_stderr(&["[-] Request failed: "]);
    up.end();
}

#[test]
fn a_number_of_any_size_arrives_as_it_was_typed() {
    let up = Up::start();
    let big = "123456789012345678901234567890";
    let called = up
        .mcp(&["call", "double", "--n", "0", "--extra", big])
        .run()
        .expect_code(0);
    assert!(
        called.stdout.contains(&format!("\"extra\": {big}")),
        "{}",
        called.stdout
    );
    up.end();
}

#[test]
fn a_running_call_is_cancelled_and_its_handler_s_result_goes_nowhere() {
    let up = Up::start();
    let gate = up.pipeline.path("gate");
    let call = up
        .mcp(&["call", "wait", "--file", gate.to_str().unwrap()])
        .spawn();
    call.await_stderr("| wait | processing");
    let said = call.stderr_text();
    let id = said
        .split("Envelope ID: ")
        .nth(1)
        .unwrap()
        .lines()
        .next()
        .unwrap()
        .to_owned();
    let cancelled = up
        .mcp(&["cancel", &id, "--reason", "too late"])
        .run()
        .expect_code(0);
    assert_eq!(document(&cancelled)["cancelled"], true);
    let last = document(&call.wait().expect_code(3));
    assert_eq!(
        (&last["status"], &last["error"]),
        (&json!("failed"), &json!("cancelled"))
    );
    // The handler is ended or comes back; either way nothing is published on, and nothing goes to error-end.
    std::fs::write(&gate, "").unwrap();
    let after = up.mcp(&["call", "double", "--n", "1"]).run().expect_code(0);
    assert_eq!(document(&after)["status"], "succeeded");
    let again = up.mcp(&["cancel", &id]).run().expect_code(0);
    assert_eq!(document(&again)["cancelled"], false);
    up.running.signal(Signal::INT);
    up.running.wait().expect_code(0);
    assert!(up.pipeline.errors().iter().all(|stored| stored.id != id));
    assert_eq!(up.pipeline.queue().messages(), 0);
}

#[test]
fn a_killed_pipeline_goes_on_with_its_calls_where_it_was() {
    let pipeline = pipeline();
    let (running, url) = start(&pipeline);
    let gate = pipeline.path("gate");
    let mcp = |url: &str, words: &[&str]| {
        let asya = pipeline.bare_asya().env("ASYA_CLI_MCP_URL", url).arg("mcp");
        asya.args(words.iter().copied())
    };
    let called = mcp(
        &url,
        &["--no-stream", "call", "wait", "--file", gate.to_str().unwrap()],
    )
    .run()
    .expect_code(0);
    let reply = document(&called);
    let handle: Value = serde_json::from_str(reply["content"][0]["text"].as_str().unwrap()).unwrap();
    let id = handle["envelope_id"].as_str().unwrap();
    running.signal(Signal::KILL);
    running.wait();
    pipeline.await_no_process();

    let (running, url) = start(&pipeline);
    std::fs::write(&gate, "").unwrap();
    let streamed = mcp(&url, &["stream", id, "--json"]).run().expect_code(0);
    let last: Value = serde_json::from_str(streamed.stdout.lines().last().unwrap()).unwrap();
    assert_eq!(last["status"], "succeeded");
    running.signal(Signal::INT);
    running.wait().expect_code(0);
}

#[test]
fn tools_are_read_again_and_a_broken_file_leaves_them_as_they_are() {
    let up = Up::start();
    let names = || up.mcp(&["list"]).run().expect_code(0).stdout;
    up.pipeline
        .write("asya.yaml", TOOLS.replace("name: fail", "name: renamed"));
    wait_for("the new tool", || names().contains("renamed").then_some(()));
    up.pipeline.write("asya.yaml", "tools: 5");
    up.pipeline
        .write("asya.yaml", TOOLS.replace("name: fail", "name: again"));
    wait_for("the tool after the broken file", || {
        names().contains("again").then_some(())
    });
    up.end();
}

#[test]
fn a_taken_port_is_told_and_without_a_gateway_none_is_opened() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port().to_string();
    let pipeline = pipeline();
    pipeline
        .asya("up")
        .args(["--port", &port])
        .run()
        .expect_code(4)
        .expect_stderr(&[&port, "in use"]);
    let quiet = pipeline
        .asya("up")
        .args(["--no-gateway", "--drain"])
        .run()
        .expect_code(0);
    assert!(!quiet.stderr.contains("gateway at"), "{}", quiet.stderr);
}

#[test]
fn the_old_names_are_links() {
    let up = Up::start();
    let links = tempfile::tempdir().unwrap();
    let link = links.path().join("asya-mcp");
    std::os::unix::fs::symlink(asya_tests::asya(), &link).unwrap();
    let list = Command::new(&link)
        .args(["--url", &up.url, "list"])
        .output()
        .unwrap();
    assert!(String::from_utf8(list.stdout).unwrap().contains("name: double"));
    let forward = links.path().join("asya-mcp-forward");
    std::os::unix::fs::symlink(asya_tests::asya(), &forward).unwrap();
    let help = Command::new(&forward).arg("--help").output().unwrap();
    assert!(String::from_utf8(help.stdout).unwrap().contains("--namespace"));
    up.end();
}

/// A service that runs beside a pipeline; it ends with the value.
struct Service(Child);

impl Drop for Service {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _waited = self.0.wait();
    }
}

#[test]
fn a_step_may_be_an_http_service() {
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/http-step");
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let pipeline = ["http_step.py", "orders.py", "asya.yaml", "actors.yaml"]
        .iter()
        .fold(Pipeline::new(), |pipeline, file| {
            let text = std::fs::read_to_string(example.join(file)).unwrap();
            pipeline.file(
                file,
                &text.replace("127.0.0.1:8700", &format!("127.0.0.1:{port}")),
            )
        });
    let (running, url) = start(&pipeline);
    let order = |country: &str| {
        let lines = r#"[{"article": "mug", "count": 2, "cents": 1250, "grams": 350}]"#;
        let asya = pipeline
            .bare_asya()
            .args(["mcp", "--url", &url, "call", "confirm-order"]);
        asya.args(["--number", "A-17", "--country", country, "--lines", lines])
    };
    // The service is away at first: the call waits for it.
    let early = order("NL").spawn();
    early.await_stderr("postage");
    let service = Command::new("python3")
        .arg(example.join("postage_service.py"))
        .arg(port.to_string())
        .stdout(Stdio::null())
        .spawn()
        .map(Service)
        .unwrap();
    let confirmed = document(&early.wait().expect_code(0));
    assert_eq!(
        confirmed["result"]["text"],
        "31.95 EUR with postage, delivered in 2 days"
    );
    let refused = document(&order("XX").run().expect_code(3));
    assert!(refused["result"].to_string().contains("answers 422"), "{refused}");
    drop(service);
    running.signal(Signal::INT);
    running.wait().expect_code(0);
}
