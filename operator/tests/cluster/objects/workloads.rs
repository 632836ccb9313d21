//! Workloads and what stands beside them, case by case.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use asya_operator::desired::{Facts, Kind, Object, TEMPLATE_HASH};
use asya_operator::resource::{ACTOR_LABEL, Actor};
use proptest::prelude::*;
use serde_json::{Value, json};

use super::scenarios::{Scenario, actor, actors};

static SCENARIO: LazyLock<Scenario> = LazyLock::new(|| Scenario::new(actor("hello-actor")));
static ACTORS: LazyLock<BTreeMap<String, Actor>> = LazyLock::new(|| {
    let all = ["usual.yaml", "kinds.yaml"].into_iter().flat_map(actors);
    all.map(|actor| (actor.name.clone(), actor)).collect()
});

fn find(objects: &[Object], kind: Kind) -> Option<&Object> {
    objects.iter().find(|object| object.kind == kind)
}

fn changed(name: &str, change: impl FnOnce(&mut Actor)) -> Scenario {
    let mut actor = actor(name);
    change(&mut actor);
    Scenario::new(actor)
}

#[test]
fn everything_is_labelled_owned_and_in_the_namespace_of_its_actor() {
    for actor in actors("usual.yaml").into_iter().chain(actors("kinds.yaml")) {
        let scenario = Scenario::new(actor);
        let actor = &scenario.actor;
        for object in scenario.objects() {
            let metadata = &object.body["metadata"];
            let (api_version, kind, _) = object.kind.names();
            assert_eq!(
                (&object.body["apiVersion"], &object.body["kind"]),
                (&json!(api_version), &json!(kind))
            );
            assert_eq!(
                (&metadata["name"], &metadata["namespace"]),
                (&json!(object.name), &json!(actor.namespace))
            );
            assert_eq!(metadata["labels"][ACTOR_LABEL], actor.name.as_str());
            assert_eq!(
                metadata["labels"]["app.kubernetes.io/managed-by"],
                "asya-operator"
            );
            assert_eq!(
                metadata["ownerReferences"],
                json!([{
                    "apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor", "name": actor.name, "uid": actor.uid,
                    "controller": true, "blockOwnerDeletion": true,
                }])
            );
            let generation = &metadata["annotations"]["asya.sh/actor-generation"];
            assert_eq!(generation == "7", object.kind.is_workload(), "{:?}", object.kind);
        }
    }
}

#[test]
fn nothing_owns_what_a_dry_run_prints() {
    let objects = changed("hello-actor", |actor| actor.uid.clear()).objects();
    assert_eq!(objects[0].body["metadata"].get("ownerReferences"), None);
}

#[test]
fn replicas_are_written_unless_an_autoscaler_answers_for_them() {
    let table = [
        ("fixed-replicas-actor", false, json!(3)),
        ("fixed-replicas-actor", true, json!(3)),
        ("inference", false, json!(2)),
        ("inference", true, Value::Null),
        ("llm-actor", false, json!(0)),
        ("statefulset-scaled", true, Value::Null),
        ("statefulset-fixed", true, json!(2)),
    ];
    for (name, workload_exists, replicas) in table {
        let mut scenario = Scenario::new(actor(name));
        scenario.facts = Facts {
            workload_exists,
            ..scenario.facts
        };
        let workload = scenario.desired().workload.unwrap().remove(0).body;
        assert_eq!(workload["spec"]["replicas"], replicas, "{name} {workload_exists}");
    }
}

#[test]
fn a_disruption_budget_guards_what_may_have_more_than_one_pod() {
    type Change = fn(&mut Scenario);
    let none: Change = |_| {};
    let table: [(&str, Change, bool); 10] = [
        ("hello-actor", none, false),
        ("fixed-replicas-actor", none, true),
        ("cached-actor", none, true),
        ("preprocess", none, false),
        ("statefulset-fixed", none, true),
        ("job-fixed", none, false),
        ("job-scaled", none, false),
        ("deployment-recreated", none, false),
        (
            "cached-actor",
            |scenario| scenario.defaults.disruption_budgets = false,
            false,
        ),
        (
            "cached-actor",
            |scenario| {
                scenario.defaults.disruption_budgets = false;
                scenario.actor.spec.workload.disruption_budget = Some(true);
            },
            true,
        ),
    ];
    for (name, change, is_there) in table {
        let mut scenario = Scenario::new(actor(name));
        change(&mut scenario);
        let objects = scenario.objects();
        let budget = find(&objects, Kind::PodDisruptionBudget);
        assert_eq!(budget.is_some(), is_there, "{name}");
        if let Some(budget) = budget {
            let workload = objects.iter().find(|object| object.kind.is_workload()).unwrap();
            assert_eq!(budget.body["spec"]["selector"], workload.body["spec"]["selector"]);
        }
    }
    let mut scenario = Scenario::new(actor("cached-actor"));
    scenario.facts.server_minor = 26;
    let objects = scenario.objects();
    let budget = find(&objects, Kind::PodDisruptionBudget).unwrap();
    assert_eq!(
        budget.body["spec"].get("unhealthyPodEvictionPolicy"),
        None,
        "older servers do not know it"
    );
}

