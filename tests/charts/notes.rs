//! What the charts say after an installation: what to type next, and which values were ignored.

use crate::setup::{Values, chart, helm_in, prepared};

/// The notes of a chart with these values, from a dry run on the API server.
fn notes(name: &str, values: &str, release: &str) -> Option<String> {
    let cluster = prepared()?;
    let namespace = cluster.namespace();
    let file = Values::of(values);
    let folder = chart(name);
    let arguments = [
        "install",
        release,
        &folder,
        "--dry-run=server",
        "--namespace",
        &namespace,
        "--values",
        file.path(),
    ];
    let said = helm_in(cluster, &arguments).unwrap();
    let (_, notes) = said.split_once("\nNOTES:\n").expect("there are notes");
    Some(notes.replace(&namespace, "NAMESPACE"))
}

fn contains(notes: &str, words: &[&str]) {
    for word in words {
        assert!(notes.contains(word), "no {word:?} in:\n{notes}");
    }
}

#[test]
fn the_operator_names_the_next_command_the_secrets_and_what_is_missing() {
    let Some(notes) = notes("asya-operator", "{}", "asya-operator") else {
        return;
    };
    insta::assert_snapshot!(notes);
    contains(
        &notes,
        &[
            "rollout status deployment/asya-operator",
            "rabbitmq-secret",
            "KEDA is not in this cluster",
        ],
    );
}

#[test]
fn the_operator_warns_of_older_spellings() {
    let text = "{runtime: {source: github, github: {repo: x}}, gateway: {url: 'http://g'}, operator: {gatewayURL: 'http://h'}}";
    let Some(notes) = notes("asya-operator", text, "asya-operator") else {
        return;
    };
    contains(
        &notes,
        &[
            "no code is fetched from GitHub",
            "`gateway.url` is an old spelling",
            "values under `operator`",
        ],
    );
}

#[test]
fn the_gateway_says_where_it_is_and_what_is_open() {
    let Some(notes) = notes("asya-gateway", "{}", "asya-gateway") else {
        return;
    };
    insta::assert_snapshot!(notes);
    contains(
        &notes,
        &[
            "port-forward service/asya-gateway",
            "auth.mode is none",
            "no NetworkPolicy limits who that is",
            "as guest with the password guest",
            "SQLite",
            "No tool is offered",
        ],
    );
}

#[test]
fn the_gateway_warns_of_ignored_and_of_dangerous_values() {
    let text = "{config: {awsRegion: x, s3Bucket: b, sqsRegion: us-east-1, postgresHost: db, postgresPassword: p}, postgresql: {auth: {password: x}}}";
    let Some(notes) = notes("asya-gateway", text, "asya-gateway") else {
        return;
    };
    let words = [
        "config.awsRegion, config.s3Bucket",
        "the transport is sqs",
        "config.postgresHost is an old spelling",
        "postgresql.auth.password is ignored",
        "externalDatabase.existingSecret keeps it out",
    ];
    contains(&notes, &words);
}

#[test]
fn the_crew_warns_of_names_that_nobody_sends_to() {
    let text = "{happy-end: {name: the-end}, error-end: {enabled: false}}";
    let Some(notes) = notes("asya-crew", text, "asya-crew") else {
        return;
    };
    contains(
        &notes,
        &[
            "happy-end.name is \"the-end\"",
            "error-end is switched off",
            "Results are kept nowhere",
        ],
    );
}

#[test]
fn the_crew_says_when_it_runs_as_python_and_shows_a_secret() {
    let text = "happy-end: {workload: {template: {spec: {containers: [{image: 'asya-crew:dev', env: [{name: AWS_SECRET_ACCESS_KEY, value: x}]}]}}}}";
    let Some(notes) = notes("asya-crew", text, "asya-crew") else {
        return;
    };
    contains(
        &notes,
        &[
            "happy-end runs as Python",
            "AWS_SECRET_ACCESS_KEY of happy-end stands in clear",
        ],
    );
}

#[test]
fn an_actor_says_what_to_watch_and_which_values_do_nothing() {
    let text = "{scaling: {enabled: true, advanced: {triggers: [{type: cpu}]}}, infrastructure: {rabbitmq: {podName: x}}}";
    let Some(notes) = notes("asya-actor", text, "hello") else {
        return;
    };
    let words = [
        "Actor hello in namespace default",
        "describe asyncactor hello",
        "scaling.advanced.triggers of hello is ignored",
        "placeholder image",
        "placeholder handler",
        "infrastructure.rabbitmq and infrastructure.sqs are not used",
    ];
    contains(&notes, &words);
}
