//! Pods of the examples as YAML, and what holds for any pod.

use std::collections::BTreeMap;

use asya_manifest::{Spec, documents};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::desired::{Defaults, Facts, Script};
use crate::registry::{Registry, read};
use crate::yaml;

/// Everything that one pod follows from.
struct Scene {
    actor: Actor,
    transport: &'static str,
    defaults: Defaults,
    facts: Facts,
    labels: BTreeMap<String, String>,
}

impl Scene {
    fn new(name: &str, spec: Spec) -> Self {
        let actor = Actor {
            name: name.to_owned(),
            namespace: "prod".to_owned(),
            uid: "6d3a".to_owned(),
            generation: 1,
            annotations: BTreeMap::new(),
            labels: BTreeMap::new(),
            is_deleting: false,
            spec,
        };
        let script = Script {
            text: asya_runtime_protocol::PYTHON_RUNTIME.to_owned(),
            hash: "0123456789abcdef".to_owned(),
        };
        Self {
            labels: [
                ("app", name),
                ("asya.sh/asya", name),
                ("asya.sh/workload", "deployment"),
            ]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into(),
            actor,
            transport: "rabbitmq",
            defaults: Defaults {
                sidecar_image: "example/asya-sidecar:1".to_owned(),
                sidecar_resources: Some(json!({"requests": {"cpu": "50m"}})),
                sidecar_security: hardened(),
                sidecar_mode: SidecarMode::Container,
                gateway_url: "http://asya-gateway.asya:8080".to_owned(),
                script,
                disruption_budgets: true,
                manages_queues: true,
            },
            facts: Facts {
                server_minor: 34,
                ..Facts::default()
            },
        }
    }

    /// An actor whose pod has this spec.
    fn of(name: &str, pod: &Value) -> Self {
        Self::reading(
            name,
            &json!({"transport": "rabbitmq", "workload": {"template": {"spec": pod}}}),
        )
    }

    fn reading(name: &str, spec: &Value) -> Self {
        Self::new(name, serde_json::from_value(spec.clone()).unwrap())
    }

    fn on(mut self, transport: &'static str) -> Self {
        self.transport = transport;
        self
    }

    fn annotated(mut self, key: &str, value: &str) -> Self {
        self.actor
            .annotations
            .insert(format!("asya.sh/{key}"), value.to_owned());
        self
    }

    fn template(&self) -> Result<Value, DesiredError> {
        let registry = registry();
        let inputs = Inputs {
            actor: &self.actor,
            transport: registry.find(self.transport).unwrap(),
            defaults: &self.defaults,
            facts: &self.facts,
        };
        template(&inputs, &self.labels)
    }

    fn pod(&self) -> Value {
        self.template().unwrap()
    }

    fn refusal(&self) -> String {
        self.template().unwrap_err().to_string()
    }
}

fn registry() -> Registry {
    let key = |key: &str| json!({"name": "broker", "key": key});
    let text = json!({"transports": {
        "rabbitmq": {"type": "rabbitmq", "enabled": true, "config": {
            "host": "rabbitmq", "username": "asya", "passwordSecretRef": key("password")}},
        "rabbitmq-tls": {"type": "rabbitmq", "enabled": true, "config": {
            "host": "rabbitmq", "vhost": "team", "tls": true, "exchange": "events",
            "queues": {"autoCreate": false, "dlq": {"enabled": true, "maxRetryCount": 7}}}},
        "sqs": {"type": "sqs", "enabled": true, "config": {
            "region": "eu-west-1", "accountId": "123456789012", "actorRoleArn": "arn:aws:iam::1:role/actors"}},
        "sqs-keys": {"type": "sqs", "enabled": true, "config": {
            "region": "eu-west-1", "accountId": "000000000000", "endpoint": "http://localstack:4566",
            "visibilityTimeout": 60, "waitTimeSeconds": 5, "credentials": {
                "accessKeyIdSecretRef": key("access-key-id"), "secretAccessKeySecretRef": key("secret-access-key")}}},
    }});
    read(&text.to_string()).unwrap().0
}

