//! `--dry-run PATH`: what would be applied for the manifests of a file or a directory.
//!
//! Objects go to standard output, what becomes of each actor and every mistake to standard error. No cluster and no
//! broker is asked: what only they know is as in a new cluster.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use asya_manifest::{Directory, Problems};
use asya_program::{Exit, Reading, print};
use serde_json::{Value, json};

use super::arguments::Output;
use super::environment::Prepared;
use super::{check, complain, say};
use crate::desired::{self, Desired, Facts, Inputs};
use crate::registry::Registry;
use crate::resource::Actor;
use crate::yaml;

/// What a manifest without namespace goes to, as with kubectl.
const DEFAULT_NAMESPACE: &str = "default";
/// Minor version of the API server that is assumed: all that the operator makes use of is there.
const SERVER_MINOR: u32 = 33;

/// Prints it. Ends with 1 if anything is wrong.
pub(super) fn run(path: &Path, output: Output, reading: &Reading<Prepared>) -> Exit {
    say(&check::lines(reading));
    let Ok(prepared) = &reading.settings else {
        return Exit::CannotGoOn;
    };
    let inspection = if path.is_dir() {
        Directory::inspect(path)
    } else {
        Directory::inspect_file(path)
    };
    let mut report = Report::default();
    report.remarks(&inspection.directory.notices);
    for actor in &inspection.directory.actors {
        let place = actor.source.to_string();
        report.actor(&read(actor), &place, prepared);
    }
    for namespace in &report.namespaces {
        let object = desired::runtime_config_map(namespace, &prepared.defaults.script);
        report.objects.push(object.body);
    }
    let is_good = inspection.problems.is_empty() && report.is_good;
    if !inspection.problems.is_empty() {
        let _ = writeln!(report.said, "{}", inspection.problems);
    }
    say(&report.said);
    let printed = match written(&report.objects, output) {
        Ok(text) => print(&text),
        Err(error) => complain(&format!("the objects cannot be written: {error}\n")),
    };
    if is_good { printed } else { Exit::CannotGoOn }
}

/// The actor as the API server would show it, as far as that matters.
fn read(actor: &asya_manifest::Actor) -> Actor {
    Actor {
        name: actor.name.clone(),
        namespace: actor
            .namespace
            .clone()
            .unwrap_or_else(|| DEFAULT_NAMESPACE.into()),
        uid: String::new(),
        generation: 0,
        annotations: actor.annotations.clone(),
        labels: actor.labels.clone(),
        is_deleting: false,
        spec: actor.spec.clone(),
    }
}

/// What has come of the manifests so far.
struct Report {
    objects: Vec<Value>,
    namespaces: BTreeSet<String>,
    said: String,
    is_good: bool,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            objects: Vec::new(),
            namespaces: BTreeSet::new(),
            said: String::new(),
            is_good: true,
        }
    }
}

impl Report {
    fn remarks(&mut self, notices: &Problems) {
        for notice in notices {
            // Writing to a text cannot fail.
            let _ = writeln!(self.said, "{notice}");
        }
    }

    fn actor(&mut self, actor: &Actor, place: &str, prepared: &Prepared) {
        let mut conditions = Conditions::default();
        if let Some(desired) = desired(actor, prepared, &mut conditions) {
            self.take(desired, &mut conditions);
            self.namespaces.insert(actor.namespace.clone());
        }
        self.is_good &= conditions.failed == 0;
        let _ = writeln!(self.said, "{place}: {}/{}:", actor.namespace, actor.name);
        self.said.push_str(&conditions.lines);
    }

    fn take(&mut self, desired: Desired, conditions: &mut Conditions) {
        let mut names = Vec::new();
        let mut add = |objects: Vec<desired::Object>| {
            for object in objects {
                names.push(format!("{} {}", object.kind.names().1, object.name));
                self.objects.push(object.body);
            }
        };
        add(desired.common);
        for (condition, made, objects) in [
            ("WorkloadReady", "WorkloadCreated", desired.workload),
            ("ScalingReady", "ScaledObjectCreated", desired.scaler),
        ] {
            match objects {
                Ok(objects) if objects.is_empty() => {}
                Ok(objects) => {
                    add(objects);
                    conditions.add(condition, Ok(made), "");
                }
                Err(error) => conditions.add(condition, Err("ReconcileError"), &error.to_string()),
            }
        }
        let _ = writeln!(
            conditions.lines,
            "  applied: {}, ConfigMap asya-runtime",
            names.join(", ")
        );
    }
}

/// The conditions that the actor would show, one line each.
#[derive(Default)]
struct Conditions {
    lines: String,
    failed: usize,
}

impl Conditions {
    fn add(&mut self, kind: &str, reason: Result<&str, &str>, message: &str) {
        let (status, reason) = match reason {
            Ok(reason) => ("True", reason),
            Err(reason) => {
                self.failed += 1;
                ("False", reason)
            }
        };
        let message = if message.is_empty() {
            String::new()
        } else {
            format!(": {message}")
        };
        let _ = writeln!(self.lines, "  {kind}={status} {reason}{message}");
    }
}

/// The objects of one actor, or conditions that say why there are none.
fn desired(actor: &Actor, prepared: &Prepared, conditions: &mut Conditions) -> Option<Desired> {
    let broken = broken_rules(actor);
    if !broken.is_empty() {
        for rule in &broken {
            conditions.add("WorkloadReady", Err("ValidationError"), rule);
        }
        return None;
    }
    let registry: &Registry = &prepared.registry;
    let transport = match registry.find(&actor.spec.transport) {
        Ok(transport) => transport,
        Err(error) => {
            let hint = "; ASYA_TRANSPORT_CONFIG is the registry";
            conditions.add(
                "TransportReady",
                Err("InvalidTransport"),
                &format!("{error}{hint}"),
            );
            return None;
        }
    };
    let queue = transport.queue_name(&actor.namespace, &actor.name);
    conditions.add(
        "TransportReady",
        Ok("TransportValidated"),
        &format!("queue {queue} on {}", transport.name),
    );
    let facts = Facts {
        server_minor: SERVER_MINOR,
        ..Facts::default()
    };
    let defaults = &prepared.defaults;
    Some(desired::objects(&Inputs {
        actor,
        transport,
        defaults,
        facts: &facts,
    }))
}

fn broken_rules(actor: &Actor) -> Vec<String> {
    match serde_json::to_value(&actor.spec) {
        Ok(spec) => asya_manifest::check_object(&actor.name, &spec),
        Err(error) => vec![error.to_string()],
    }
}

fn written(objects: &[Value], output: Output) -> Result<String, String> {
    match output {
        Output::Json => Ok(format!(
            "{:#}\n",
            json!({"apiVersion": "v1", "kind": "List", "items": objects})
        )),
        Output::Yaml => {
            let document = |object| {
                Ok(format!(
                    "---\n{}",
                    yaml::document(object).map_err(|error| error.to_string())?
                ))
            };
            objects.iter().map(document).collect()
        }
    }
}
