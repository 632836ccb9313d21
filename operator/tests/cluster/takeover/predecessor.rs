//! A namespace and a virtual host as the Go operator left them (contract operator §6 to §9): everything is written whole,
//! under the name of its binary.

use asya_tests::kube::Cluster;
use asya_tests::rabbitmq::Broker;
use asya_tests::wait_for;
use axum::http::Method;
use serde_json::{Value, json};

use crate::setup::{self, Person};

/// What the actors' users once wrote and will remove.
pub(super) const REMOVED: [&str; 2] = ["OLD_SETTING", "old-cache"];

/// See the module.
pub(super) struct Predecessor<'a> {
    cluster: &'static Cluster,
    person: &'a Person,
    vhost: &'a str,
}

/// Members of the registry, beside host, ports and virtual host, with which it ran.
pub(super) fn registry() -> Value {
    json!({
        "passwordSecretRef": {"name": "rabbitmq-secret", "key": "password"},
        "queues": {"autoCreate": true, "dlq": {"enabled": true, "maxRetryCount": 3}},
    })
}

impl<'a> Predecessor<'a> {
    /// With the broker's Secret and the runtime script, which also holds a key of somebody else's.
    pub(super) fn new(cluster: &'static Cluster, person: &'a Person, vhost: &'a str) -> Self {
        let this = Self {
            cluster,
            person,
            vhost,
        };
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "rabbitmq-secret"},
            "stringData": {"username": "guest", "password": "guest"},
        });
        person.create(&person.path("v1", "secrets", ""), &secret);
        this.write(&json!({
            "apiVersion": "v1", "kind": "ConfigMap",
            "metadata": {"name": "asya-runtime", "labels": {
                "app.kubernetes.io/name": "asya-runtime",
                "app.kubernetes.io/component": "asya-runtime",
                "app.kubernetes.io/part-of": "asya",
            }},
            "data": {"asya_runtime.py": "print('the old runtime')\n"},
        }));
        let script = person.path("v1", "configmaps", "asya-runtime");
        person.merge(&script, &json!({"data": {"notes.txt": "somebody's"}}));
        this
    }

    /// Creates an object as the Go operator did.
    fn write(&self, object: &Value) -> Value {
        let arguments = [
            "create",
            "--field-manager=manager",
            "--namespace",
            &self.person.namespace,
            "--output=json",
            "--filename=-",
        ];
        serde_json::from_str(&self.cluster.kubectl_with(&arguments, &object.to_string())).unwrap()
    }

    /// An actor with every default in its stored `spec`, as a full update by a typed client left it, and a status of
    /// stale conditions; also its queue.
    pub(super) fn actor(&self, name: &str, kind: &str, is_scaled: bool, replicas: u32) -> Value {
        let mut object = setup::actor(name, "rabbitmq", &spec(kind, is_scaled, replicas));
        object["metadata"]["finalizers"] = json!(["asya.sh/finalizer"]);
        let actor = self.write(&object);
        let path = format!("{}/status?fieldManager=manager", self.person.actor_path(name));
        let status = json!({"status": self.status(&actor, kind, is_scaled)});
        self.person
            .send(
                Method::PATCH,
                &path,
                "application/merge-patch+json",
                Some(&status),
            )
            .unwrap();
        self.queue(name);
        actor
    }

    fn status(&self, actor: &Value, kind: &str, is_scaled: bool) -> Value {
        let name = actor["metadata"]["name"].as_str().unwrap();
        let generation = &actor["metadata"]["generation"];
        let condition = |kind: &str, status: &str, reason: &str, message: &str| {
            json!({"type": kind, "status": status, "reason": reason, "message": message,
                "lastTransitionTime": "2025-01-02T03:04:05Z", "observedGeneration": generation})
        };
        let workload = match kind {
            "Deployment" => condition("WorkloadReady", "False", "PodsNotHealthy", "No pods found"),
            _ => condition(
                "WorkloadReady",
                "False",
                "ReconcileError",
                "StatefulSet support not yet implemented",
            ),
        };
        let mut conditions = vec![
            condition(
                "TransportReady",
                "True",
                "TransportValidated",
                "Transport configuration is valid",
            ),
            workload,
        ];
        if is_scaled {
            conditions.push(condition(
                "ScalingReady",
                "True",
                "ScaledObjectCreated",
                "KEDA ScaledObject created",
            ));
        }
        let mut status = json!({
            "conditions": conditions, "status": "WorkloadError", "observedGeneration": generation,
            "replicas": 0, "readyReplicas": 0, "totalReplicas": 0, "desiredReplicas": 1, "pendingReplicas": 0,
            "failingPods": 0, "readyReplicasSummary": "0/0", "replicasSummary": "0/1", "readySummary": "2/3",
            "transportStatus": "Ready", "scalingMode": if is_scaled { "KEDA" } else { "Manual" },
            "lastScaleFormatted": "3d ago (up)", "lastScaleDirection": "up", "lastScaleTime": "2025-01-02T03:04:05Z",
            "workloadRef": {
                "apiVersion": "apps/v1", "kind": "Deployment", "name": name, "namespace": self.person.namespace,
            },
        });
        if is_scaled {
            status["scaledObjectRef"] = json!({"name": name, "namespace": self.person.namespace});
        }
        status
    }

    /// The Deployment of an actor. With scaling the Go operator left `spec.replicas` alone, so that it is `replicas` only
    /// after scaling was switched on.
    pub(super) fn deployment(&self, actor: &Value, replicas: u32) -> Value {
        let name = actor["metadata"]["name"].as_str().unwrap();
        let labels = selector(name);
        self.write(&json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": name, "ownerReferences": owner(actor)},
            "spec": {
                "replicas": replicas,
                "selector": {"matchLabels": labels},
                "template": Self::template(actor, &labels),
            },
        }))
    }

    fn template(actor: &Value, labels: &Value) -> Value {
        let user = &actor["spec"]["workload"]["template"];
        let mut runtime = user["spec"]["containers"][0].clone();
        runtime["command"] = json!(["python3", "/opt/asya/asya_runtime.py"]);
        append(
            &mut runtime["env"],
            json!([{"name": "ASYA_SOCKET_DIR", "value": "/var/run/asya"}]),
        );
        append(
            &mut runtime["volumeMounts"],
            json!([
                {"name": "socket-dir", "mountPath": "/var/run/asya"},
                {"name": "tmp", "mountPath": "/tmp"},
                {"name": "asya-runtime", "mountPath": "/opt/asya/asya_runtime.py", "subPath": "asya_runtime.py", "readOnly": true},
            ]),
        );
        let test = "test -S /var/run/asya/asya-runtime.sock && test -f /var/run/asya/runtime-ready";
        for (probe, delay, period, timeout, failures) in [
            ("startupProbe", 3, 2, 3, 150),
            ("livenessProbe", 0, 30, 5, 3),
            ("readinessProbe", 0, 10, 3, 3),
        ] {
            runtime[probe] = json!({
                "exec": {"command": ["sh", "-c", test]}, "initialDelaySeconds": delay, "periodSeconds": period,
                "timeoutSeconds": timeout, "failureThreshold": failures,
            });
        }
        let mut volumes = user["spec"]["volumes"].clone();
        append(
            &mut volumes,
            json!([
                {"name": "socket-dir", "emptyDir": {}},
                {"name": "tmp", "emptyDir": {}},
                {"name": "asya-runtime", "configMap": {"name": "asya-runtime", "defaultMode": 0o755}},
            ]),
        );
        let mut all = user["metadata"]["labels"].clone();
        for (key, value) in labels.as_object().unwrap() {
            all[key] = value.clone();
        }
        json!({
            "metadata": {"creationTimestamp": null, "labels": all},
            "spec": {
                "containers": [runtime, sidecar(actor["metadata"]["name"].as_str().unwrap())],
                "volumes": volumes,
                "terminationGracePeriodSeconds": 30,
            },
        })
    }

    /// The `ScaledObject` of an actor and its `TriggerAuthentication`.
    pub(super) fn scaler(&self, actor: &Value) -> Value {
        let name = actor["metadata"]["name"].as_str().unwrap();
        let reference =
            |parameter: &str| json!({"parameter": parameter, "name": "rabbitmq-secret", "key": parameter});
        self.write(&json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "TriggerAuthentication",
            "metadata": {"name": format!("{name}-trigger-auth"), "ownerReferences": owner(actor)},
            "spec": {"secretTargetRef": [reference("username"), reference("password")]},
        }));
        let policy = |kind: &str, value: u32| json!({"type": kind, "value": value, "periodSeconds": 60});
        let behavior = json!({
            "scaleDown": {"stabilizationWindowSeconds": 300, "selectPolicy": "Max", "policies": [policy("Pods", 1)]},
            "scaleUp": {
                "stabilizationWindowSeconds": 0, "selectPolicy": "Max",
                "policies": [policy("Pods", 10), policy("Percent", 100)],
            },
        });
        let port = Broker::shared().port;
        self.write(&json!({
            "apiVersion": "keda.sh/v1alpha1", "kind": "ScaledObject",
            "metadata": {
                "name": name, "ownerReferences": owner(actor),
                "annotations": {"asya.sh/source-generation": actor["metadata"]["generation"].to_string()},
            },
            "spec": {
                "scaleTargetRef": {"name": name},
                "minReplicaCount": 0, "maxReplicaCount": 50, "pollingInterval": 10, "cooldownPeriod": 60,
                "triggers": [{
                    "type": "rabbitmq",
                    "metadata": {
                        "queueName": format!("asya-{name}"), "mode": "QueueLength", "value": "5", "protocol": "amqp",
                        "host": format!("amqp://127.0.0.1:{port}"),
                    },
                    "authenticationRef": {"name": format!("{name}-trigger-auth")},
                }],
                "advanced": {"horizontalPodAutoscalerConfig": {"behavior": behavior}},
            },
        }))
    }

    /// The queue of an actor and its dead letters, as AMQP declares them without further words: classic ones.
    fn queue(&self, name: &str) {
        let declare = |queue: &str, arguments: Value| {
            let body = json!({"durable": true, "auto_delete": false, "arguments": arguments});
            Broker::shared().manage(
                "PUT",
                &format!("/api/queues/{}/{queue}", self.vhost),
                &body.to_string(),
            );
        };
        declare(&format!("asya-{name}-dlq"), json!({}));
        let dead_letters = json!({
            "x-dead-letter-exchange": "", "x-dead-letter-routing-key": format!("asya-{name}-dlq"),
        });
        declare(&format!("asya-{name}"), dead_letters);
    }

    /// Publishes to an exchange (`amq.default` is the nameless one); fails unless the message was routed.
    pub(super) fn publish(&self, exchange: &str, key: &str) {
        publish(self.vhost, exchange, key);
    }

    /// Waits until a queue holds so many messages.
    pub(super) fn wait_messages(&self, queue: &str, count: u32) -> Value {
        wait_messages(self.vhost, queue, count)
    }

    /// Names of the queues that exist.
    pub(super) fn queues(&self) -> Vec<String> {
        queues(self.vhost)
    }
}

