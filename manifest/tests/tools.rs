//! The tool file: what is read from it, the schema of arguments, and the check of a call.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a panic is how a test fails, helpers included"
)]

use std::borrow::Cow;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use asya_manifest::{Problems, Tool, ToolMode, Tools};
use proptest::prelude::*;
use serde_json::{Value, json};

fn good() -> Tools {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/good/asya.yaml");
    Tools::load(&file).unwrap_or_else(|problems| panic!("{problems}"))
}

fn load(files: &[(&str, &str)]) -> Result<Tools, Problems> {
    let dir = tempfile::tempdir().unwrap();
    for (name, content) in files {
        fs::write(dir.path().join(name), content).unwrap();
    }
    Tools::load(dir.path())
}

/// The tool of a file with these parameters.
fn tool(parameters: &str) -> Tool {
    let file = format!("tools: [{{name: t, route: [a], {parameters}}}]");
    load(&[("tools.yaml", &file)])
        .unwrap_or_else(|problems| panic!("{problems}"))
        .tools
        .remove(0)
}

#[test]
fn templates_and_defaults_are_resolved() {
    let tools = good();
    let classify = tools.get("classify").unwrap();
    assert_eq!(classify.route(), ["preprocess", "inference", "postprocess"]);
    assert_eq!(
        (classify.progress, classify.timeout),
        (true, Some(Duration::from_mins(2)))
    );
    assert_eq!(classify.title.as_deref(), Some("Classify a text"));
    assert_eq!(classify.metadata["version"], "1.0", "as written, not as a number");
    assert_eq!(classify.source.position.map(|position| position.line), Some(7));
    let elsewhere = tools.get("elsewhere").unwrap();
    assert_eq!((elsewhere.progress, elsewhere.timeout), (false, None));
    assert_eq!(elsewhere.annotations.as_ref().unwrap()["readOnlyHint"], true);
    assert_eq!(elsewhere.output_schema, Some(json!({"type": "object"})));
    assert!(!elsewhere.additional_properties);
}

#[test]
fn a_call_is_answered_with_the_handle_unless_the_tool_says_otherwise() {
    let mode = |line: &str| tool(line).mode;
    assert_eq!(mode("description: d"), ToolMode::Handle);
    assert_eq!(mode("mode: null"), ToolMode::Handle);
    for word in ToolMode::WORDS {
        assert_eq!(mode(&format!("mode: {word}")).as_str(), word);
    }
}

#[test]
fn an_unknown_mode_is_told_with_its_place_and_the_known_ones() {
    let file = "tools:\n  - name: t\n    route: [a]\n    mode: waiting\n";
    let problems = load(&[("tools.yaml", file)]).unwrap_err().to_string();
    assert!(problems.contains("tools.yaml:4"), "{problems}");
    for word in ToolMode::WORDS {
        assert!(problems.contains(word), "{problems}");
    }
}

#[test]
fn a_timeout_is_300_seconds_unless_said() {
    let timeout = |file: &str| {
        load(&[("a.yaml", file)]).unwrap().tools[0]
            .timeout
            .map(|timeout| timeout.as_secs())
    };
    assert_eq!(timeout("tools: [{name: t, route: [a]}]"), Some(300));
    assert_eq!(
        timeout("{defaults: {timeout: -1}, tools: [{name: t, route: [a]}]}"),
        None,
        "negative means none"
    );
    assert_eq!(
        timeout("{defaults: {timeout: 5}, tools: [{name: t, route: [a], timeout: 7}]}"),
        Some(7)
    );
}

#[test]
fn the_schema_describes_every_type() {
    assert_eq!(
        good().get("classify").unwrap().input_schema(),
        json!({
            "type": "object",
            "required": ["text"],
            "properties": {
                "text": {"type": "string", "description": "What to classify"},
                "mode": {"type": "string", "enum": ["fast", "2"], "default": "fast"},
                "limits": {
                    "type": "object",
                    "required": ["words"],
                    "properties": {"words": {"type": "integer"}, "scale": {"type": "number", "default": 0.5}},
                },
                "tags": {"type": "array", "items": {"type": "string", "enum": ["a", "b"]}},
            },
        })
    );
    let elsewhere = good().get("elsewhere").unwrap().input_schema();
    assert_eq!(
        elsewhere,
        json!({"type": "object", "additionalProperties": false})
    );
}