/// A pod with nothing but the runtime.
fn small() -> Value {
    json!({"containers": [{"name": "asya-runtime", "image": "app", "env": [{"name": "ASYA_HANDLER", "value": "a.b"}]}]})
}

fn examples() -> Vec<Scene> {
    let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/kubernetes");
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    files.retain(|file| file.extension().is_some_and(|extension| extension == "yaml"));
    files.sort();
    let documents = files
        .iter()
        .flat_map(|file| documents(file, &std::fs::read_to_string(file).unwrap()).unwrap());
    let scene =
        |document: Value| Scene::reading(document["metadata"]["name"].as_str().unwrap(), &document["spec"]);
    documents.map(scene).collect()
}

fn container<'a>(pod: &'a Value, name: &str) -> &'a Value {
    ["containers", "initContainers"]
        .iter()
        .filter_map(|list| pod["spec"][list].as_array())
        .flatten()
        .find(|container| container["name"] == name)
        .unwrap()
}

fn environment(container: &Value) -> BTreeMap<&str, &str> {
    let entries = container["env"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| {
            (
                lists::text(entry, "name").unwrap(),
                lists::text(entry, "value").unwrap_or(""),
            )
        })
        .collect()
}

#[test]
fn the_pods_of_the_examples() {
    let examples = examples();
    assert!(examples.len() >= 11, "those of the contract: {}", examples.len());
    for scene in examples {
        insta::assert_snapshot!(scene.actor.name.clone(), yaml::document(&scene.pod()).unwrap());
    }
}

#[test]
fn the_sidecars_of_each_transport() {
    for transport in ["rabbitmq", "rabbitmq-tls", "sqs", "sqs-keys"] {
        let pod = Scene::of("worker", &small()).on(transport).pod();
        let name = format!("sidecar-on-{transport}");
        insta::assert_snapshot!(name, yaml::document(container(&pod, "asya-sidecar")).unwrap());
    }
}

#[test]
fn a_pod_with_a_native_sidecar() {
    let mut pod = small();
    pod["initContainers"] = json!([{"name": "fetch", "image": "curl"}]);
    let scene = Scene::of("worker", &pod).annotated("sidecar-mode", "native");
    insta::assert_snapshot!("native-sidecar", yaml::document(&scene.pod()).unwrap());
}

#[test]
fn a_pod_of_an_end_actor() {
    let pod = Scene::of("error-end", &small()).pod();
    insta::assert_snapshot!("error-end", yaml::document(&pod).unwrap());
    let pod = Scene::of("happy-end", &small()).pod();
    assert_eq!(
        environment(container(&pod, "asya-sidecar"))["ASYA_IS_END_ACTOR"],
        "true"
    );
    assert_eq!(
        environment(container(&pod, "asya-runtime"))["ASYA_ENABLE_VALIDATION"],
        "false"
    );
}

#[test]
fn what_the_user_set_stays() {
    let spec = json!({
        "transport": "rabbitmq",
        "workload": {"template": {
            "metadata": {
                "labels": {"app": "mine", "asya.sh/asya": "other", "team": "a"},
                "annotations": {"note": "kept"},
                "futureField": {"deep": [1, 2]},
            },
            "spec": {
                "serviceAccountName": "mine",
                "terminationGracePeriodSeconds": 5,
                "volumes": [{"name": "scratch", "emptyDir": {"medium": "Memory"}}],
                "containers": [
                    {"name": "helper", "image": "b", "command": ["sleep"], "env": [
                        {"name": "LEVEL", "value": "1"}, {"name": "LEVEL", "value": "2"}]},
                    {"name": "asya-runtime", "image": "a", "args": ["--fast"],
                        "livenessProbe": {"tcpSocket": {"port": 1}},
                        "lifecycle": {"preStop": {"exec": {"command": ["/mine"]}}},
                        "volumeMounts": [{"name": "scratch", "mountPath": "/tmp/"}],
                        "env": [
                            {"name": "ASYA_SOCKET_DIR", "value": "/elsewhere"},
                            {"name": "PATHS", "value": "/a"},
                            {"name": "PATHS", "value": "$(PATHS):/b"}]},
                ],
            },
        }},
    });
    let mut scene = Scene::reading("worker", &spec);
    scene.labels.remove("app");
    insta::assert_snapshot!("overrides", yaml::document(&scene.pod()).unwrap());
}

