//! Installed, upgraded and uninstalled for real, without hooks.

use std::collections::BTreeSet;

use asya_tests::kube::{Cluster, Tools};
use serde_json::Value;

use crate::setup::{CHARTS, Values, chart, get, helm_in, install, prepared};

/// Every object of a namespace that a chart may have made, as `kind/name`.
fn objects(cluster: &Cluster, namespace: &str) -> BTreeSet<String> {
    let kinds = "deployments,statefulsets,jobs,pods,services,configmaps,secrets,serviceaccounts,persistentvolumeclaims,\
                 roles,rolebindings,poddisruptionbudgets,networkpolicies,ingresses,horizontalpodautoscalers";
    let mut listed = cluster.kubectl(&["get", "--namespace", namespace, kinds, "--output=name"]);
    // Unknown as long as no operator was installed.
    let actors = cluster.try_kubectl(
        &["get", "--namespace", namespace, "asyncactors", "--output=name"],
        "",
    );
    listed.push_str(&String::from_utf8_lossy(&actors.stdout));
    listed
        .lines()
        .filter(|line| !line.starts_with("secret/sh.helm.release"))
        .map(str::to_owned)
        .collect()
}

#[test]
fn all_charts_install_by_default_and_leave_only_what_should_stay() {
    for tool in ["etcd", "kube-apiserver", "kubectl", "helm"] {
        if Tools::get().need(tool).is_none() {
            return;
        }
    }
    // A cluster of its own: the custom resource definition comes with the operator's chart.
    let cluster = Cluster::start();
    let namespace = "asya-system";
    cluster.kubectl(&["create", "namespace", namespace]);
    let before = objects(&cluster, namespace);
    for name in CHARTS {
        install(
            &cluster,
            name,
            name,
            namespace,
            &[
                "--set-string",
                if name == "asya-actor" {
                    "name=hello"
                } else {
                    "nameOverride="
                },
            ],
        );
        if name == "asya-operator" {
            cluster.kubectl(&[
                "wait",
                "--for=condition=Established",
                "crd/asyncactors.asya.sh",
                "--timeout=60s",
            ]);
        }
    }
    let expected = [
        "deployment.apps/asya-operator",
        "service/asya-operator-metrics",
        "deployment.apps/asya-gateway",
        "configmap/gateway-routes",
        "persistentvolumeclaim/asya-gateway-state",
        "asyncactor.asya.sh/happy-end",
        "asyncactor.asya.sh/error-end",
    ];
    let after = objects(&cluster, namespace);
    for name in expected {
        assert!(after.contains(name), "no {name} in {after:?}");
    }
    assert!(
        objects(&cluster, "default").contains("asyncactor.asya.sh/hello"),
        "actors go to `default` unless told"
    );

    // The same again changes no object: no generation moves.
    let generations = |cluster: &Cluster| {
        let path = "jsonpath={range .items[*]}{.kind}/{.metadata.name} {.metadata.generation}{\"\\n\"}{end}";
        cluster.kubectl(&[
            "get",
            "deployments,asyncactors",
            "--all-namespaces",
            "--output",
            path,
        ])
    };
    let first = generations(&cluster);
    for name in CHARTS {
        install(&cluster, name, name, namespace, &["--reuse-values"]);
    }
    assert_eq!(first, generations(&cluster));

    for name in CHARTS.iter().rev() {
        helm_in(
            &cluster,
            &["uninstall", name, "--no-hooks", "--namespace", namespace],
        )
        .unwrap();
    }
    let left: Vec<String> = objects(&cluster, namespace)
        .difference(&before)
        .cloned()
        .collect();
    assert_eq!(
        left,
        ["persistentvolumeclaim/asya-gateway-state"],
        "the volume stays, and nothing else"
    );
    assert!(!objects(&cluster, "default").contains("asyncactor.asya.sh/hello"));
    let roles = cluster.kubectl(&[
        "get",
        "clusterroles,clusterrolebindings",
        "--output=name",
        "--selector=app.kubernetes.io/part-of=asya",
    ]);
    assert_eq!(roles, "");
    // Definitions outlive the chart, or all actors would be gone with it.
    cluster.kubectl(&["get", "crd", "asyncactors.asya.sh"]);
}

