//! Manifests of the earliest days to actors of today: kind `Asya`, `workload.type`, and names that nothing reads any more
//! (contract operator §1.5).

use std::fmt::Write as _;
use std::path::Path;

use asya_manifest::{
    API_VERSION, GROUP, KIND, Location, Problem, Problems, RUNTIME_CONTAINER, check_document, documents,
};
use serde_json::{Map, Value};

/// The older kind.
const OLDER_KIND: &str = "Asya";
/// Variables that have another name now.
const RENAMED: [(&str, &str); 2] = [
    ("ASYA_STEP_HAPPY_END", "ASYA_ACTOR_HAPPY_END"),
    ("ASYA_STEP_ERROR_END", "ASYA_ACTOR_ERROR_END"),
];
/// Variables that say where the socket is; the operator sets the right ones.
const SOCKET_VARIABLES: [&str; 4] = [
    "ASYA_SOCKETS_DIR",
    "ASYA_SOCKET_DIR",
    "ASYA_SOCKET_NAME",
    "ASYA_SOCKET_PATH",
];
/// Where older manifests keep the socket.
const OLDER_SOCKETS: [&str; 2] = ["/tmp/sockets", "app.sock"];
/// What a server writes into an object and no manifest should hold.
const OF_THE_SERVER: [&str; 6] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// The documents of a YAML text with every actor as an AsyncActor of today; other documents as they are, Kubernetes
/// `List`s as single documents. Above each actor a comment tells what was changed and what is left to mend by hand.
/// Comments of the text itself are lost, and keys are sorted.
///
/// # Errors
/// What is wrong with the YAML.
pub fn convert(text: &str) -> Result<String, Problems> {
    let input = Path::new("input");
    let mut singles = Vec::new();
    for document in documents(input, text)? {
        flatten(document, &mut singles);
    }
    let mut out = String::new();
    for mut document in singles {
        if !out.is_empty() {
            out.push_str("---\n");
        }
        if is_actor(&document) {
            let mut changes = Changes::default();
            actor(&mut document, &mut changes);
            comment(&mut out, "Changed", &changes.0);
            comment(&mut out, "Left to mend", &check_document(&document));
        }
        let written = crate::yaml::document(&document);
        out.push_str(&written.map_err(|error| {
            let problem = Problem::new(Location::file(input), "", error.to_string());
            Problems::from_iter([problem])
        })?);
    }
    Ok(out)
}

fn flatten(document: Value, singles: &mut Vec<Value>) {
    let is_list = document["kind"]
        .as_str()
        .is_some_and(|kind| kind.ends_with("List"));
    match document {
        Value::Object(mut members) if is_list && members.get("items").is_some_and(Value::is_array) => {
            if let Some(Value::Array(items)) = members.remove("items") {
                for item in items {
                    flatten(item, singles);
                }
            }
        }
        document => singles.push(document),
    }
}

/// Ours by its group, or by its kind alone if the group is missing.
fn is_actor(document: &Value) -> bool {
    let text = |key: &str| document[key].as_str().unwrap_or_default();
    let ours = text("kind") == OLDER_KIND || text("kind") == KIND;
    ours && matches!(text("apiVersion").split('/').next(), Some(GROUP | ""))
}

/// What was changed, one line each.
#[derive(Default)]
struct Changes(Vec<String>);

impl Changes {
    fn add(&mut self, change: impl Into<String>) {
        self.0.push(change.into());
    }
}

fn comment(out: &mut String, title: &str, lines: &[String]) {
    if lines.is_empty() {
        return;
    }
    // Writing into a text does not fail.
    let _ = writeln!(out, "# {title}:");
    for line in lines {
        let _ = writeln!(out, "# - {}", line.replace('\n', " "));
    }
}