#[test]
fn no_tools_may_be_said_but_not_left_out() {
    assert_eq!(load(&[("a.yaml", "tools: []")]).unwrap(), Tools::default());
    assert_eq!(
        load(&[("a.yml", "tools: []")]).unwrap(),
        Tools::default(),
        "both endings"
    );
    for nothing in ["routes: {a: [b]}", "tools:", "{}"] {
        assert!(
            load(&[("a.yaml", nothing)])
                .unwrap_err()
                .to_string()
                .contains("no tools defined"),
            "{nothing}"
        );
    }
    assert!(
        load(&[("a.yaml", "# nothing")])
            .unwrap_err()
            .to_string()
            .contains("EOF")
    );
    assert!(
        load(&[("a.json", "tools: []")])
            .unwrap_err()
            .to_string()
            .contains("no YAML files found in directory")
    );
    assert!(
        load(&[("a.yaml", "kind: AsyncActor")])
            .unwrap_err()
            .to_string()
            .contains("a manifest in place")
    );
}

#[test]
fn names_that_no_envelope_can_have_are_told_with_their_places() {
    let long = "x".repeat(1025);
    let file = format!(
        "tools:\n- {{name: \"x\\0y\", route: [a]}}\n- {{name: {long}, route: [a]}}\n- {{name: t, route: [\"a\\0\"]}}\n- {{name: u, route: [{long}]}}\n"
    );
    let report = load(&[("tools.yaml", &file)]).unwrap_err().to_string();
    for expected in [
        "tools.yaml:2:10: tools[0].name: tool name cannot hold U+0000",
        "tools.yaml:3:10: tools[1].name: tool name is longer than 1024 bytes",
        "tool \"t\": invalid route: an actor's name cannot hold U+0000",
        "tool \"u\": invalid route: an actor's name is longer than 1024 bytes",
    ] {
        assert!(report.contains(expected), "{expected}: {report}");
    }
    assert!(!report.contains('\0'), "{report:?}");
}

#[test]
fn a_directory_is_merged_before_it_is_checked() {
    let tools = load(&[
        (
            "1.yaml",
            "{tools: [{name: one, route: shared}], defaults: {timeout: 1, progress: true}}",
        ),
        ("2.yaml", "{routes: {shared: [a, b]}, defaults: {timeout: 2}}"),
        ("3.yaml", "tools: [{name: two, route: [c]}]"),
    ]);
    let tools = tools.unwrap();
    assert_eq!(tools.get("one").unwrap().route(), ["a", "b"]);
    assert_eq!(tools.get("two").unwrap().timeout, Some(Duration::from_secs(2)));
    assert!(
        !tools.get("one").unwrap().progress,
        "the last defaults replace the earlier ones wholesale"
    );
    let problems = load(&[
        (
            "1.yaml",
            "{tools: [{name: one, route: shared}], routes: {shared: [a]}}",
        ),
        (
            "2.yaml",
            "{tools: [{name: one, route: [a]}], routes: {shared: [a]}}",
        ),
    ]);
    let problems = problems.unwrap_err();
    let report = problems.to_string();
    assert_eq!(problems.len(), 2);
    assert!(
        report.contains("duplicate tool name across configs: \"one\""),
        "{report}"
    );
    assert!(
        report.contains("duplicate route template across configs: \"shared\""),
        "{report}"
    );
    assert!(
        problems
            .iter()
            .all(|problem| problem.location.file.ends_with(PathBuf::from("2.yaml")))
    );
}

fn rejected(tool: &Tool, arguments: &str) -> String {
    tool.arguments(arguments)
        .expect_err("the arguments have mistakes")
        .to_string()
}