#[test]
fn the_selector_is_the_existing_one_or_else_leaves_out_what_the_pods_have_otherwise() {
    let selector = |scenario: &Scenario| {
        let workload = scenario.desired().workload.unwrap().remove(0).body;
        let labels = workload
            .pointer("/spec/template/metadata/labels")
            .unwrap()
            .as_object()
            .unwrap()
            .clone();
        let selector: BTreeMap<String, String> =
            serde_json::from_value(workload.pointer("/spec/selector/matchLabels").unwrap().clone()).unwrap();
        for (key, value) in &selector {
            assert_eq!(labels[key], value.as_str(), "the selector finds the pods");
        }
        (selector, labels)
    };
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
            .collect()
    };
    let (own_app, labels) = selector(&Scenario::new(actor("deployment-recreated")));
    let ours = [
        ("asya.sh/asya", "deployment-recreated"),
        ("asya.sh/workload", "deployment"),
    ];
    assert_eq!(own_app, map(&ours));
    assert_eq!(labels["app"], "another-name");

    let (same_app, _) = selector(&Scenario::new(actor("advanced-scaling-actor")));
    assert_eq!(same_app["app"], "advanced-scaling-actor");

    let (stateful, _) = selector(&Scenario::new(actor("statefulset-fixed")));
    assert_eq!(stateful["asya.sh/workload"], "statefulset");

    let mut scenario = Scenario::new(actor("deployment-recreated"));
    let existing = map(&[("app", "deployment-recreated"), ("team", "old")]);
    scenario.facts = Facts {
        workload_exists: true,
        selector: Some(existing.clone()),
        ..scenario.facts
    };
    assert_eq!(selector(&scenario).0, existing);
}

#[test]
fn a_stateful_set_has_a_service_of_its_name_or_of_the_given_one() {
    for (name, service) in [
        ("statefulset-fixed", "statefulset-fixed"),
        ("statefulset-scaled", "shards"),
    ] {
        let objects = Scenario::new(actor(name)).objects();
        let found = find(&objects, Kind::Service).unwrap();
        let workload = find(&objects, Kind::StatefulSet).unwrap();
        assert_eq!(
            (found.name.as_str(), &workload.body["spec"]["serviceName"]),
            (service, &json!(service))
        );
        assert_eq!(found.body["spec"]["clusterIP"], "None");
        assert_eq!(
            Some(&found.body["spec"]["selector"]),
            workload.body.pointer("/spec/selector/matchLabels")
        );
    }
}

#[test]
fn names_that_kubernetes_would_refuse_later_are_refused_with_a_reason() {
    let service = |name: &str| name.to_owned();
    let table = [
        (
            changed("statefulset-fixed", |actor| actor.name = "1st".to_owned()),
            "spec.workload.serviceName",
        ),
        (
            changed("statefulset-fixed", |actor| actor.name = "a.b".to_owned()),
            "spec.workload.serviceName",
        ),
        (
            changed("statefulset-fixed", |actor| actor.name = "a".repeat(53)),
            "at most 52 characters",
        ),
        (
            changed("statefulset-fixed", |actor| {
                actor.spec.workload.service_name = Some(service("No-"));
            }),
            "\"No-\" is not possible",
        ),
    ];
    for (scenario, expected) in table {
        let desired = scenario.desired();
        let text = desired.workload.unwrap_err().to_string();
        assert!(text.contains(expected), "{text}");
    }
    let longest = changed("statefulset-fixed", |actor| actor.name = "a".repeat(52));
    assert!(longest.desired().workload.is_ok());
    let renamed = changed("statefulset-fixed", |actor| {
        actor.name = "1st".to_owned();
        actor.spec.workload.service_name = Some(service("first"));
    });
    assert!(renamed.desired().workload.is_ok());
}

#[test]
fn a_job_refuses_what_jobs_do_not_have() {
    type Change = fn(&mut Actor);
    let table: [(&str, Change); 3] = [
        ("spec.workload.strategy", |actor| {
            actor.spec.workload.strategy = Some(json!({ "type": "Recreate" }));
        }),
        ("spec.workload.volumeClaimTemplates", |actor| {
            actor.spec.workload.volume_claim_templates = Some(Vec::new());
        }),
        ("spec.workload.template.spec.restartPolicy", |actor| {
            actor.spec.workload.template.spec["restartPolicy"] = "Always".into();
        }),
    ];
    for (path, change) in table {
        for name in ["job-fixed", "job-scaled"] {
            let text = changed(name, change).desired().workload.unwrap_err().to_string();
            assert!(text.starts_with(&format!("{path}: ")), "{text}");
        }
    }
}

