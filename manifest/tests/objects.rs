//! Objects that an API server holds: the same rules, without lines.

use asya_manifest::{check_document, check_object, documents, ineffective_fields};
use proptest::prelude::*;
use serde_json::{Value, json};
use std::path::Path;

/// A spec as a server stores it, with these containers.
fn with(containers: &Value) -> Value {
    json!({
        "transport": "rabbitmq",
        "scaling": {
            "enabled": false, "minReplicas": 0, "maxReplicas": 50, "pollingInterval": 10, "cooldownPeriod": 60,
            "queueLength": 5,
        },
        "sidecar": {"imagePullPolicy": "IfNotPresent"},
        "timeout": {"processing": 300},
        "workload": {
            "kind": "Deployment", "replicas": 1, "pythonExecutable": "python3", "runtime": "python",
            "template": {"spec": {"containers": containers}},
        },
    })
}

fn said(containers: &Value) -> Vec<String> {
    check_object("worker", &with(containers))
}

const CONTAINERS: &str = "spec.workload.template.spec.containers";

#[test]
fn the_four_rules_have_the_words_that_people_look_for() {
    let runtime = json!({"name": "asya-runtime"});
    let sidecar = json!({"name": "asya-sidecar"});
    assert_eq!(said(&json!([runtime])), [""; 0], "the image may bring a handler");

    let lines = said(&json!([sidecar]));
    assert_eq!(
        lines,
        [
            format!(
                "{CONTAINERS}[0].name: the container name `asya-sidecar` is reserved; remove it: the sidecar is added \
                 by itself; see spec.sidecar"
            ),
            format!(
                "{CONTAINERS}: expected exactly one container named `asya-runtime`, found 0; name the container that \
                 holds the handler `asya-runtime`"
            ),
        ],
        "the reserved name comes first"
    );

    let mut spec = with(&json!([runtime]));
    spec["workload"]["template"]["spec"]["initContainers"] = json!([sidecar]);
    let lines = check_object("worker", &spec);
    assert!(
        lines[0].contains("the init container name `asya-sidecar` is reserved"),
        "{lines:?}"
    );

    let lines = said(&json!([{"name": "asya-runtime", "command": ["python3"]}]));
    assert!(
        lines[0].contains("the container `asya-runtime` must not set a command"),
        "{lines:?}"
    );
    for container in [
        json!({"name": "asya-runtime", "command": [], "args": ["-v"]}),
        json!({"name": "asya-runtime", "command": null}),
    ] {
        assert_eq!(
            said(&json!([container, {"name": "helper", "command": ["sh"]}])),
            [""; 0]
        );
    }

    let lines = said(&json!([runtime, {"name": "other"}, runtime]));
    assert!(
        lines[0].starts_with(&format!("{CONTAINERS}[2].name: expected exactly one"))
            && lines[0].contains("`asya-runtime`, found 2"),
        "{lines:?}"
    );
}

#[test]
fn what_a_server_has_let_through_is_no_mistake() {
    let containers = json!([{
        "name": "asya-runtime", "fieldOfTomorrow": {"a": 1},
        "env": [{"name": "A", "value": "x", "hint": 1}, {"name": "A", "value": "y"}],
    }]);
    let mut spec = with(&containers);
    spec["fieldOfAnotherVersion"] = json!(5);
    assert_eq!(check_object("worker", &spec), [""; 0]);

    // A native program reads the variable as it likes; a Python one would end when it starts.
    let odd = json!([{"name": "asya-runtime", "env": [
        {"name": "ASYA_HANDLER", "value": "serve"}, {"name": "ASYA_HANDLER_MODE", "value": "raw"},
    ]}]);
    assert_eq!(said(&odd).len(), 2);
    let mut native = with(&odd);
    native["workload"]["runtime"] = json!("native");
    assert_eq!(check_object("worker", &native), [""; 0]);
}

