//! Values that cannot be meant: refused by the schema or the templates, with words that help.

use crate::setup::{Values, template};

/// Chart, values, and what the refusal must say.
const REFUSED: &[(&str, &str, &[&str])] = &[
    (
        "asya-operator",
        "replicasCount: 2",
        &["replicasCount", "not allowed"],
    ),
    (
        "asya-operator",
        "transports: {rabbitmq: {config: {hots: x}}}",
        &["/transports/rabbitmq/config", "hots"],
    ),
    (
        "asya-operator",
        "transports: {rabbitmq: {config: {password: x}}}",
        &["/transports/rabbitmq/config", "password"],
    ),
    (
        "asya-operator",
        "transports: {mine: {type: kafka}}",
        &["/transports/mine/type", "rabbitmq", "sqs"],
    ),
    (
        "asya-operator",
        "transports: {mine: {enabled: true}}",
        &["/transports/mine", "type"],
    ),
    (
        "asya-operator",
        "image: {digest: latest}",
        &["/image/digest", "sha256"],
    ),
    (
        "asya-operator",
        "gatewayTokenSecretRef: {name: x}",
        &["/gatewayTokenSecretRef", "key"],
    ),
    (
        "asya-operator",
        "gatewayURL: asya-gateway",
        &["/gatewayURL", "https?"],
    ),
    (
        "asya-operator",
        "controller: {queueHealthCheckInterval: 5 minutes}",
        &["/controller/queueHealthCheckInterval"],
    ),
    (
        "asya-operator",
        "sidecar: {mode: Native}",
        &["/sidecar/mode", "container", "native"],
    ),
    (
        "asya-operator",
        "watchNamespaces: [a]",
        &["controller.clusterName must be set"],
    ),
    (
        "asya-operator",
        "metrics: {enabled: false, serviceMonitor: {enabled: true}}",
        &["metrics.serviceMonitor.enabled needs metrics.enabled"],
    ),
    (
        "asya-operator",
        "transports: {rabbitmq: {config: {queues: {nameTemplate: 'asya-{namespace}-{actor}'}}}}",
        &["/transports/rabbitmq/config/queues", "nameTemplate"],
    ),
    (
        "asya-gateway",
        "postgresql: {enabled: true}",
        &["postgresql.auth.existingSecret", "postgresql.auth.password"],
    ),
    (
        "asya-gateway",
        "replicaCount: 3",
        &["SQLite", "externalDatabase.host", "postgresql.enabled"],
    ),
    (
        "asya-gateway",
        "autoscaling: {enabled: true}",
        &["autoscaling.enabled needs PostgreSQL"],
    ),
    (
        "asya-gateway",
        "{auth: {mode: keys}, replicaCount: 2}",
        &["auth.mode keys needs auth.keysSecretRef", "replicaCount is 2"],
    ),
    ("asya-gateway", "auth: {mode: oidc}", &["auth.oidc.issuer"]),
    (
        "asya-gateway",
        "{postgresql: {enabled: true}, externalDatabase: {host: db}}",
        &["exclude each other"],
    ),
    (
        "asya-gateway",
        "routes: {tools: [{name: x}]}",
        &["/routes/tools/0", "route"],
    ),
    (
        "asya-gateway",
        "config: {rabbitmqUrl: x}",
        &["/config", "rabbitmqUrl"],
    ),
    (
        "asya-gateway",
        "config: {rabbitmqURL: 'http://x'}",
        &["/config/rabbitmqURL"],
    ),
    ("asya-crew", "{transport: ''}", &["happy-end.transport is empty"]),
    ("asya-crew", "happy_end: {enabled: false}", &["happy_end"]),
    (
        "asya-crew",
        "happy-end: {scaling: {min: 1}}",
        &["/happy-end/scaling", "min"],
    ),
    ("asya-actor", "actors: [{nam: x}]", &["/actors/0", "name", "nam"]),
    ("asya-actor", "{name: a, actors: [{name: b}]}", &["not both"]),
    ("asya-actor", "name: Hello_World", &["/name", "Hello_World"]),
    (
        "asya-actor",
        "scaling: {minReplicas: two}",
        &["/scaling/minReplicas"],
    ),
];

#[test]
fn what_cannot_be_meant_is_refused_with_its_place() {
    for (chart, values, words) in REFUSED {
        let file = Values::of(values);
        let Some(said) = template(chart, &["--values", file.path()]) else {
            return;
        };
        assert!(!said.success, "{chart} takes {values}");
        for word in *words {
            assert!(
                said.error.contains(word),
                "{chart} {values}: no {word:?} in: {}",
                said.error
            );
        }
    }
}

#[test]
fn a_secret_reference_can_be_taken_away_again() {
    let text = "transports: {rabbitmq: {config: {passwordSecretRef: null}}}";
    let file = Values::of(text);
    let Some(said) = template("asya-operator", &["--values", file.path()]) else {
        return;
    };
    let rendered = said.unwrap();
    assert!(!rendered.contains("passwordSecretRef"), "{rendered}");
    assert!(
        !rendered.contains("resources: [secrets]"),
        "no Secret is named, so none may be read"
    );
}
