//! What a person asks for: route, tool and input, and what is said about those that make no sense.

use asya_tests::Pipeline;
use serde_json::json;

use crate::pipelines::{only, two_steps};

const TOOLS: &str = r"
tools:
- name: twice
  description: Doubles a number.
  parameters:
    n: {type: integer, default: 21}
  route: [double]
- name: more
  description: Doubles a number and adds one.
  parameters:
    n: {type: integer, required: true}
  route: [double, add-one]
";

#[test]
fn a_tool_gives_route_and_defaults() {
    let pipeline = two_steps().file("asya.yaml", TOOLS);
    let ended = pipeline
        .asya("run")
        .args(["--tool", "twice"])
        .run()
        .expect_code(0);
    assert_eq!(ended.payloads(), [json!({"n": 42})]);
    let ended = pipeline
        .asya("run")
        .args(["--tool", "more", "--input", r#"{"n": 1}"#])
        .run()
        .expect_code(0);
    assert_eq!(ended.payloads(), [json!({"n": 3})]);
}

#[test]
fn the_only_tool_is_the_default() {
    let (first, _) = TOOLS.split_once("- name: more").unwrap();
    let pipeline = two_steps().file("asya.yaml", first);
    let ended = pipeline.asya("run").run().expect_code(0);
    assert_eq!(ended.payloads(), [json!({"n": 42})]);
}

#[test]
fn the_only_actor_is_the_default() {
    let pipeline = only("steps.double");
    let ended = pipeline
        .asya("run")
        .args(["--input", r#"{"n": 4}"#])
        .run()
        .expect_code(0);
    assert_eq!(ended.payloads(), [json!({"n": 8})]);
}

#[test]
fn what_cannot_be_resolved_ends_with_2_and_says_what_there_is() {
    let pipeline = two_steps().file("asya.yaml", TOOLS);
    let cases: [(&[&str], &[&str]); 8] = [
        (
            &["--route", "double,doubel", "--input", "1"],
            &["doubel", "double, add-one"],
        ),
        (&["--route", "happy-end", "--input", "1"], &["happy-end"]),
        (&["--route", "double"], &["--input"]),
        (&["--tool", "thrice"], &["thrice", "twice, more"]),
        (&[], &["--tool", "twice, more"]),
        (&["--tool", "more"], &["more", "n"]),
        (
            &["--tool", "twice", "--input", r#"{"n": "x"}"#],
            &["twice", "integer"],
        ),
        (&["--tool", "twice", "--route", "double"], &["--tool", "--route"]),
    ];
    for (arguments, texts) in cases {
        let ended = pipeline.asya("run").args(arguments.iter().copied()).run();
        let ended = ended.expect_code(2).expect_stderr(texts);
        assert_eq!(ended.stdout, "", "of {arguments:?}");
    }
    assert!(!pipeline.state().join("queue").exists(), "nothing was started");
}

#[test]
fn several_actors_and_no_tool_need_a_route() {
    two_steps()
        .asya("run")
        .args(["--input", r#"{"n": 1}"#])
        .run()
        .expect_code(2)
        .expect_stderr(&["--route", "double", "add-one"]);
}

#[test]
fn a_directory_that_is_none_ends_with_2() {
    let pipeline = Pipeline::new();
    for command in ["run", "up", "send"] {
        let missing = pipeline.path("missing").display().to_string();
        pipeline
            .bare_asya()
            .args([command, &missing])
            .run()
            .expect_code(2)
            .expect_stderr(&[&missing, "not a directory"]);
        assert!(!pipeline.path("missing").exists());
    }
}

#[test]
fn input_comes_from_text_file_lines_and_standard_input() {
    let pipeline = only("steps.echo")
        .file("one.json", "{\"from\":\n \"file\"}\n")
        .file("many.jsonl", "{\"line\": 1}\n\n{\"line\": 2}\n");
    let file = format!("@{}", pipeline.path("one.json").display());
    let lines = format!("@{}", pipeline.path("many.jsonl").display());
    let cases = [
        ("[\"text\"]", "", vec![]),
        (file.as_str(), "", vec![json!({"from": "file"})]),
        ("-", "{\"from\": \"stdin\"}", vec![json!({"from": "stdin"})]),
        (lines.as_str(), "", vec![json!({"line": 1}), json!({"line": 2})]),
    ];
    for (input, stdin, mut expected) in cases {
        if expected.is_empty() {
            // A list is a fan-out.
            expected = vec![json!("text")];
        }
        let ended = pipeline.asya("run").args(["--input", input]).stdin(stdin).run();
        let mut payloads = ended.expect_code(0).payloads();
        payloads.sort_by_key(ToString::to_string);
        assert_eq!(payloads, expected, "--input {input}");
    }
}

#[test]
fn input_that_is_not_json_ends_with_2_and_says_where() {
    let pipeline = only("steps.echo")
        .file("bad.json", "{\"a\": }")
        .file("bad.jsonl", "1\n2\nthree\n")
        .file("empty.jsonl", "\n\n");
    let at = |name: &str| format!("@{}", pipeline.path(name).display());
    for (input, stdin, texts) in [
        ("{'a': 1}".to_owned(), "", vec!["--input", "not JSON"]),
        (at("bad.json"), "", vec!["bad.json", "not JSON"]),
        (at("bad.jsonl"), "", vec!["bad.jsonl line 3", "not JSON"]),
        (at("empty.jsonl"), "", vec!["empty.jsonl", "empty"]),
        (at("missing.json"), "", vec!["missing.json", "cannot read"]),
        ("-".to_owned(), "no", vec!["standard input", "not JSON"]),
        ("-".to_owned(), "", vec!["standard input"]),
        (String::new(), "", vec!["--input"]),
    ] {
        let ended = pipeline.asya("run").args(["--input", &input]).stdin(stdin).run();
        let ended = ended.expect_code(2).expect_stderr(&texts);
        assert_eq!(ended.stdout, "");
    }
    assert!(!pipeline.state().join("queue").exists(), "nothing was started");
}
