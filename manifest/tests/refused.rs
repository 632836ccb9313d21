//! Mistakes: each is reported with its file, line and key, and all of them together.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, helpers included"
)]

use std::fs;
use std::path::{Path, PathBuf};

use asya_manifest::{Directory, Problems};
use tempfile::TempDir;

fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/bad")
        .join(file)
}

/// A directory with these files.
fn directory(files: &[(&str, &[u8])]) -> TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    dir
}

fn refused(dir: &Path) -> Problems {
    Directory::load(dir).expect_err("the directory has mistakes")
}

/// `file:line key` of each problem.
fn places(problems: &Problems) -> Vec<String> {
    let place = |problem: &asya_manifest::Problem| {
        let file = problem.location.file.file_name().unwrap().to_string_lossy();
        let line = problem.location.position.map_or(0, |position| position.line);
        format!("{file}:{line} {}", problem.key).trim_end().to_owned()
    };
    problems.iter().map(place).collect()
}

/// The report, paths shortened to names.
fn report(problems: &Problems, dir: &Path) -> String {
    problems
        .to_string()
        .replace(&format!("{}/", dir.display()), "")
        .replace(&dir.display().to_string(), "DIR")
}

/// One manifest, built from a good one by replacing a part.
fn changed(from: &str, to: &str) -> String {
    const GOOD: &str = "\
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
metadata:
  name: worker
spec:
  transport: rabbitmq
  workload:
    template:
      spec:
        containers:
        - name: asya-runtime
          env:
          - name: ASYA_HANDLER
            value: worker.run
";
    assert!(GOOD.contains(from), "{from}");
    GOOD.replace(from, to)
}

/// What is replaced in a good manifest, by what; the line and key of the problem (`@` for the containers), and a part
/// of its hint.
#[rustfmt::skip]
const MISTAKES: [(&str, &str, usize, &str, &str); 37] = [
    ("asya.sh/v1alpha1", "asya.sh/v2", 1, "apiVersion", "allowed: asya.sh/v1alpha1"),
    ("kind: AsyncActor\n", "", 1, "kind", "add `kind:` here"),
    ("  name: worker", "  name: 5", 4, "metadata.name", "quote it: \"5\""),
    ("  name: worker", "  namespace: a", 3, "metadata.name", "add `name:` here"),
    ("name: worker", "name: asya-worker", 4, "metadata.name", "name it \"worker\""),
    ("name: worker", "name: Worker", 4, "metadata.name", "lower-case"),
    ("  transport: rabbitmq\n", "", 5, "spec.transport", "add `transport:`"),
    ("rabbitmq", "7", 6, "spec.transport", "quote it: \"7\""),
    ("rabbitmq", "", 6, "spec.transport", "give it a value"),
    ("rabbitmq", "x\n  transports: y", 7, "spec.transports", "did you mean `transport`?"),
    ("rabbitmq", "x\n  timeout: 5", 7, "spec.timeout", ""),
    ("rabbitmq", "x\n  pythonExecutable: p", 7, "spec.pythonExecutable", "belongs under `workload`"),
    ("rabbitmq", "x\n  scaling: {minReplicas: -1}", 7, "spec.scaling.minReplicas", "give 0 or more"),
    ("rabbitmq", "x\n  sidecar: {imagePullPolicy: never}", 7, "spec.sidecar.imagePullPolicy", "did you mean Never?"),
    ("rabbitmq", "x\n  sidecar:\n    env:\n    - {name: A, value: 1.0}", 9, "spec.sidecar.env[0].value", "quote it: \"1.0\""),
    ("template:", "kind: CronJob\n    template:", 8, "spec.workload.kind", "Deployment, StatefulSet, Job"),
    ("asya-runtime", "runtime", 10, "@", "name the container that holds the handler `asya-runtime`"),
    ("- name: asya-runtime", "- image: x", 11, "@[0].name", "add `name:`"),
    ("ASYA_HANDLER", "HANDLER", 12, "@[0].env", "add an item `- name: ASYA_HANDLER`"),
    ("value: worker.run", "value: worker", 14, "@[0].env[0].value", "module.function"),
    ("value: worker.run", "value: worker:run", 14, "@[0].env[0].value", "module.function"),
    ("value: worker.run", "value: true", 14, "@[0].env[0].value", "quote it: \"true\""),
    ("value: worker.run", "valeu: worker.run", 14, "@[0].env[0].valeu", "did you mean `value`?"),
    ("worker.run", "worker.run\n  workload: {}", 15, "spec.workload", "keep one of the two"),
    ("worker.run", "!handler worker.run", 14, "@[0].env[0].value", "quote it"),
    ("worker.run", ".nan", 14, "@[0].env[0].value", "quote it"),
    ("rabbitmq", "x\n  runtime: {workers: 0}", 7, "spec.runtime.workers", "give 1 or more"),
    ("rabbitmq", "x\n  runtime: {workers: 257}", 7, "spec.runtime.workers", "give at most 256"),
    ("rabbitmq", "x\n  runtime: {concurrency: 4097}", 7, "spec.runtime.concurrency", "give at most 4096"),
    ("rabbitmq", "x\n  runtime: {batch: 8}", 7, "spec.runtime.batch", ""),
    ("rabbitmq", "x\n  runtime: {batch: {size: 4097}}", 7, "spec.runtime.batch.size", "give at most 4096"),
    ("rabbitmq", "x\n  runtime: {batch: {wait: 20}}", 7, "spec.runtime.batch.wait", "for seconds write 20s"),
    ("rabbitmq", "x\n  runtime: {stream: true, batch: {size: 2}}", 7, "spec.runtime.stream", "remove one of the two"),
    ("worker.run", "worker.run\n          - {name: ASYA_WORKERS, value: 2}", 15, "@[0].env[1].value", "quote it"),
    ("worker.run", "a.b\n          - {name: ASYA_STREAM, value: '1'}\n          - {name: ASYA_BATCH_SIZE, value: '2'}",
        15, "@[0].env[1].value", "remove one of the two"),
    ("rabbitmq", "x\n  runtime: {workers: 99999999999}", 7, "spec.runtime.workers", "give at most 256"),
    ("rabbitmq", "x\n  runtime: {worker: 2}", 7, "spec.runtime.worker", "did you mean `workers`?"),
];

