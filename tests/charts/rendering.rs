//! What the charts render: snapshots for the default, for values of the original's end-to-end tests, and for older
//! spellings.

use crate::setup::{CHARTS, Values, chart, helm, template};

fn rendered(name: &str, values: Option<&str>) -> Option<String> {
    let Some(values) = values else {
        return Some(template(name, &[])?.unwrap());
    };
    let file = Values::read(values, "asya-e2e");
    Some(template(name, &["--values", file.path()])?.unwrap())
}

fn check(name: &str, values: Option<&str>) {
    if let Some(text) = rendered(name, values) {
        insta::assert_snapshot!(
            values.map_or_else(|| format!("{name}-default"), str::to_owned),
            text
        );
    }
}

#[test]
fn the_operator_by_default() {
    check("asya-operator", None);
}

#[test]
fn the_operator_as_in_the_end_to_end_tests_of_the_original() {
    check("asya-operator", Some("operator-e2e"));
}

#[test]
fn the_operator_with_older_spellings() {
    check("asya-operator", Some("operator-old"));
}

#[test]
fn the_operator_with_everything_on() {
    check("asya-operator", Some("operator-all"));
}

#[test]
fn the_gateway_by_default() {
    check("asya-gateway", None);
}

#[test]
fn the_gateway_as_in_the_end_to_end_tests_of_the_original() {
    check("asya-gateway", Some("gateway-e2e"));
}

#[test]
fn the_gateway_with_older_spellings() {
    check("asya-gateway", Some("gateway-old"));
}

#[test]
fn the_gateway_with_a_postgresql_of_its_own_and_everything_on() {
    check("asya-gateway", Some("gateway-bundled"));
}

#[test]
fn the_crew_by_default() {
    check("asya-crew", None);
}

#[test]
fn the_crew_as_in_the_end_to_end_tests_of_the_original() {
    check("asya-crew", Some("crew-e2e"));
}

#[test]
fn the_crew_with_results_in_a_bucket() {
    check("asya-crew", Some("crew-results"));
}

#[test]
fn an_actor_by_default() {
    check("asya-actor", None);
}

#[test]
fn one_actor_with_short_forms() {
    check("asya-actor", Some("actor-single"));
}

#[test]
fn several_actors_as_in_the_end_to_end_tests_of_the_original() {
    check("asya-actor", Some("actor-e2e"));
}

#[test]
fn every_chart_passes_the_strict_lint() {
    for name in CHARTS {
        let Some(said) = helm(&["lint", "--strict", &chart(name)]) else {
            return;
        };
        assert!(
            said.success && !said.out.contains("[WARNING]"),
            "{name}: {}{}",
            said.out,
            said.error
        );
    }
}

#[test]
fn no_secret_of_values_stands_in_a_config_map_or_a_pod() {
    let secret = "s3cr3t-of-values";
    let text = format!(
        "config: {{rabbitmqURL: 'amqp://asya:{secret}@rabbitmq:5672/'}}\n\
         externalDatabase: {{host: db, password: {secret}}}\n"
    );
    let values = Values::of(&text);
    let Some(said) = template("asya-gateway", &["--values", values.path()]) else {
        return;
    };
    let text = said.unwrap();
    let mut seen = 0;
    for document in text.split("\n---\n").filter(|document| document.contains(secret)) {
        assert!(document.contains("\nkind: Secret\n"), "{document}");
        seen += 1;
    }
    assert_eq!(seen, 3, "the database's, that of its migration, the broker's");
}

#[test]
fn nothing_in_a_pod_can_be_compared_with_a_guessed_password() {
    let render = |password: &str| {
        let text = format!(
            "config: {{rabbitmqURL: 'amqp://asya:{password}@rabbitmq:5672/'}}\n\
             externalDatabase: {{host: db, password: {password}}}\n"
        );
        let values = Values::of(&text);
        let arguments = ["--values", values.path(), "--show-only=templates/deployment.yaml"];
        template("asya-gateway", &arguments).map(crate::setup::Said::unwrap)
    };
    assert_eq!(render("one"), render("another"));
}