/// Publishes a persistent message; fails unless it was routed.
pub(crate) fn publish(vhost: &str, exchange: &str, key: &str) {
    let message = json!({
        "properties": {"delivery_mode": 2}, "routing_key": key, "payload": "{}", "payload_encoding": "string",
    });
    let path = format!("/api/exchanges/{vhost}/{exchange}/publish");
    let answer = Broker::shared().manage("POST", &path, &message.to_string());
    assert!(
        answer.contains("true"),
        "{exchange} {key} was not routed: {answer}"
    );
}

/// Waits until a queue holds so many messages; gives what the broker tells of it.
pub(crate) fn wait_messages(vhost: &str, queue: &str, count: u32) -> Value {
    wait_for(&format!("{count} messages in {queue}"), || {
        let text = Broker::shared().manage("GET", &format!("/api/queues/{vhost}/{queue}"), "");
        let told: Value = serde_json::from_str(&text).unwrap();
        (told["messages"] == count).then_some(told)
    })
}

/// Names of the queues of a virtual host.
pub(crate) fn queues(vhost: &str) -> Vec<String> {
    let told = Broker::shared().manage("GET", &format!("/api/queues/{vhost}"), "");
    let told: Vec<Value> = serde_json::from_str(&told).unwrap();
    told.iter()
        .map(|queue| queue["name"].as_str().unwrap().to_owned())
        .collect()
}