#[test]
fn values_of_the_end_to_end_tests_of_the_original_install_and_upgrade() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    for (chart, files) in [
        ("asya-operator", ["operator-e2e", "operator-old"].as_slice()),
        ("asya-gateway", &["gateway-e2e", "gateway-old", "gateway-bundled"]),
        ("asya-crew", &["crew-e2e", "crew-results"]),
        ("asya-actor", &["actor-e2e", "actor-single"]),
    ] {
        let release = format!("{namespace}-{chart}");
        for file in files {
            let values = Values::read(file, &namespace);
            let values = values.path();
            if *file == "operator-old" {
                // Another namespace for the script, and a role in it for the check.
                install(
                    cluster,
                    &release,
                    chart,
                    &namespace,
                    &["--values", values, "--set", "tests.enabled=false"],
                );
            } else {
                install(cluster, &release, chart, &namespace, &["--values", values]);
            }
        }
    }
    let actor = get(cluster, &namespace, "asyncactor/hello");
    let container = &actor["spec"]["workload"]["template"]["spec"]["containers"][0];
    assert_eq!(container["image"], "registry.example.com/hello:1.0");
    assert_eq!(
        actor["spec"]["scaling"]["advanced"].get("triggers"),
        None,
        "{actor:#}"
    );
    assert_eq!(actor["spec"]["timeout"]["gracefulShutdown"], 10);
    assert_eq!(actor["spec"]["retry"]["maxAttempts"], 3, "{actor:#}");
    let gone = cluster.try_kubectl(&["get", "--namespace", &namespace, "asyncactor/test-echo"], "");
    assert!(
        !gone.status.success(),
        "an upgrade takes away what the new values do not name"
    );
}

#[test]
fn every_set_of_values_passes_a_dry_run_of_the_server() {
    let Some(cluster) = prepared() else { return };
    for (name, files) in [
        ("asya-operator", ["operator-e2e", "operator-old"].as_slice()),
        ("asya-gateway", &["gateway-e2e", "gateway-old", "gateway-bundled"]),
        ("asya-crew", &["crew-e2e", "crew-results"]),
        ("asya-actor", &["actor-e2e", "actor-single"]),
    ] {
        for file in files {
            let namespace = cluster.namespace();
            let values = Values::read(file, &namespace);
            let folder = chart(name);
            helm_in(
                cluster,
                &[
                    "install",
                    name,
                    &folder,
                    "--dry-run=server",
                    "--namespace",
                    &namespace,
                    "--values",
                    values.path(),
                ],
            )
            .unwrap();
        }
    }
}

fn password(cluster: &Cluster, namespace: &str) -> Value {
    get(cluster, namespace, "secret/asya-gateway-db")["data"]["password"].clone()
}

#[test]
fn a_password_is_kept_across_upgrades_and_reinstallations_that_do_not_name_it() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let named = [
        "--set",
        "postgresql.enabled=true",
        "--set",
        "postgresql.auth.password=first",
    ];
    let enabled = &named[..2];
    install(cluster, "asya-gateway", "asya-gateway", &namespace, &named);
    let first = password(cluster, &namespace);
    let workload = get(cluster, &namespace, "deployment/asya-gateway");
    install(cluster, "asya-gateway", "asya-gateway", &namespace, enabled);
    assert_eq!(first, password(cluster, &namespace));
    let again = get(cluster, &namespace, "deployment/asya-gateway");
    assert_eq!(
        workload["metadata"]["generation"], again["metadata"]["generation"],
        "nothing rolls"
    );
    helm_in(
        cluster,
        &[
            "uninstall",
            "asya-gateway",
            "--no-hooks",
            "--namespace",
            &namespace,
        ],
    )
    .unwrap();
    install(cluster, "asya-gateway", "asya-gateway", &namespace, enabled);
    assert_eq!(
        first,
        password(cluster, &namespace),
        "the volume that was kept knows only this one"
    );
}

#[test]
fn a_changed_setting_rolls_the_gateway_and_a_changed_tool_does_not() {
    let Some(cluster) = prepared() else { return };
    let namespace = cluster.namespace();
    let template = |arguments: &[&str]| {
        install(cluster, "asya-gateway", "asya-gateway", &namespace, arguments);
        get(cluster, &namespace, "deployment/asya-gateway")["spec"]["template"].clone()
    };
    let first = template(&[]);
    let tools = [
        "--set",
        "routes.tools[0].name=t",
        "--set",
        "routes.tools[0].route={a}",
    ];
    assert_eq!(
        first,
        template(&tools),
        "running gateways read changed tools by themselves"
    );
    let routes = get(cluster, &namespace, "configmap/gateway-routes");
    assert!(
        routes["data"]["routes.yaml"]
            .as_str()
            .unwrap()
            .contains("name: t"),
        "{routes}"
    );
    assert_ne!(first, template(&["--set", "config.logLevel=debug"]));
    let broker = |password: &str| format!("config.rabbitmqURL=amqp://a:{password}@c/");
    let one = template(&["--set", &broker("one")]);
    assert_ne!(first, one, "a changed Secret");
    let two = template(&["--set", &broker("two")]);
    assert_ne!(one, two, "a Secret that changes again");
    assert_eq!(two, template(&["--set", &broker("two")]));
}
