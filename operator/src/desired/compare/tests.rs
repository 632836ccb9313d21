//! What counts as drift, case by case. That nothing counts which a real API server makes of our own objects is tested
//! against one.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::contains;

fn pod(container: &Value) -> Value {
    json!({ "spec": { "containers": [container] } })
}

#[test]
fn what_the_api_server_adds_and_rewrites_is_no_drift() {
    let table = [
        (
            json!({"spec": {"replicas": 1, "revisionHistoryLimit": 10}, "status": {}}),
            json!({"spec": {"replicas": 1}}),
        ),
        (
            json!({"metadata": {"name": "a", "uid": "1"}}),
            json!({"apiVersion": "v1", "kind": "X", "metadata": {"name": "a"}}),
        ),
        (
            pod(&json!({"name": "a"})),
            pod(&json!({"name": "a", "env": [], "command": [], "resources": {}, "tty": false})),
        ),
        (
            pod(&json!({"name": "a", "env": [{"name": "E"}]})),
            pod(&json!({"name": "a", "env": [{"name": "E", "value": ""}]})),
        ),
        (
            pod(&json!({"name": "a", "stdin": true})),
            pod(&json!({"name": "a", "stdin": null})),
        ),
        (
            pod(&json!({"name": "a", "resources": {"limits": {"memory": "1Gi", "cpu": "500m"}}})),
            pod(&json!({"name": "a", "resources": {"limits": {"memory": "1024Mi", "cpu": 0.5}}})),
        ),
        (
            json!({"spec": {"containers": [{"name": "other"}, {"name": "b"}, {"name": "a", "image": "x"}]}}),
            json!({"spec": {"containers": [{"name": "a", "image": "x"}, {"name": "b"}]}}),
        ),
        (
            pod(
                &json!({"name": "a", "ports": [{"containerPort": 80, "protocol": "UDP"}, {"containerPort": 80, "protocol": "TCP", "name": "http"}]}),
            ),
            pod(&json!({"name": "a", "ports": [{"containerPort": 80, "name": "http"}]})),
        ),
        (
            json!({"spec": {"triggers": [{"type": "a", "useCachedMetrics": false}]}}),
            json!({"spec": {"triggers": [{"type": "a"}]}}),
        ),
        (json!({"spec": {"x": 1}}), json!({"spec": {"x": 1.0}})),
        (
            json!({"spec": {"strategy": {"type": "Recreate"}}}),
            json!({"spec": {"strategy": {"type": "Recreate", "rollingUpdate": null}}}),
        ),
        (
            json!({"spec": {"emptyDir": {"sizeLimit": "1536Mi"}}}),
            json!({"spec": {"emptyDir": {"sizeLimit": "1.5Gi"}}}),
        ),
    ];
    for (live, desired) in table {
        assert_eq!(contains(&live, &desired), None, "{live} {desired}");
    }
}

#[test]
#[expect(clippy::too_many_lines, reason = "a table")]
fn what_another_hand_changed_is_found_where_it_stands() {
    let table = [
        (
            json!({"spec": {"replicas": 2}}),
            json!({"spec": {"replicas": 1}}),
            "spec.replicas",
        ),
        (
            json!({"spec": {}}),
            json!({"spec": {"replicas": 1}}),
            "spec.replicas",
        ),
        (json!({}), json!({"spec": {"replicas": 1}}), "spec"),
        (
            pod(&json!({"name": "a", "image": "y"})),
            pod(&json!({"name": "a", "image": "x"})),
            "spec.containers[a].image",
        ),
        (
            pod(&json!({"name": "b"})),
            pod(&json!({"name": "a"})),
            "spec.containers[a]",
        ),
        (
            pod(&json!({"name": "a", "command": ["sh"]})),
            pod(&json!({"name": "a", "command": []})),
            "spec.containers[a].command",
        ),
        (
            pod(&json!({"name": "a", "args": ["1", "2"]})),
            pod(&json!({"name": "a", "args": ["2", "1"]})),
            "spec.containers[a].args[0]",
        ),
        (
            pod(&json!({"name": "a", "args": ["1"]})),
            pod(&json!({"name": "a", "args": ["1", "2"]})),
            "spec.containers[a].args",
        ),
        (
            pod(&json!({"name": "a", "env": [{"name": "E", "value": "2"}]})),
            pod(&json!({"name": "a", "env": [{"name": "E", "value": "1"}]})),
            "spec.containers[a].env[E].value",
        ),
        (
            pod(&json!({"name": "a", "resources": {"limits": {"memory": "1Gi"}}})),
            pod(&json!({"name": "a", "resources": {"limits": {"memory": "1G"}}})),
            "spec.containers[a].resources.limits.memory",
        ),
        (
            pod(&json!({"name": "a", "ports": [{"containerPort": 80, "protocol": "UDP"}]})),
            pod(&json!({"name": "a", "ports": [{"containerPort": 80}]})),
            "spec.containers[a].ports[80/TCP]",
        ),
        (
            json!({"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 2}]}}),
            json!({"spec": {"topologySpreadConstraints": [{"topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 1}]}}),
            "spec.topologySpreadConstraints[zone,DoNotSchedule].maxSkew",
        ),
        (
            json!({"spec": {"selector": {"a": "1", "b": "2"}}}),
            json!({"spec": {"selector": {"a": "1"}}}),
            "spec.selector.b",
        ),
        (
            json!({"spec": {"selector": {"matchLabels": {"a": "1", "b": "2"}}}}),
            json!({"spec": {"selector": {"matchLabels": {"a": "1"}}}}),
            "spec.selector.matchLabels.b",
        ),
        (
            json!({"spec": {"nodeSelector": {"a": "1", "b": "2"}}}),
            json!({"spec": {"nodeSelector": {"a": "1"}}}),
            "spec.nodeSelector.b",
        ),
        (
            json!({"data": {"a": "1Gi"}}),
            json!({"data": {"a": "1024Mi"}}),
            "data.a",
        ),
        (
            json!({"metadata": {"annotations": {}}}),
            json!({"metadata": {"annotations": {"a": "1"}}}),
            "metadata.annotations.a",
        ),
        (
            json!({"spec": {"triggers": [{"type": "a"}, {"type": "b"}]}}),
            json!({"spec": {"triggers": [{"type": "a"}]}}),
            "spec.triggers",
        ),
        (
            json!({"spec": {"port": "80"}}),
            json!({"spec": {"port": 80}}),
            "spec.port",
        ),
        (
            json!({"spec": {"size": {}}}),
            json!({"spec": {"size": "x"}}),
            "spec.size",
        ),
    ];
    for (live, desired, path) in table {
        assert_eq!(
            contains(&live, &desired).as_deref(),
            Some(path),
            "{live} {desired}"
        );
    }
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "containers",
        "env",
        "ports",
        "name",
        "limits",
        "selector",
        "nodeSelector",
        "a",
        "sizeLimit"
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i32..3).prop_map(Value::from),
        prop_oneof!["", "a", "1", "1Gi", "1024Mi"].prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 24, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..4).prop_map(|map| json!(map)),
        ]
    })
}

proptest! {
    #[test]
    fn every_object_holds_itself(value in any_json()) {
        // Two elements of one key are no object that an API server would hold.
        let has_twins = value.to_string().matches("\"name\"").count() > 1 || value.to_string().contains("ontainerPort");
        prop_assume!(!has_twins);
        prop_assert_eq!(contains(&value, &value), None);
    }

    #[test]
    fn every_comparison_ends(live in any_json(), desired in any_json()) {
        contains(&live, &desired);
    }
}