#[test]
fn what_is_rendered_without_a_cluster_is_the_same_each_time() {
    for (name, values) in [
        ("asya-operator", "operator-all"),
        ("asya-gateway", "gateway-bundled"),
        ("asya-crew", "crew-results"),
        ("asya-actor", "actor-e2e"),
    ] {
        assert_eq!(
            rendered(name, Some(values)),
            rendered(name, Some(values)),
            "{name}"
        );
    }
}

#[test]
fn the_oldest_cluster_is_1_25_and_native_sidecars_need_1_29() {
    let render = |name: &str, arguments: &[&str]| {
        let folder = chart(name);
        helm(&[&["template", name, &folder], arguments].concat())
    };
    for name in CHARTS {
        let Some(said) = render(name, &["--kube-version=1.25.0"]) else {
            return;
        };
        said.unwrap();
        let said = render(name, &["--kube-version=1.24.17"]).unwrap();
        assert!(!said.success && said.error.contains(">=1.25"), "{name}: {said:?}");
    }
    let native = "--set=sidecar.mode=native";
    let said = render("asya-operator", &["--kube-version=1.28.9", native]).unwrap();
    assert!(
        said.error
            .contains("sidecar.mode native needs Kubernetes 1.29, and this cluster is v1.28.9"),
        "{said:?}"
    );
    render("asya-operator", &["--kube-version=1.29.0-eks-1", native])
        .unwrap()
        .unwrap();
}

#[test]
fn an_operator_without_a_lease_is_replaced_and_not_rolled() {
    let strategy = |set: &str| {
        let arguments = ["--set", set, "--show-only=templates/deployment.yaml"];
        let text = template("asya-operator", &arguments)?.unwrap();
        Some((
            text.contains("    type: Recreate\n"),
            text.contains("    type: RollingUpdate\n"),
        ))
    };
    let Some(without) = strategy("leaderElection.enabled=false") else {
        return;
    };
    assert_eq!(without, (true, false));
    assert_eq!(strategy("leaderElection.enabled=true"), Some((false, false)));
    let chosen = "leaderElection.enabled=false,strategy.type=RollingUpdate";
    assert_eq!(strategy(chosen), Some((false, true)));
}

#[test]
fn releases_of_one_name_in_two_namespaces_do_not_share_a_role() {
    let roles = |namespace: &str| {
        let values = Values::of(
            "healthChecks: {preInstall: {enabled: true}, status: {enabled: true}}\nnamespace: actors\n",
        );
        let arguments = ["--namespace", namespace, "--values", values.path()];
        let text = template("asya-actor", &arguments)?.unwrap();
        let place = format!("namespace: {namespace}\n");
        let roles: Vec<String> = text
            .split("\n---\n")
            .filter(|document| document.contains("\nkind: Role\n") && !document.contains(&place))
            .map(|document| {
                let name = document.lines().find(|line| line.starts_with("  name: "));
                name.unwrap().to_owned()
            })
            .collect();
        Some(roles)
    };
    let Some(one) = roles("team-a") else { return };
    assert_eq!(
        one.len(),
        2,
        "in the namespaces of the operator and of the actors: {one:?}"
    );
    for role in roles("team-b").unwrap() {
        assert!(!one.contains(&role), "{role}");
    }
}

#[test]
fn an_umbrella_may_move_all_images_to_another_registry() {
    for name in CHARTS {
        let Some(said) = template(name, &["--set", "global.imageRegistry=mirror.example.com"]) else {
            return;
        };
        for line in said
            .unwrap()
            .lines()
            .filter(|line| line.trim_start().starts_with("image:"))
        {
            let image = line.trim().trim_start_matches("image:").trim().trim_matches('"');
            let named = ["registry.k8s.io/", "docker.io/", "my-actor:"]
                .iter()
                .any(|known| image.starts_with(known));
            assert!(
                named || image.starts_with("mirror.example.com/asya"),
                "{name}: {image}"
            );
        }
    }
}
