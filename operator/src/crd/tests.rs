//! The definition, what is committed of it, and the converter.

use std::collections::BTreeSet;
use std::path::Path;

use asya_manifest::check_object;

use super::*;

/// Compares a committed file with what it should be; writes it anew when `ASYA_UPDATE` is set.
fn is_current(file: &str, generate: impl FnOnce(&str) -> String) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file);
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    let generated = generate(&written);
    if std::env::var_os("ASYA_UPDATE").is_some() {
        std::fs::write(&path, &generated).unwrap();
        return;
    }
    assert!(
        written == generated,
        "{file} is out of date: run `ASYA_UPDATE=1 cargo test -p asya-operator --lib crd`"
    );
}

#[test]
fn the_committed_definition_is_the_generated_one() {
    is_current("charts/asya-operator/crds/asya.sh_asyncactors.yaml", |_| {
        crate::yaml::document(&definition()).unwrap()
    });
}

#[test]
fn the_tables_of_the_page_are_the_generated_ones() {
    is_current("docs/crd.md", |page| {
        let mut page = page.to_owned();
        for part in markdown().split("\n<!-- begin ") {
            let part = part.trim_start_matches("<!-- begin ");
            let name = part.split(' ').next().unwrap();
            let (begin, end) = (format!("<!-- begin {name} -->"), format!("<!-- end {name} -->"));
            let from = page
                .find(&begin)
                .unwrap_or_else(|| panic!("the page has a part {name}"));
            let to = page.find(&end).unwrap() + end.len();
            page.replace_range(from..to, &format!("<!-- begin {}", part.trim_end()));
        }
        page
    });
}

/// The page says of no field that it becomes a variable which it does not become, and forgets none.
#[test]
fn the_variables_of_the_page_are_those_of_the_spec() {
    let spec = json!({
        "transport": "rabbitmq",
        "timeout": {"processing": 5},
        "retry": {
            "maxAttempts": 2, "initialBackoff": "1s", "maxBackoff": "2s", "multiplier": 3, "jitter": 0.1,
            "maxDuration": "1h", "on": ["A"], "neverOn": ["B"], "maxDeliveries": 4,
        },
        "runtime": {"workers": 2, "concurrency": 3, "batch": {"size": 4, "wait": "1s"}, "stream": false},
        "limits": {"messageSize": 10, "hops": 11},
        "workload": {"template": {}},
    });
    let spec: Spec = serde_json::from_value(spec).unwrap();
    let variables = spec
        .sidecar_variables()
        .into_iter()
        .chain(spec.runtime_variables());
    let made: BTreeSet<&str> = variables.map(|(name, _)| name).collect();
    let listed = markdown::VARIABLES
        .iter()
        .filter(|(_, container, _)| *container != "pod");
    let listed: BTreeSet<&str> = listed.map(|(.., variable)| *variable).collect();
    assert_eq!(listed, made);
    for (field, ..) in markdown::VARIABLES {
        let path = field.split('.').fold(
            String::from("/spec/versions/0/schema/openAPIV3Schema/properties/spec"),
            |path, key| path + "/properties/" + key,
        );
        assert!(definition().pointer(&path).is_some(), "{field} is a field");
    }
}

/// What no server would take, and what would make fields vanish on it.
#[test]
fn the_schema_is_structural() {
    fn check(schema: &Value, path: &str) {
        const UNKNOWN: [&str; 9] = [
            "$ref",
            "$schema",
            "$defs",
            "anyOf",
            "oneOf",
            "allOf",
            "const",
            "nullable",
            "additionalItems",
        ];
        for keyword in UNKNOWN {
            assert_eq!(schema.get(keyword), None, "{path}: {keyword}");
        }
        let typed = schema.get("type").is_some_and(Value::is_string);
        let untyped = [
            "x-kubernetes-int-or-string",
            "x-kubernetes-preserve-unknown-fields",
        ];
        assert!(
            typed || untyped.iter().any(|keyword| schema[keyword] == true),
            "{path} has a type"
        );
        assert!(
            schema["type"] != "array" || schema["items"].is_object(),
            "{path} has items"
        );
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            check(property, &format!("{path}.{name}"));
        }
        for inner in ["items", "additionalProperties"] {
            if let Some(inner) = schema.get(inner) {
                check(inner, &format!("{path}[]"));
            }
        }
    }
    check(
        &definition()["spec"]["versions"][0]["schema"]["openAPIV3Schema"],
        "",
    );
}

