//! What the program says about itself and its configuration, without serving.

use serde_json::Value;

use crate::setup::{Place, run};

/// With this alone the configuration is good.
const LOCAL: (&str, &str) = ("ASYA_TRANSPORT", "local");

#[test]
fn help_lists_every_variable_with_exit_codes_and_examples() {
    let help = run(&["--help"], &[]);
    assert_eq!(help.code, Some(0));
    let markdown = run(&["--markdown"], &[]).output;
    let names: std::collections::BTreeSet<_> = markdown
        .split('`')
        .filter(|word| word.starts_with("ASYA_") && word.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'))
        .collect();
    assert!(names.len() > 50, "{names:?}");
    for name in names {
        assert!(help.output.contains(name), "{name}");
    }
    for text in [
        "Exit codes",
        "Examples",
        "130, 143",
        "migrate",
        "openapi",
        "ASYA_TRANSPORT=local",
    ] {
        assert!(help.output.contains(text), "{text}");
    }
    assert!(!help.output.contains('\u{1b}'), "no colour where no terminal is");
}

#[test]
fn check_finds_all_mistakes_of_variables_and_tool_files_at_once() {
    let place = Place::new();
    place.write(
        "a.yaml",
        "tools:\n- name: one\n  route: missing\n- {name: two, rout: [x]}\n",
    );
    let path = place.text("a.yaml");
    let variables = [
        LOCAL,
        ("ASYA_CONFIG_PATH", path.as_str()),
        ("ASYA_GATEWAY_BIND", "somewhere"),
        ("ASYA_DATABASE_URL", "mysql://me:hush@host/db"),
        ("ASYA_DB_MAX_CONNS", "many"),
        ("ASYA_DATABSE_MIRROR", "true"),
    ];
    let text = run(&["--check"], &variables);
    assert_eq!(text.code, Some(1), "{}", text.output);
    for line in [
        "warning: ASYA_DB_MAX_CONNS: \"many\" cannot be used; expected a whole number from 1 to 1000; using the default, 10",
        "warning: ASYA_DATABSE_MIRROR: not known and without effect; did you mean ASYA_DATABASE_MIRROR?",
        "error: ASYA_GATEWAY_BIND: ",
        "error: ASYA_DATABASE_URL: ",
        "a.yaml:3:",
        "a.yaml:4:",
    ] {
        assert!(text.output.contains(line), "{line:?} in {}", text.output);
    }
    assert!(!text.output.contains("hush"), "{}", text.output);

    let json = run(&["--check", "--json"], &variables);
    assert_eq!(json.code, Some(1));
    let report: Value = serde_json::from_str(&json.output).unwrap();
    assert_eq!(report["good"], false);
    assert_eq!(report["variables"].as_array().unwrap().len(), 2, "{report:#}");
    assert_eq!(report["warnings"].as_array().unwrap().len(), 2, "{report:#}");
    let lines: Vec<_> = report["tools"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| &it["line"])
        .collect();
    assert!(
        lines.contains(&&Value::from(3)) && lines.contains(&&Value::from(4)),
        "{report:#}"
    );
}

#[test]
fn check_of_a_good_configuration_says_so_and_touches_nothing() {
    let place = Place::new();
    let variables = place.variables(&[LOCAL]);
    let variables: Vec<_> = variables.iter().map(|(a, b)| (a.as_str(), b.as_str())).collect();
    let good = run(&["--check"], &variables);
    assert_eq!(
        (good.code, good.output.as_str()),
        (Some(0), "the configuration is good\n")
    );
    let json: Value = serde_json::from_str(&run(&["--check", "--json"], &variables).output).unwrap();
    assert_eq!(json["good"], true);
    assert!(!place.path("state").exists(), "nothing was made");
}

#[test]
fn the_configuration_is_printed_without_secrets() {
    let shown = run(
        &["--print-config"],
        &[
            ("ASYA_RABBITMQ_URL", "amqp://me:hush@broker/v"),
            ("ASYA_DATABASE_URL", "host=db user=me password=hush dbname=x"),
            ("ASYA_AUTH_SIDECAR_TOKEN", "hush-hush-hush-hush"),
            ("ASYA_GATEWAY_PORT", "81"),
        ],
    );
    assert_eq!(shown.code, Some(0));
    let shown: Value = serde_json::from_str(&shown.output).unwrap();
    assert_eq!(shown["ASYA_RABBITMQ_URL"], "amqp://broker/v");
    assert_eq!(shown["ASYA_DATABASE_URL"], "***");
    assert_eq!(shown["ASYA_AUTH_SIDECAR_TOKEN"], "***");
    assert_eq!(shown["ASYA_GATEWAY_PORT"], "81");
}

#[test]
fn unknown_options_and_commands_are_told() {
    for arguments in [
        &["--chekc"][..],
        &["serve"],
        &["--json"],
        &["key"],
        &["key", "a b"],
    ] {
        let ended = run(arguments, &[LOCAL]);
        assert_eq!(ended.code, Some(2), "{arguments:?}: {}", ended.output);
    }
}

#[test]
fn the_openapi_document_is_printed() {
    let printed = run(&["openapi"], &[]);
    assert_eq!(printed.code, Some(0));
    let document: Value = serde_json::from_str(&printed.output).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3."));
    assert!(document["paths"]["/tools/call"]["post"].is_object());
}

#[test]
fn a_made_key_is_one_that_the_check_accepts() {
    let made = run(
        &[
            "key", "alice", "--role", "client", "--role", "sidecar", "--tenant", "blue",
        ],
        &[],
    );
    assert_eq!(made.code, Some(0));
    let lines: Vec<_> = made
        .output
        .lines()
        .filter(|line| !line.starts_with('#'))
        .collect();
    let [token, line] = lines[..] else {
        panic!("{lines:?}")
    };
    assert!(!line.contains(token), "only its hash is written down");
    let place = Place::new();
    place.write("keys", line);
    let keys = place.text("keys");
    let checked = run(
        &["--check"],
        &[LOCAL, ("ASYA_AUTH", "keys"), ("ASYA_AUTH_KEYS_FILE", &keys)],
    );
    assert_eq!(
        (checked.code, checked.output.as_str()),
        (Some(0), "the configuration is good\n")
    );
}
