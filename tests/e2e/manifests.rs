//! Mistakes in manifests and handlers are reported all at once, with place and hint, before anything starts.

use asya_tests::{Actor, Finished, Pipeline, processes_under};

/// Nothing was started: no process is left, no queue was made, nothing was printed as a result.
fn assert_refused(pipeline: &Pipeline, ended: Finished) -> Finished {
    let ended = ended.expect_code(2);
    assert_eq!(ended.stdout, "");
    assert!(!pipeline.state().join("queue").exists(), "no queue was made");
    assert_eq!(processes_under(pipeline.mark()), []);
    ended
}

/// The report has a problem at this line of the file, whose text holds all of `texts`, followed by a hint.
fn assert_problem(report: &str, place: &str, texts: &[&str]) {
    let mut lines = report.lines().skip_while(|line| !line.contains(place));
    let line = lines
        .next()
        .unwrap_or_else(|| panic!("nothing about {place} in:\n{report}"));
    for text in texts {
        assert!(line.contains(text), "{text:?} is missing in: {line}");
    }
    let next = lines.next().unwrap_or_default();
    assert!(
        next.trim_start().starts_with("hint: "),
        "no hint after: {line}\n{report}"
    );
}

const WRONG: &str = r"apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata:
  name: Bad_Name
spec:
  transport: rabbitmq
  workload: {template: {spec: {containers: [{name: asya-runtime, env: [{name: ASYA_HANDLER, value: steps.run}]}]}}}
---
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata:
  name: unknown-field
spec:
  transprot: rabbitmq
  workload: {template: {spec: {containers: [{name: asya-runtime, env: [{name: ASYA_HANDLER, value: steps.run}]}]}}}
---
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata:
  name: wrong-type
spec:
  transport: rabbitmq
  scaling:
    minReplicas: many
  workload: {template: {spec: {containers: [{name: asya-runtime, env: [{name: ASYA_HANDLER, value: steps.run}]}]}}}
---
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata:
  name: no-container
spec:
  transport: rabbitmq
  workload:
    template:
      spec:
        containers:
        - name: worker
---
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata:
  name: transport-of-a-list
spec:
  transport: [rabbitmq]
  workload: {template: {spec: {containers: [{name: asya-runtime, env: [{name: ASYA_HANDLER, value: steps.run}]}]}}}
---
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata:
  name: no-handler
spec:
  transport: rabbitmq
  workload: {template: {spec: {containers: [{name: asya-runtime}]}}}
";

#[test]
fn every_kind_of_mistake_is_reported_at_once_with_line_and_hint() {
    let pipeline = Pipeline::new()
        .file("actors.yaml", WRONG)
        .file("other.yaml", "kind: AsyncActor\nmetadata: {name: x\n")
        .file("steps.py", "def run(payload):\n    return payload\n");
    for command in ["run", "up"] {
        let ended = assert_refused(&pipeline, pipeline.asya(command).run());
        let report = &ended.stderr;
        assert_problem(report, "actors.yaml:4:", &["metadata.name", "Bad_Name"]);
        assert_problem(report, "actors.yaml:14:", &["transprot"]);
        assert!(report.contains("transport"), "the right spelling is named");
        assert_problem(report, "actors.yaml:24:", &["spec.scaling.minReplicas", "many"]);
        assert_problem(report, "actors.yaml:36:", &["asya-runtime"]);
        assert_problem(report, "actors.yaml:44:", &["spec.transport"]);
        assert_problem(report, "actors.yaml:53:", &["ASYA_HANDLER"]);
        assert!(report.contains("other.yaml:"), "also what is no YAML:\n{report}");
        assert!(report.contains("2 files"), "{report}");
    }
    // What sends only, needs no handlers, but the manifests must be right.
    assert_refused(&pipeline, pipeline.asya("send").run());
}

#[test]
fn handlers_that_cannot_be_imported_are_reported_all_at_once() {
    let pipeline = Pipeline::new()
        .file(
            "steps.py",
            "def run(payload):\n    return payload\nclass Model:\n    def __init__(self, path):\n        pass\n    def run(self, payload):\n        return payload\n",
        )
        .file("broken.py", "import no_such_module_at_all\n")
        .file("slip.py", "def run(payload:\n")
        .file("quits.py", "import sys\nsys.exit(3)\n")
        .actor(&Actor::python("good", "steps.run"))
        .actor(&Actor::python("no-module", "stpes.run"))
        .actor(&Actor::python("no-function", "steps.rnu"))
        .actor(&Actor::python("no-import", "broken.run"))
        .actor(&Actor::python("no-syntax", "slip.run"))
        .actor(&Actor::python("no-default", "steps.Model.run"))
        .actor(&Actor::python("exits", "quits.run"));
    let ended = assert_refused(
        &pipeline,
        pipeline
            .asya("run")
            .args(["--route", "good", "--input", "1"])
            .run(),
    );
    let report = &ended.stderr;
    let manifest = pipeline.read("actors.yaml");
    // The line of the value of ASYA_HANDLER.
    let place = |handler: &str| {
        let value = format!("value: {handler:?}");
        let line = manifest.lines().position(|line| line.contains(&value)).unwrap();
        format!("actors.yaml:{}:", line + 1)
    };
    assert_problem(report, &place("stpes.run"), &["stpes"]);
    assert_problem(report, &place("steps.rnu"), &["rnu"]);
    assert!(report.contains("did you mean 'run'"), "{report}");
    assert_problem(report, &place("broken.run"), &["no_such_module_at_all"]);
    assert_problem(report, &place("slip.run"), &["SyntaxError"]);
    assert_problem(report, &place("steps.Model.run"), &["path", "Model"]);
    assert_problem(report, &place("quits.run"), &["sys.exit"]);
    assert!(report.contains("6 problems in 1 file"), "{report}");
    assert!(
        !report.contains(&place("steps.run")),
        "nothing is wrong with it:\n{report}"
    );
}