#[test]
fn the_sidecars_own_variables_win_and_its_probes_follow_them() {
    let spec = |env: Value| json!({"transport": "rabbitmq", "sidecar": {"env": env}, "workload": {"template": {"spec": small()}}});
    let env = json!([{"name": "ASYA_LOG_LEVEL", "value": "debug"}, {"name": "ASYA_METRICS_ADDR", "value": ":9100"}]);
    let pod = Scene::reading("worker", &spec(env)).pod();
    let sidecar = container(&pod, "asya-sidecar");
    assert_eq!(environment(sidecar)["ASYA_LOG_LEVEL"], "debug");
    assert_eq!(
        sidecar["readinessProbe"]["httpGet"],
        json!({"path": "/readyz", "port": 9100})
    );
    let env = json!([{"name": "ASYA_METRICS_ENABLED", "value": "false"}]);
    let pod = Scene::reading("worker", &spec(env)).pod();
    let sidecar = container(&pod, "asya-sidecar");
    assert!(sidecar.get("readinessProbe").is_none() && sidecar.get("ports").is_none());
}

#[test]
fn the_gateway_of_the_operator_wins_over_that_of_the_runtime() {
    let mut pod = small();
    let env = pod["containers"][0]["env"].as_array_mut().unwrap();
    env.push(json!({"name": "ASYA_GATEWAY_URL", "value": "http://mine"}));
    let mut scene = Scene::of("worker", &pod);
    let url = |scene: &Scene| {
        let pod = scene.pod();
        environment(container(&pod, "asya-sidecar"))["ASYA_GATEWAY_URL"].to_owned()
    };
    assert_eq!(url(&scene), "http://asya-gateway.asya:8080");
    scene.defaults.gateway_url = String::new();
    assert_eq!(url(&scene), "http://mine");
    let mut scene = Scene::of("worker", &small());
    scene.defaults.gateway_url = String::new();
    assert_eq!(url(&scene), "");
}

#[test]
fn grace_is_long_enough_for_one_call_unless_it_is_set() {
    for (timeout, grace, sidecar, runtime) in [
        (json!({}), 330, "325s", "328s"),
        (json!({"processing": 0}), 330, "325s", "328s"),
        (json!({"processing": 7200}), 7230, "7225s", "7228s"),
        (json!({"gracefulShutdown": 30}), 30, "25s", "28s"),
        (json!({"gracefulShutdown": 0, "processing": 10}), 40, "35s", "38s"),
        (json!({"gracefulShutdown": 3}), 3, "2s", "3s"),
        (json!({"gracefulShutdown": 1}), 1, "1s", "1s"),
        (
            json!({"processing": u32::MAX}),
            u32::MAX,
            "4294967290s",
            "4294967293s",
        ),
    ] {
        let spec =
            json!({"transport": "rabbitmq", "timeout": timeout, "workload": {"template": {"spec": small()}}});
        let pod = Scene::reading("worker", &spec).pod();
        assert_eq!(pod["spec"]["terminationGracePeriodSeconds"], grace, "{timeout}");
        assert_eq!(
            environment(container(&pod, "asya-sidecar"))["ASYA_SHUTDOWN_GRACE"],
            sidecar,
            "{timeout}"
        );
        assert_eq!(
            environment(container(&pod, "asya-runtime"))["ASYA_SHUTDOWN_GRACE"],
            runtime,
            "{timeout}"
        );
    }
}

#[test]
fn a_script_without_the_option_gets_no_hook() {
    let mut scene = Scene::of("worker", &small());
    let command = json!(["python3", "/opt/asya/asya_runtime.py", "--drain"]);
    assert_eq!(
        container(&scene.pod(), "asya-runtime")["lifecycle"]["preStop"]["exec"]["command"],
        command
    );
    scene.defaults.script.text = "print('an older one')".to_owned();
    assert!(container(&scene.pod(), "asya-runtime").get("lifecycle").is_none());
}