#[test]
fn each_mistake_has_its_line_key_and_hint() {
    for (from, to, line, key, hint) in MISTAKES {
        let dir = directory(&[("one.yaml", changed(from, to).as_bytes())]);
        let problems = refused(dir.path());
        let key = key.replace('@', "spec.workload.template.spec.containers");
        let expected = format!("one.yaml:{line} {key}");
        let found = places(&problems).iter().position(|place| *place == expected);
        let found = found.unwrap_or_else(|| panic!("{to:?} gives {expected}, not\n{problems}"));
        let problem = problems.iter().nth(found).unwrap();
        assert!(
            problem.hint.as_deref().unwrap_or_default().contains(hint),
            "{to:?} hints {hint:?}: {problem}"
        );
    }
}

/// What `spec.runtime` and the container's variables say of the same setting.
#[test]
fn two_ways_to_say_the_same_must_agree() {
    let lines_of = |runtime: &str, name: &str, value: &str| {
        let manifest = changed("rabbitmq", &format!("x\n  runtime: {runtime}"));
        let manifest = format!("{manifest}          - {{name: {name}, value: {value:?}}}\n");
        let dir = directory(&[("a.yaml", manifest.as_bytes())]);
        let loaded = Directory::load(dir.path());
        loaded.err().map_or_else(Vec::new, |problems| {
            report(&problems, dir.path()).lines().map(str::to_owned).collect()
        })
    };
    for (runtime, name, value) in [
        ("{workers: 4}", "ASYA_WORKERS", "4"),
        ("{workers: 4}", "ASYA_WORKERS", ""),
        ("{workers: 4}", "ASYA_WORKERS", "$(NUMBER)"),
        ("{batch: {size: 8, wait: 1.5s}}", "ASYA_BATCH_WAIT", "1500ms"),
        ("{stream: true}", "ASYA_STREAM", "Yes"),
        ("{stream: false, batch: {size: 8}}", "ASYA_STREAM", "0"),
        ("{stream: true, batch: {size: 1}}", "ASYA_BATCH_SIZE", "1"),
    ] {
        assert_eq!(
            lines_of(runtime, name, value),
            [""; 0],
            "{runtime} {name}={value}"
        );
    }
    for (runtime, name, value) in [
        ("{workers: 4}", "ASYA_WORKERS", "2"),
        ("{concurrency: 4}", "ASYA_CONCURRENCY", "many"),
        ("{batch: {size: 8}}", "ASYA_BATCH_SIZE", "9"),
        ("{batch: {wait: 20ms}}", "ASYA_BATCH_WAIT", "20s"),
        ("{stream: true}", "ASYA_STREAM", "false"),
    ] {
        let lines = lines_of(runtime, name, value);
        let start = "a.yaml:16:";
        assert!(
            lines[0].starts_with(start) && lines[0].contains(&format!("{name} is {value:?} here and")),
            "{lines:?}"
        );
        assert!(lines[1].contains("keep one of the two"), "{lines:?}");
        assert_eq!(lines[2], "1 problem in 1 file");
    }
    let lines = lines_of("{batch: {size: 8}}", "ASYA_STREAM", "true");
    assert!(
        lines[0].contains("cannot both stream and take batches of 8"),
        "{lines:?}"
    );
}

