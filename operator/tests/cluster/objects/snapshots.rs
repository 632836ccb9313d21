//! The whole set of objects of every example, as YAML.

use asya_operator::yaml;

use super::scenarios::{Scenario, actors};

fn documents(scenario: &Scenario) -> String {
    let documents: Vec<String> = scenario.objects().iter().map(|object| yaml::document(&object.body).unwrap()).collect();
    documents.join("---\n")
}

#[test]
fn every_example_on_rabbitmq_and_on_sqs() {
    for actor in actors("examples.yaml") {
        for transport in ["rabbitmq", "sqs"] {
            let name = format!("{}-{transport}", actor.name);
            insta::assert_snapshot!(name, documents(&Scenario::new(actor.clone()).on(transport)));
        }
    }
}

#[test]
fn every_kind_with_scaling_and_without() {
    for actor in actors("kinds.yaml") {
        insta::assert_snapshot!(actor.name.clone(), documents(&Scenario::new(actor)));
    }
}

#[test]
fn the_script_of_a_namespace() {
    let script = Scenario::new(actors("examples.yaml").remove(0)).defaults.script;
    let object = asya_operator::desired::runtime_config_map("asya-e2e", &script);
    insta::assert_snapshot!("runtime-config-map", yaml::document(&object.body).unwrap());
}