#[test]
fn a_sidecar_runs_as_the_user_of_its_pod_unless_that_is_root() {
    for (user, expected) in [
        (json!(5000), Value::Null),
        (json!(0), json!(1000)),
        (Value::Null, json!(1000)),
    ] {
        let mut pod = small();
        pod["securityContext"] = json!({"runAsUser": user});
        let pod = Scene::of("worker", &pod).pod();
        let context = &container(&pod, "asya-sidecar")["securityContext"];
        assert_eq!(
            (&context["runAsUser"], &context["runAsNonRoot"]),
            (&expected, &json!(true)),
            "{user}"
        );
    }
}

#[test]
fn jobs_end_by_themselves_beside_a_native_sidecar() {
    for (scaling, until) in [(false, "empty"), (true, "one")] {
        let spec = json!({
            "transport": "rabbitmq",
            "scaling": {"enabled": scaling},
            "workload": {"kind": "Job", "template": {"spec": small()}},
        });
        let pod = Scene::reading("worker", &spec).pod();
        assert_eq!(pod["spec"]["restartPolicy"], "OnFailure");
        let sidecar = &pod["spec"]["initContainers"][0];
        assert_eq!(
            (&sidecar["name"], &sidecar["restartPolicy"]),
            (&json!("asya-sidecar"), &json!("Always"))
        );
        assert_eq!(environment(sidecar)["ASYA_RUN_UNTIL"], until);
        let runtime = environment(container(&pod, "asya-runtime"))["ASYA_RUN_UNTIL"];
        assert_eq!(runtime, "done");
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_field_and_the_remedy() {
    let job = |pod: &Value| {
        Scene::reading(
            "worker",
            &json!({"transport": "rabbitmq", "workload": {"kind": "Job", "template": {"spec": pod}}}),
        )
    };
    let mut always = small();
    always["restartPolicy"] = json!("Always");
    let mut old = Scene::of("worker", &small()).annotated("sidecar-mode", "native");
    old.facts.server_minor = 28;
    let mut own_account = small();
    own_account["serviceAccountName"] = json!("mine");
    for (scene, words) in [
        (
            Scene::of("worker", &small()).annotated("sidecar-mode", "sideways"),
            vec!["asya.sh/sidecar-mode", "sideways", "native"],
        ),
        (
            job(&small()).annotated("sidecar-mode", "container"),
            vec!["asya.sh/sidecar-mode", "Job", "native"],
        ),
        (job(&always), vec!["restartPolicy", "Always", "OnFailure"]),
        (old, vec!["1.29", "1.28"]),
        (
            Scene::of("worker", &own_account).on("sqs"),
            vec!["serviceAccountName", "mine", "actorRoleArn"],
        ),
        (
            Scene::of("worker", &json!("text")),
            vec!["spec.workload.template.spec", "object"],
        ),
        (
            Scene::of("worker", &json!({"containers": 5})),
            vec!["containers", "list"],
        ),
        (
            Scene::of("worker", &json!({"containers": [{"name": "other"}]})),
            vec!["containers", "asya-runtime"],
        ),
        (
            Scene::of(
                "worker",
                &json!({"containers": [{"name": "asya-runtime", "env": "x"}]}),
            ),
            vec!["asya-runtime", "env", "list"],
        ),
        (
            Scene::of(
                "worker",
                &json!({"volumes": {}, "containers": small()["containers"]}),
            ),
            vec!["volumes", "list"],
        ),
    ] {
        let refusal = scene.refusal();
        for word in words {
            assert!(refusal.contains(word), "{word:?} in {refusal:?}");
        }
    }
}

/// JSON that nobody knows, for fields that nobody knows.
fn unknown() -> impl Strategy<Value = Map<String, Value>> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        ".{0,8}".prop_map(Value::from),
    ];
    let value = leaf.prop_recursive(3, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-z]{1,6}", inner, 0..4).prop_map(|map| map.into_iter().collect()),
        ]
    });
    prop::collection::btree_map("x[a-zA-Z]{1,8}", value, 0..6).prop_map(|map| map.into_iter().collect())
}