#[test]
fn the_whole_directory_is_reported_at_once() {
    let problems = refused(&fixture(""));
    let mut files: Vec<_> = problems
        .iter()
        .map(|problem| problem.location.file.clone())
        .collect();
    files.dedup();
    let expected = [
        "asya.yaml",
        "kinds.yaml",
        "rules.yaml",
        "shapes.yaml",
        "syntax.yaml",
    ]
    .map(fixture);
    assert_eq!(files, expected, "in reading order");
    assert_eq!(problems.len(), 68);
    assert!(problems.to_string().ends_with("\n68 problems in 5 files"));
}

fn lines_of(file: &str) -> Vec<String> {
    let all = places(&refused(&fixture("")));
    let prefix = format!("{file}:");
    all.iter()
        .filter_map(|place| place.strip_prefix(&prefix))
        .map(str::to_owned)
        .collect()
}

#[test]
fn wrong_shapes() {
    let container = "spec.workload.template.spec.containers[0]";
    assert_eq!(
        lines_of("shapes.yaml"),
        [
            "5 metadata.lables",
            "6 spec.transport",
            "7 spec.transprot",
            "8 spec.minReplicas",
            "10 spec.retry.initialBackoff",
            "11 spec.retry.maxBackoff",
            "12 spec.retry.multiplier",
            "13 spec.retry.jitter",
            "14 spec.retry.on[0]",
            "16 spec.limits.messageSize",
            "18 spec.timeout.processing",
            "19 spec.timeout.gracefulShutdown",
            "21 spec.scaling.enabled",
            "22 spec.scaling.minReplicas",
            "24 spec.scaling.advanced.metricType",
            "26 spec.workload.kind",
            "27 spec.workload.replicas",
            &format!("36 {container}.env[1].value"),
            &format!("38 {container}.env[2].value"),
            &format!("40 {container}.env[3].valeu"),
            "43 apiVersion",
            "48 spec.transport",
            "49 spec.scaling",
            "50 spec.workload.template",
        ]
    );
}

#[test]
fn broken_rules() {
    let pod = "spec.workload.template.spec";
    assert_eq!(
        lines_of("rules.yaml"),
        [
            "4 metadata.name",
            "6 spec.transport",
            "7 spec.scaling.minReplicas",
            "10 spec.workload.type",
            &format!("14 {pod}.initContainers[0].name"),
            &format!("16 {pod}.volumes[0].name"),
            &format!("19 {pod}.containers[0].name"),
            &format!("21 {pod}.containers[1].command"),
            &format!("24 {pod}.containers[1].env[0].value"),
            &format!("26 {pod}.containers[1].env[1].value"),
            &format!("28 {pod}.containers[1].volumeMounts[0].mountPath"),
            &format!("29 {pod}.containers[2].name"),
            "34 metadata.name",
            &format!("40 {pod}.containers"),
            &format!("56 {pod}.containers[0].env"),
            "63 metadata.name",
        ]
    );
}

#[test]
fn tools_are_checked_with_the_manifests() {
    assert_eq!(
        lines_of("asya.yaml"),
        [
            "1 tool",
            "4 routes.two",
            "6 tools[0].name",
            "8 tools[1].name",
            "11 tools[3].name",
            "12 tools[3].route",
            "13 tools[3].timeout",
            "15 tools[4].colour",
            "16 tools[4].route",
            "18 tools[4].parameters.p.type",
            "19 tools[4].parameters.q.options[1]",
            "19 tools[4].parameters.q.enum",
            "19 tools[4].parameters.q.default",
            "20 tools[4].parameters.r.type",
            "20 tools[4].parameters.r.required",
            "21 tools[4].parameters.s.items.properties.n.type",
            "23 tools[5].route",
            "24 tools[6].route",
            "26 tools[7].route",
            "27 tools[8]",
        ]
    );
}

