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