#[test]
fn the_hash_of_a_jobs_template_tells_when_it_must_be_made_anew() {
    let hash = |scenario: &Scenario| {
        let job = scenario.desired().workload.unwrap().remove(0).body;
        job["metadata"]["annotations"][TEMPLATE_HASH]
            .as_str()
            .unwrap()
            .to_owned()
    };
    let first = hash(&Scenario::new(actor("job-fixed")));
    let more = hash(&changed("job-fixed", |actor| actor.spec.workload.replicas = 9));
    assert_eq!(first, more, "the number of pods can be changed in place");
    let other = hash(&changed("job-fixed", |actor| {
        actor.spec.workload.template.spec["containers"][0]["image"] = "other".into();
    }));
    assert_ne!(first, other);
}

#[test]
fn an_account_is_made_where_the_transport_or_the_actor_asks_for_one() {
    let role = "arn:aws:iam::123456789012:role/actors";
    let account = |scenario: &Scenario| {
        let desired = scenario.desired();
        let account = find(&desired.common, Kind::ServiceAccount).map(|account| account.body.clone());
        let pod = desired.workload.unwrap()[0]
            .body
            .pointer("/spec/template/spec/serviceAccountName")
            .cloned();
        (account, pod)
    };
    let (object, pod) = account(&Scenario::new(actor("hello-actor")).on("sqs-role"));
    let object = object.unwrap();
    assert_eq!(object["metadata"]["name"], "asya-hello-actor");
    assert_eq!(
        object["metadata"]["annotations"],
        json!({ "eks.amazonaws.com/role-arn": role })
    );
    assert_eq!(pod, Some(json!("asya-hello-actor")));

    let own = |actor: &mut Actor| {
        actor
            .annotations
            .insert("eks.amazonaws.com/role-arn".to_owned(), "arn:own".to_owned());
    };
    let (object, _) = account(&changed("hello-actor", own).on("sqs"));
    assert_eq!(
        object.unwrap()["metadata"]["annotations"]["eks.amazonaws.com/role-arn"],
        "arn:own"
    );
    assert_eq!(
        account(&changed("hello-actor", own).on("rabbitmq")),
        (None, None),
        "RabbitMQ knows no roles"
    );
    assert_eq!(
        account(&Scenario::new(actor("hello-actor")).on("sqs")),
        (None, None)
    );

    let chosen = Scenario::new(actor("fully-configured-actor"));
    assert_eq!(account(&chosen.clone().on("sqs")), (None, Some(json!("chosen"))));
    let desired = chosen.on("sqs-role").desired();
    assert_eq!(find(&desired.common, Kind::ServiceAccount), None);
    let text = desired.workload.unwrap_err().to_string();
    assert!(
        text.contains("\"chosen\"") && text.contains("actorRoleArn") && text.contains(role),
        "{text}"
    );
}

fn any_json() -> impl Strategy<Value = Value> {
    let key = prop_oneof![
        "labels",
        "annotations",
        "containers",
        "initContainers",
        "volumes",
        "env",
        "name",
        "restartPolicy",
        "app",
        "serviceAccountName",
        "[a-z]{1,3}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        prop_oneof!["asya-runtime", "asya-sidecar", "app", "[a-z.]{0,5}"].prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 32, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(key.clone(), inner, 0..4).prop_map(|members| json!(members)),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_template_gives_objects_or_an_error_that_names_a_place(
        metadata in any_json(),
        spec in any_json(),
        name in prop_oneof!["hello-actor", "statefulset-scaled", "job-fixed", "job-scaled"],
        transport in prop_oneof!["rabbitmq", "sqs-role"],
    ) {
        let mut actor = ACTORS[name.as_str()].clone();
        actor.spec.workload.template.metadata = metadata;
        actor.spec.workload.template.spec = spec;
        let scenario = Scenario { actor, ..SCENARIO.clone() }.on(&transport);
        let first = scenario.desired();
        if let Err(error) = &first.workload {
            prop_assert!(error.to_string().starts_with("spec.workload."), "{}", error);
        }
        prop_assert_eq!(first, scenario.desired());
    }

    #[test]
    fn any_scaling_gives_an_object_that_keeps_its_bounds(
        bounds in (0_u32..9, 0_u32..9),
        intervals in (any::<u32>(), any::<u32>()),
        queue_length in any::<u32>(),
    ) {
        let mut scenario = SCENARIO.clone();
        let scaling = &mut scenario.actor.spec.scaling;
        scaling.enabled = true;
        (scaling.min_replicas, scaling.max_replicas) = (bounds.0, bounds.0 + bounds.1);
        (scaling.polling_interval, scaling.cooldown_period) = intervals;
        scaling.queue_length = queue_length;
        let spec = scenario.desired().scaler.unwrap().pop().unwrap().body["spec"].clone();
        prop_assert_eq!(spec["minReplicaCount"].as_u64(), Some(bounds.0.into()));
        prop_assert_eq!(spec["maxReplicaCount"].as_u64(), Some((bounds.0 + bounds.1).into()));
        prop_assert!(spec["pollingInterval"].as_u64() > Some(0) && spec["cooldownPeriod"].as_u64() > Some(0));
        let target: u64 = spec["triggers"][0]["metadata"]["value"].as_str().unwrap().parse().unwrap();
        prop_assert!(target > 0, "KEDA takes no target of 0");
    }
}