#[test]
fn slips_in_the_kind_do_not_hide_an_actor() {
    let containers = "spec.workload.template.spec.containers";
    let expected = [
        "2 kind",
        &format!("4 {containers}"),
        "6 apiVersion",
        "6 kind",
        &format!("7 {containers}"),
    ];
    assert_eq!(lines_of("kinds.yaml"), expected);
}

#[test]
fn a_syntax_error_hides_nothing_before_it() {
    assert_eq!(
        lines_of("syntax.yaml"),
        ["5 metadata.name", "8 spec.transport", "13"]
    );
}

#[test]
fn the_report_reads_well() {
    let manifest = changed("rabbitmq", "x\n  sclaing: {}").replace("worker.run", "8080");
    let dir = directory(&[
        ("a.yaml", manifest.as_bytes()),
        ("b.yaml", changed("kind", "kind").as_bytes()),
    ]);
    assert_eq!(
        report(&refused(dir.path()), dir.path()),
        "\
a.yaml:7:3: spec.sclaing: unknown field
    hint: did you mean `scaling`?
a.yaml:15:20: spec.workload.template.spec.containers[0].env[0].value: expected text, found the number 8080
    hint: quote it: \"8080\"
b.yaml:4:9: metadata.name: two actors are named \"worker\"; the first is at a.yaml:4:9
    hint: rename one of the two
3 problems in 2 files"
    );
}

#[test]
fn scripts_get_json() {
    let dir = directory(&[("a.yaml", changed("rabbitmq", "[]").as_bytes())]);
    let file = dir.path().join("a.yaml");
    assert_eq!(
        serde_json::to_value(refused(dir.path())).unwrap(),
        serde_json::json!([{
            "file": file, "line": 6, "column": 14, "key": "spec.transport", "message": "expected text, found a list",
            "hint": "write one value on the line of its key",
        }])
    );
    let nowhere = dir.path().join("nowhere");
    let problems = serde_json::to_value(refused(&nowhere)).unwrap();
    assert_eq!(problems[0]["file"], serde_json::json!(nowhere));
    assert_eq!(problems[0].get("line"), None, "the directory as a whole");
}

#[test]
fn directories_without_actors_are_refused() {
    let empty = directory(&[("notes.txt", b"kind: AsyncActor")]);
    assert_eq!(
        report(&refused(empty.path()), empty.path()),
        "DIR: no AsyncActor found in this directory\n    \
         hint: put a file *.yaml with `kind: AsyncActor` there\n1 problem in 1 file"
    );
    let nested = directory(&[]);
    let below = nested.path().join("manifests");
    fs::create_dir(&below).unwrap();
    fs::write(below.join("a.yaml"), changed("kind", "kind")).unwrap();
    assert!(report(&refused(nested.path()), nested.path()).contains("did you mean manifests?"));
    assert_eq!(Directory::load(&below).unwrap().actors.len(), 1);
}

#[test]
fn files_that_cannot_be_read_are_reported_whole() {
    let good = changed("kind", "kind");
    let large = vec![b'#'; (4 << 20) + 1];
    let dir = directory(&[
        ("a.yaml", good.as_bytes()),
        ("large.yaml", &large),
        ("latin.yml", b"a: b\nc: \xc3\xa9\xff"),
    ]);
    std::os::unix::fs::symlink("gone", dir.path().join("link.yaml")).unwrap();
    fs::create_dir(dir.path().join("folder.yaml")).unwrap();
    let problems = refused(dir.path());
    assert_eq!(places(&problems), ["large.yaml:0", "latin.yml:2", "link.yaml:0"]);
    assert!(problems.to_string().contains("latin.yml:2:5: not UTF-8 text"));
}

#[test]
fn two_tool_files_are_one_too_many() {
    let good = changed("kind", "kind");
    let tools = b"tools: []".as_slice();
    let dir = directory(&[
        ("a.yaml", good.as_bytes()),
        ("asya.yaml", tools),
        ("asya.yml", tools),
    ]);
    assert_eq!(places(&refused(dir.path())), ["asya.yml:0"]);
}

#[test]
fn a_byte_order_mark_and_windows_lines_are_fine() {
    let text = format!("\u{feff}{}", changed("kind", "kind").replace('\n', "\r\n"));
    let dir = directory(&[("a.yaml", text.as_bytes())]);
    assert_eq!(Directory::load(dir.path()).unwrap().actors[0].name, "worker");
}