#[test]
fn a_manifest_of_the_earliest_days_becomes_an_actor_of_today() {
    let older = "\
apiVersion: asya.sh/v1alpha1
kind: Asya
metadata:
  name: worker
  uid: 5d2f
spec:
  transport: rabbitmq
  socket: {path: /tmp/sockets/app.sock}
  sidecar:
    env:
    - {name: ASYA_STEP_HAPPY_END, value: done}
    - {name: ASYA_SOCKETS_DIR, value: /tmp/sockets}
  scaling: {enabled: yes, advanced: {triggers: []}}
  workload:
    type: StatefulSet
    template:
      spec:
        containers:
        - name: asya-runtime
          image: example/worker:1
          env:
          - {name: ASYA_HANDLER, value: worker.run}
          - {name: ASYA_SOCKET_PATH, value: /tmp/sockets/app.sock}
          - {name: PORT, value: 8080}
          volumeMounts:
          - {name: sockets, mountPath: /tmp/sockets}
status: {phase: Running}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: settings}
";
    let converted = convert(older).unwrap();
    let expected = "\
# Changed:
# - kind: Asya is now AsyncActor
# - status: removed, it is the operator's
# - metadata.uid: removed, it is the server's
# - spec.socket: removed, it never had an effect
# - spec.scaling.advanced.triggers: removed, it never had an effect
# - spec.workload.type: StatefulSet is now spec.workload.kind
# - spec.sidecar: variable ASYA_SOCKETS_DIR removed, the operator sets where the socket is
# - spec.sidecar: variable ASYA_STEP_HAPPY_END is now ASYA_ACTOR_HAPPY_END
# - container asya-runtime: variable ASYA_SOCKET_PATH removed, the operator sets where the socket is
# - container asya-runtime: the value of variable PORT is now the text \"8080\"
# - container asya-runtime: mount /tmp/sockets removed, the operator mounts the socket's volume
apiVersion: asya.sh/v1alpha1
kind: AsyncActor
";
    assert!(converted.starts_with(expected), "{converted}");
    let documents = asya_manifest::documents(Path::new("converted"), &converted).unwrap();
    let [actor, other] = documents.as_slice() else {
        panic!("{converted}")
    };
    assert_eq!(check_object("worker", &actor["spec"]), [""; 0]);
    assert_eq!(actor["spec"]["scaling"]["enabled"], true, "as kubectl reads it");
    assert_eq!(other["kind"], "ConfigMap");
    let again = convert(&converted).unwrap();
    assert!(
        !again.contains("# Changed"),
        "an actor of today stays as it is: {again}"
    );
}

#[test]
fn what_conversion_cannot_mend_is_said() {
    let text = "\
apiVersion: asya.sh/v1alpha1
kind: AsyaList
items:
- apiVersion: asya.sh/v1alpha1
  kind: Asya
  metadata: {name: asya-worker}
  spec:
    transport: rabbitmq
    workload: {kind: Job, type: StatefulSet, template: {spec: {containers: []}}}
";
    let converted = convert(text).unwrap();
    for part in [
        "# Left to mend:\n",
        "# - metadata.name: actor names must not start with `asya-`; name it \"worker\"",
        "# - spec.workload.type: type StatefulSet contradicts kind Job; remove `type`",
        "found 0; name the container",
    ] {
        assert!(converted.contains(part), "{part:?}: {converted}");
    }
    let report = convert("a: [").unwrap_err().to_string();
    assert!(report.starts_with("input:2:1: not valid YAML"), "{report}");
    assert_eq!(convert("").unwrap(), "");
}