fn actor(document: &mut Value, changes: &mut Changes) {
    for (key, now) in [("apiVersion", API_VERSION), ("kind", KIND)] {
        if document[key] != now {
            let before = document[key].as_str().unwrap_or("nothing");
            changes.add(format!("{key}: {before} is now {now}"));
            document[key] = now.into();
        }
    }
    if let Some(object) = document.as_object_mut()
        && object.remove("status").is_some()
    {
        changes.add("status: removed, it is the operator's");
    }
    if let Some(metadata) = document["metadata"].as_object_mut() {
        for key in OF_THE_SERVER {
            if metadata.remove(key).is_some() {
                changes.add(format!("metadata.{key}: removed, it is the server's"));
            }
        }
    }
    if let Some(spec) = document.get_mut("spec").and_then(Value::as_object_mut) {
        fields(spec, changes);
        variables(spec, changes);
    }
}

fn fields(spec: &mut Map<String, Value>, changes: &mut Changes) {
    if spec.remove("socket").is_some() {
        changes.add("spec.socket: removed, it never had an effect");
    }
    let advanced = spec
        .get_mut("scaling")
        .and_then(|scaling| scaling.get_mut("advanced"));
    if let Some(advanced) = advanced.and_then(Value::as_object_mut)
        && advanced.remove("triggers").is_some()
    {
        changes.add("spec.scaling.advanced.triggers: removed, it never had an effect");
    }
    let Some(workload) = spec.get_mut("workload").and_then(Value::as_object_mut) else {
        return;
    };
    let kind = workload
        .get("kind")
        .and_then(Value::as_str)
        .unwrap_or("Deployment")
        .to_owned();
    let Some(older) = workload.get("type").and_then(Value::as_str).map(str::to_owned) else {
        return;
    };
    // A contradiction is left to whoever wrote it.
    if kind == "Deployment" || kind == older {
        workload.remove("type");
        workload.insert("kind".to_owned(), older.clone().into());
        changes.add(format!("spec.workload.type: {older} is now spec.workload.kind"));
    }
}

fn variables(spec: &mut Map<String, Value>, changes: &mut Changes) {
    if let Some(sidecar) = spec.get_mut("sidecar") {
        environment(sidecar, "spec.sidecar", changes);
    }
    let pod = spec
        .get_mut("workload")
        .and_then(|workload| workload.get_mut("template"))
        .and_then(|template| template.get_mut("spec"));
    let containers = pod
        .and_then(|pod| pod.get_mut("containers"))
        .and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let name = container["name"].as_str().unwrap_or_default().to_owned();
        let place = format!("container {name}");
        environment(container, &place, changes);
        if name == RUNTIME_CONTAINER {
            mounts(container, &place, changes);
        }
    }
}

/// `env` of a container or of `spec.sidecar`.
fn environment(holder: &mut Value, place: &str, changes: &mut Changes) {
    let Some(items) = holder.get_mut("env").and_then(Value::as_array_mut) else {
        return;
    };
    items.retain(|item| {
        let name = item["name"].as_str().unwrap_or_default();
        let dead = name == SOCKET_VARIABLES[0]
            || (SOCKET_VARIABLES.contains(&name) && is_older_socket(&item["value"]));
        if dead {
            changes.add(format!(
                "{place}: variable {name} removed, the operator sets where the socket is"
            ));
        }
        !dead
    });
    for item in items {
        let name = item["name"].as_str().unwrap_or_default().to_owned();
        if let Some((_, now)) = RENAMED.iter().find(|(before, _)| *before == name) {
            item["name"] = (*now).into();
            changes.add(format!("{place}: variable {name} is now {now}"));
        }
        if let value @ (Value::Number(_) | Value::Bool(_)) = &item["value"] {
            let text = value.to_string();
            changes.add(format!(
                "{place}: the value of variable {name} is now the text \"{text}\""
            ));
            item["value"] = text.into();
        }
    }
}

/// The volume of the socket is mounted by the operator.
fn mounts(container: &mut Value, place: &str, changes: &mut Changes) {
    let Some(items) = container.get_mut("volumeMounts").and_then(Value::as_array_mut) else {
        return;
    };
    items.retain(|item| {
        let dead = is_older_socket(&item["mountPath"]);
        if dead {
            let path = item["mountPath"].as_str().unwrap_or_default();
            changes.add(format!(
                "{place}: mount {path} removed, the operator mounts the socket's volume"
            ));
        }
        !dead
    });
}

fn is_older_socket(value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    OLDER_SOCKETS.iter().any(|older| text.contains(older))
}