#[test]
fn every_mistake_in_the_arguments_is_told_at_once() {
    let tool = tool(
        "parameters: {a: {type: string, required: true}, b: {type: integer}, c: {type: boolean}, \
         d: {type: array, items: {type: number}}, e: {type: object, properties: {x: {type: string, required: true}}}, \
         f: {type: string, options: [on, off]}}, additionalProperties: false",
    );
    assert_eq!(
        rejected(
            &tool,
            r#"{"b":1.5,"c":"true","d":[1,"2"],"e":{},"f":"maybe","g":1}"#
        ),
        "missing required parameter: a; parameter b: expected an integer, got a number; \
         parameter c: expected a boolean, got a string; parameter d[1]: expected a number, got a string; \
         missing required parameter: e.x; parameter f: must be one of \"on\", \"off\"; unknown parameter: g"
    );
    assert_eq!(
        rejected(&tool, r#"{"a":null}"#),
        "parameter a: expected a string, got null"
    );
    assert_eq!(rejected(&tool, "null"), "missing required parameter: a");
    assert_eq!(rejected(&tool, "[1]"), "the arguments must be a JSON object");
    for broken in ["", "{", "{\"a\":}", "{} x", "{'a':1}"] {
        assert!(
            rejected(&tool, broken).starts_with("the arguments are not JSON: "),
            "{broken}"
        );
    }
    let deep = format!(
        "{{\"a\":\"x\",\"d\":{}{}}}",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        rejected(&tool, &deep),
        "parameter d[0]: expected a number, got an array"
    );
}

#[test]
fn good_arguments_pass_byte_for_byte() {
    let tool = tool("parameters: {n: {type: integer}, x: {type: number}, o: {type: object}}");
    for arguments in [
        r#"{"n":123456789012345678901234567890}"#,
        r#"{ "x" : 1e400, "n":1.0 , "z":[ 1,2 ] }"#,
        r#"{"n":1e2,"n":-7}"#,
        r#"{"o":{"deep":[[[]]]},"é":"\ud800"}"#,
        "{}",
        "null",
    ] {
        let passed = tool
            .arguments(arguments)
            .unwrap_or_else(|problems| panic!("{arguments}: {problems}"));
        assert!(
            matches!(passed, Cow::Borrowed(text) if text == arguments),
            "{passed}"
        );
    }
}

#[test]
fn defaults_are_inserted_and_nothing_else_changes() {
    let tool = tool(
        "parameters: {mode: {type: string, default: fast}, o: {type: object, properties: {n: {type: number, default: 2}}}, \
         l: {type: array, items: {type: object, properties: {k: {type: boolean, default: true}}}}}",
    );
    for (arguments, payload) in [
        ("null", r#"{"mode":"fast"}"#),
        ("{}", r#"{"mode":"fast"}"#),
        (r#"{"mode":"slow"}"#, r#"{"mode":"slow"}"#),
        (r#"{"x":1e400 }"#, r#"{"x":1e400 ,"mode":"fast"}"#),
        (
            r#" {"o":{},"l":[{},{"k":false},{"a":1}]} "#,
            r#"{"o":{"n":2},"l":[{"k":true},{"k":false},{"a":1,"k":true}],"mode":"fast"}"#,
        ),
    ] {
        assert_eq!(tool.arguments(arguments).unwrap(), payload, "{arguments}");
    }
}

#[test]
fn options_compare_as_values() {
    let tool = tool(
        "parameters: {n: {type: number, enum: [1, 9007199254740993]}, s: {type: string, enum: [1, \"é\"]}}",
    );
    for good in [
        r#"{"n":1}"#,
        r#"{"n":1.0}"#,
        r#"{"n":9007199254740993}"#,
        r#"{"s":"1"}"#,
        r#"{"s":"\u00e9"}"#,
    ] {
        assert!(tool.arguments(good).is_ok(), "{good}");
    }
    for bad in [r#"{"n":9007199254740992}"#, r#"{"n":2}"#, r#"{"s":"e"}"#] {
        assert!(rejected(&tool, bad).contains("must be one of"), "{bad}");
    }
}

#[test]
fn a_refusal_never_repeats_what_was_sent() {
    let tool = tool("parameters: {s: {type: string, enum: [a]}, n: {type: number}}");
    assert!(!rejected(&tool, r#"{"s":"secret","n":"secret"}"#).contains("secret"));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// What passes is JSON, holds every member that was sent, and has the default.
    #[test]
    fn completed_arguments_hold_what_was_sent(members in prop::collection::btree_map("[a-zé\"\\\\ ]{0,3}", any::<i64>(), 0..5)) {
        let tool = tool("parameters: {missing: {type: integer, default: 5}}");
        let sent = serde_json::to_string_pretty(&members).unwrap();
        let payload: Value = serde_json::from_str(&tool.arguments(&sent).unwrap()).unwrap();
        let mut expected = json!(members);
        expected["missing"] = json!(5);
        prop_assert_eq!(payload, expected);
    }

    #[test]
    fn arbitrary_arguments_never_panic(sent in "[{}\\[\\]\",:0-9a-z\\\\ é-]{0,40}") {
        let tool = tool("parameters: {a: {type: array, items: {type: object}}, b: {type: integer, default: 1}}");
        if let Ok(payload) = tool.arguments(&sent) {
            prop_assert!(serde_json::from_str::<serde::de::IgnoredAny>(&payload).is_ok());
        }
    }
}