#[test]
fn shape_and_import_mistakes_are_reported_together() {
    let pipeline = Pipeline::new()
        .file("actors.yaml", WRONG)
        .file("steps.py", "def run(payload):\n    return payload\n")
        .actor(&Actor::python("no-module", "stpes.run"));
    let ended = assert_refused(&pipeline, pipeline.asya("run").run());
    assert!(ended.stderr.contains("transprot"), "{}", ended.stderr);
    assert!(ended.stderr.contains("stpes"), "{}", ended.stderr);
}

#[test]
fn a_tool_file_with_mistakes_is_reported_with_the_manifests() {
    let pipeline = Pipeline::new()
        .file("steps.py", "def run(payload):\n    return payload\n")
        .actor(&Actor::python("step", "steps.run"))
        .file(
            "asya.yaml",
            "tools:\n- name: first\n  colour: red\n  route: [step]\n- name: first\n  route: [step]\n",
        );
    let ended = assert_refused(&pipeline, pipeline.asya("run").run());
    assert_problem(&ended.stderr, "asya.yaml:3:", &["colour"]);
    assert!(ended.stderr.contains("asya.yaml:5:"), "{}", ended.stderr);
}

#[test]
fn a_directory_without_actors_says_what_to_put_there() {
    let pipeline = Pipeline::new().file("readme.txt", "hello");
    let ended = assert_refused(&pipeline, pipeline.asya("run").run());
    assert!(ended.stderr.contains("no AsyncActor found"), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: "), "{}", ended.stderr);
}

#[test]
fn a_python_that_does_not_exist_is_a_mistake_with_a_hint() {
    let pipeline = Pipeline::new()
        .file("steps.py", "def run(payload):\n    return payload\n")
        .actor(&Actor::python("step", "steps.run"));
    let ended = pipeline
        .asya("run")
        .args(["--input", "1", "--python", "/nowhere/python3"])
        .run();
    let ended = assert_refused(&pipeline, ended);
    for text in ["/nowhere/python3", "hint: ", "--python"] {
        assert!(ended.stderr.contains(text), "{text:?} in:\n{}", ended.stderr);
    }
}

#[test]
fn settings_of_the_runtime_that_cannot_hold_are_refused() {
    let pipeline = Pipeline::new()
        .file("steps.py", "def run(payload):\n    return payload\n")
        .actor(&Actor::python("both", "steps.run").runtime("{stream: true, batch: {size: 4}}"))
        .actor(
            &Actor::python("two-ways", "steps.run")
                .runtime("{workers: 4}")
                .variable("ASYA_WORKERS", "2"),
        )
        .actor(&Actor::python("many", "steps.run").runtime("{concurrency: 5000}"))
        .actor(&Actor::python("old", "steps.run").sidecar_variable("ASYA_RUNTIME_PROTOCOL", "v3"));
    let ended = pipeline.asya("run").args(["--input", "1"]).run();
    let report = assert_refused(&pipeline, ended).stderr;
    assert_problem(
        &report,
        "spec.runtime.stream",
        &["cannot both stream and take batches of 4"],
    );
    assert_problem(
        &report,
        "env[1].value",
        &["ASYA_WORKERS is \"2\" here and 4 in spec.runtime.workers"],
    );
    assert_problem(&report, "spec.runtime.concurrency", &["5000 is too large"]);
    let protocol = "ASYA_RUNTIME_PROTOCOL must be auto or v1, not \"v3\"";
    assert!(report.contains(protocol), "{report}");
}

#[test]
fn settings_that_do_not_fit_the_handler_are_refused_where_they_stand() {
    let pipeline = Pipeline::new()
        .file("steps.py", "def run(payload):\n    return payload\n")
        .actor(&Actor::python("waits", "steps.run").runtime("{concurrency: 8}"))
        .actor(&Actor::python("streams", "steps.run").variable("ASYA_STREAM", "true"));
    let ended = pipeline.asya("run").args(["--input", "1"]).run();
    let report = assert_refused(&pipeline, ended).stderr;
    assert_problem(
        &report,
        "spec.runtime.concurrency",
        &["actors.yaml:8:", "async def"],
    );
    assert_problem(&report, "env[1].value", &["ASYA_STREAM=true needs a generator"]);
}