fn entries() -> impl Strategy<Value = Vec<(String, String)>> {
    let value = prop::collection::vec(
        prop_oneof![
            Just("$(A)"),
            Just("$(B)"),
            Just("$(C)"),
            Just("$$"),
            Just("$"),
            Just("x"),
            Just("("),
            Just("A)")
        ],
        0..5,
    );
    prop::collection::vec(("[ABC]", value.prop_map(|parts| parts.concat())), 0..8)
}

fn list(entries: &[(String, String)]) -> Vec<Value> {
    entries
        .iter()
        .map(|(name, value)| json!({"name": name, "value": value}))
        .collect()
}

/// What a kubelet makes of an environment.
fn kubelet(environment: &[Value]) -> BTreeMap<String, String> {
    let mut known: BTreeMap<String, String> = BTreeMap::new();
    for entry in environment {
        let (mut out, mut rest) = (String::new(), entry["value"].as_str().unwrap());
        while let Some(at) = rest.find('$') {
            out.push_str(&rest[..at]);
            let after = &rest[at + 1..];
            let reference = after.strip_prefix('(').and_then(|inner| inner.split_once(')'));
            rest = match (after.strip_prefix('$'), reference) {
                (Some(tail), _) => {
                    out.push('$');
                    tail
                }
                (None, Some((name, tail))) => {
                    let unknown = format!("$({name})");
                    out.push_str(known.get(name).unwrap_or(&unknown));
                    tail
                }
                (None, None) => {
                    out.push('$');
                    after
                }
            };
        }
        out.push_str(rest);
        known.insert(entry["name"].as_str().unwrap().to_owned(), out);
    }
    known
}

proptest! {
    #[test]
    fn unknown_fields_pass_through_and_twice_is_once(
        pod in unknown(), runtime in unknown(), helper in unknown(), metadata in unknown(), variables in entries(),
        native in any::<bool>(), kind in prop::sample::select(vec!["Deployment", "StatefulSet", "Job"]),
    ) {
        let mut first = runtime.clone();
        first.extend([("name".into(), "asya-runtime".into()), ("env".into(), list(&variables).into())]);
        let mut second = helper.clone();
        second.extend([("name".into(), "helper".into()), ("env".into(), list(&variables).into())]);
        let mut spec = pod.clone();
        spec.insert("containers".into(), json!([first, second]));
        let mut scene = Scene::reading("worker", &json!({
            "transport": "rabbitmq",
            "workload": {"kind": kind, "template": {"metadata": metadata, "spec": spec}},
        }));
        if native {
            scene = scene.annotated("sidecar-mode", "native");
        }
        let made = scene.pod();
        for (before, after) in [
            (&pod, &made["spec"]), (&metadata, &made["metadata"]),
            (&runtime, container(&made, "asya-runtime")), (&helper, container(&made, "helper")),
        ] {
            for (key, value) in before {
                prop_assert_eq!(&after[key], value);
            }
        }
        for name in ["asya-runtime", "helper", "asya-sidecar"] {
            let list = container(&made, name)["env"].as_array().unwrap();
            prop_assert_eq!(environment(container(&made, name)).len(), list.len(), "names are unique");
        }
        scene.actor.spec.workload.template.metadata = made["metadata"].clone();
        scene.actor.spec.workload.template.spec = made["spec"].clone();
        prop_assert_eq!(scene.pod(), made);
    }

    #[test]
    fn a_merged_environment_means_the_same(variables in entries()) {
        let defined = ["A", "B", "C"].map(|name| (name.to_owned(), String::from("0")));
        let before = list(&[&defined, variables.as_slice()].concat());
        let mut after = before.clone();
        lists::merge_environment(&mut after);
        prop_assert_eq!(after.len(), 3);
        prop_assert_eq!(kubelet(&after), kubelet(&before));
    }
}
