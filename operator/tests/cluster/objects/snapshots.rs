//! The whole set of objects of every example, as YAML.

use asya_operator::desired::runtime_config_map;
use asya_operator::yaml;

use super::scenarios::{Scenario, actor, actors, examples};

fn assert_snapshot(name: &str, bodies: &[&serde_json::Value]) {
    let documents: Vec<String> = bodies.iter().map(|body| yaml::document(body).unwrap()).collect();
    let mut settings = insta::Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    settings.bind(|| insta::assert_snapshot!(name.to_owned(), documents.join("---\n")));
}

fn assert_objects(name: &str, scenario: &Scenario) {
    let objects = scenario.objects();
    assert_snapshot(
        name,
        &objects.iter().map(|object| &object.body).collect::<Vec<_>>(),
    );
}

#[test]
fn every_example_on_rabbitmq_and_on_sqs() {
    let examples = examples();
    assert!(examples.len() >= 11, "{}", examples.len());
    for actor in examples {
        for transport in ["rabbitmq", "sqs"] {
            assert_objects(
                &format!("{}-{transport}", actor.name),
                &Scenario::new(actor.clone()).on(transport),
            );
        }
    }
}

#[test]
fn every_kind_with_scaling_and_without() {
    for actor in actors("kinds.yaml") {
        assert_objects(&actor.name.clone(), &Scenario::new(actor));
    }
}

#[test]
fn the_script_of_a_namespace() {
    let script = Scenario::new(actor("hello-actor")).defaults.script;
    assert_snapshot(
        "runtime-config-map",
        &[&runtime_config_map("asya-e2e", &script).body],
    );
}