#[test]
fn each_broken_rule_is_one_line() {
    let mut spec = with(&json!([{"name": "asya-runtime", "env": [{"name": "PORT", "value": 8080}]}]));
    spec["timeout"] = json!({"processing": -1});
    spec["scaling"] = json!({"enabled": true, "minReplicas": 9, "maxReplicas": 2});
    spec["sidecar"] = json!({"resources": {"limits": {"cpu": 0.5, "memory": "64MB"}}});
    assert_eq!(
        check_object("asya-x", &spec),
        [
            "spec.timeout.processing: must be at least 0, is -1; give 0 or more",
            "spec.workload.template.spec.containers[0].env[0].value: expected text, found the number 8080; \
             quote it: \"8080\"",
            "metadata.name: actor names must not start with `asya-`; name it \"x\": its queue gets the prefix by itself",
            "spec.scaling.minReplicas: minReplicas 9 is above maxReplicas 2; raise maxReplicas or lower minReplicas",
            "spec.sidecar.resources.limits.cpu: expected a quantity, found the number 0.5; \
             write it like 500m, 2, \"0.5\" or 64Mi",
            "spec.sidecar.resources.limits.memory: expected a quantity, found the text \"64MB\"; \
             write it like 500m, 2, \"0.5\" or 64Mi",
        ],
    );
}

#[test]
fn fields_without_effect_are_named() {
    let mut spec = with(&json!([{"name": "asya-runtime"}]));
    assert_eq!(ineffective_fields(&spec), [""; 0]);
    spec["socket"] = json!({"path": "/tmp/app.sock"});
    spec["scaling"]["advanced"] = json!({"triggers": []});
    assert_eq!(
        ineffective_fields(&spec),
        ["spec.scaling.advanced.triggers", "spec.socket"]
    );
    assert_eq!(check_object("worker", &spec), [""; 0]);
}

#[test]
fn whole_documents_are_checked_as_in_a_file() {
    let document = json!({
        "apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor", "metadata": {"name": "a"},
        "spec": {"transport": "t", "sclaing": {}, "workload": {"template": {"spec": {"containers": [{"name": "asya-runtime"}]}}}},
    });
    let lines = check_document(&document);
    assert!(
        lines[0].contains("spec.sclaing: unknown field; did you mean `scaling`?"),
        "{lines:?}"
    );
    assert!(lines[1].contains("ASYA_HANDLER is missing"), "{lines:?}");
}

#[test]
fn text_is_read_as_kubectl_reads_it() {
    let text = "a: yes\nb: 'yes'\nc: [off, On, 1, x]\n---\n---\nd: ~\n";
    assert_eq!(
        documents(Path::new("in"), text).map_err(|problems| problems.to_string()),
        Ok(vec![
            json!({"a": true, "b": "yes", "c": [false, true, 1, "x"]}),
            json!({"d": null})
        ])
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z-]{0,12}".prop_map(Value::from),
        Just(json!("asya-runtime")),
    ];
    let keys = prop::sample::select(vec![
        "transport",
        "workload",
        "template",
        "spec",
        "containers",
        "name",
        "env",
        "value",
        "command",
        "kind",
        "type",
        "scaling",
        "enabled",
        "minReplicas",
        "retry",
        "on",
        "true",
        "volumes",
        "sidecar",
        "resources",
        "limits",
    ]);
    leaf.prop_recursive(7, 64, 5, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(keys.clone(), inner, 0..6).prop_map(|members| members
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value))
                .collect()),
        ]
    })
}

proptest! {
    /// Whatever stands in a cluster is judged, never stumbled over; what passes can be read.
    #[test]
    fn any_spec_is_judged(spec in any_json(), name in "[a-z.-]{0,70}") {
        let lines = check_object(&name, &spec);
        prop_assert!(lines.iter().all(|line| !line.contains('\n')));
        if lines.is_empty() {
            prop_assert!(serde_json::from_value::<asya_manifest::Spec>(spec).is_ok());
        }
    }
}