/// The three labels of a selector.
pub(super) fn selector(name: &str) -> Value {
    json!({"app": name, "asya.sh/asya": name, "asya.sh/workload": "deployment"})
}

/// A stored `spec`; the null came from the typed client.
pub(super) fn spec(kind: &str, is_scaled: bool, replicas: u32) -> Value {
    let container = json!({
        "name": "asya-runtime", "image": "example/worker:1",
        "env": [{"name": "ASYA_HANDLER", "value": "worker.run"}, {"name": REMOVED[0], "value": "1"}],
        "resources": {"limits": {"cpu": "1", "memory": "1Gi"}},
        "volumeMounts": [{"name": REMOVED[1], "mountPath": "/cache"}],
    });
    json!({
        "scaling": {
            "enabled": is_scaled, "minReplicas": 0, "maxReplicas": 50, "pollingInterval": 10, "cooldownPeriod": 60,
            "queueLength": 5,
        },
        "sidecar": {"imagePullPolicy": "IfNotPresent", "resources": {}},
        "timeout": {"processing": 300, "gracefulShutdown": 30},
        "workload": {
            "kind": kind, "pythonExecutable": "python3", "replicas": replicas,
            "template": {
                "metadata": {"creationTimestamp": null, "labels": {"team": "models"}},
                "spec": {"containers": [container], "volumes": [{"name": REMOVED[1], "emptyDir": {}}]},
            },
        },
    })
}

fn sidecar(name: &str) -> Value {
    let literal = |name: &str, value: &str| json!({"name": name, "value": value});
    let port = Broker::shared().port.to_string();
    let password = json!({
        "name": "ASYA_RABBITMQ_PASSWORD",
        "valueFrom": {"secretKeyRef": {"name": "rabbitmq-secret", "key": "password"}},
    });
    json!({
        "name": "asya-sidecar", "image": "example/go-sidecar:1", "imagePullPolicy": "IfNotPresent", "resources": {},
        "env": [
            literal("ASYA_LOG_LEVEL", "info"),
            literal("ASYA_GATEWAY_URL", ""),
            literal("ASYA_ACTOR_NAME", name),
            literal("ASYA_ACTOR_HAPPY_END", "happy-end"),
            literal("ASYA_ACTOR_ERROR_END", "error-end"),
            literal("ASYA_RUNTIME_TIMEOUT", "300s"),
            literal("ASYA_TRANSPORT", "rabbitmq"),
            literal("ASYA_RABBITMQ_HOST", "127.0.0.1"),
            literal("ASYA_RABBITMQ_PORT", &port),
            literal("ASYA_RABBITMQ_USERNAME", "guest"),
            password,
            literal("ASYA_QUEUE_AUTO_CREATE", "true"),
            literal("ASYA_SOCKET_DIR", "/var/run/asya"),
        ],
        "volumeMounts": [
            {"name": "socket-dir", "mountPath": "/var/run/asya"},
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    })
}

fn owner(actor: &Value) -> Value {
    json!([{
        "apiVersion": "asya.sh/v1alpha1", "kind": "AsyncActor", "name": actor["metadata"]["name"],
        "uid": actor["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
    }])
}

fn append(list: &mut Value, more: Value) {
    if let (Value::Array(list), Value::Array(more)) = (list, more) {
        list.extend(more);
    }
}
