//! The rules of the pod template: containers, volumes, the handler (contract operator §1.6 and §5).

use super::{RUNTIME_CONTAINER, SIDECAR_CONTAINER};
use crate::path::KeyPath;
use crate::problem::Position;
use crate::shape::Findings;
use crate::yaml::Node;

/// Volumes that are added to each pod.
const INJECTED_VOLUMES: [&str; 3] = ["socket-dir", "tmp", "asya-runtime"];
/// Where they are mounted; `/tmp` may be mounted by the user as well.
const INJECTED_MOUNTS: [&str; 2] = ["/var/run/asya", "/opt/asya/asya_runtime.py"];

/// Reports every broken rule of `spec.workload.template.spec`.
pub(super) fn check(spec: &Node, spec_path: &KeyPath, found: &mut Findings<'_>) {
    let native = spec.at(&["workload", "runtime"]).and_then(Node::text) == Some("native");
    let Some(pod) = spec.at(&["workload", "template", "spec"]) else {
        return;
    };
    let path = spec_path.keys(&["workload", "template", "spec"]);
    for (field, kind) in [("containers", "container"), ("initContainers", "init container")] {
        check_reserved(pod, field, kind, &path, found);
    }
    check_volumes(pod, &path, found);
    check_restarts(spec, pod, &path, found);
    let Some(containers) = pod.entry("containers") else {
        return;
    };
    let path = path.key("containers");
    let mut runtimes = containers
        .value
        .items()
        .iter()
        .enumerate()
        .filter(|(_, container)| is_runtime(container));
    let Some((index, runtime)) = runtimes.next() else {
        let hint = format!("name the container that holds the handler `{RUNTIME_CONTAINER}`");
        let message = format!("expected exactly one container named `{RUNTIME_CONTAINER}`, found 0");
        if matches!(containers.value.kind, crate::yaml::Kind::List(_)) {
            found.problem(containers.position, &path, message, &hint);
        }
        return;
    };
    let more: Vec<_> = runtimes.collect();
    for (index, extra) in &more {
        let message = format!(
            "expected exactly one container named `{RUNTIME_CONTAINER}`, found {}",
            more.len() + 1
        );
        let at = extra.get("name").map_or(extra.position, |name| name.position);
        found.problem(
            at,
            &path.index(*index).key("name"),
            message,
            "rename or remove this one",
        );
    }
    let path = path.index(index);
    check_mounts(runtime, &path, found);
    check_command(runtime, native, &path, found);
    check_handler(runtime, native, &path, found);
    check_mode(runtime, native, &path, found);
    super::calls::check(spec, spec_path, runtime, &path, found);
}

fn is_runtime(container: &Node) -> bool {
    container.get("name").and_then(Node::text) == Some(RUNTIME_CONTAINER)
}

fn check_reserved(pod: &Node, field: &str, kind: &str, path: &KeyPath, found: &mut Findings<'_>) {
    for (index, container) in items(pod, field) {
        if let Some(name) = container
            .get("name")
            .filter(|name| name.text() == Some(SIDECAR_CONTAINER))
        {
            let path = path.key(field).index(index).key("name");
            let message = format!("the {kind} name `{SIDECAR_CONTAINER}` is reserved");
            found.problem(
                name.position,
                &path,
                message,
                "remove it: the sidecar is added by itself; see spec.sidecar",
            );
        }
    }
}

fn check_volumes(pod: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    let path = path.key("volumes");
    for (index, volume) in items(pod, "volumes") {
        let Some(node) = volume.get("name") else { continue };
        if let Some(name) = node.text().filter(|name| INJECTED_VOLUMES.contains(name)) {
            let message = format!("the volume name `{name}` is reserved");
            let hint = "the volume is added by itself; choose another name";
            found.problem(node.position, &path.index(index).key("name"), message, hint);
        }
    }
}

/// Other containers may mount the injected volumes wherever they like.
fn check_mounts(runtime: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    let path = path.key("volumeMounts");
    for (index, mount) in items(runtime, "volumeMounts") {
        let Some(node) = mount.get("mountPath") else {
            continue;
        };
        let injected = |target: &&str| INJECTED_MOUNTS.contains(&target.trim_end_matches('/'));
        if let Some(target) = node.text().filter(injected) {
            let message = format!("{target} is where the runtime's own volume is mounted");
            found.problem(
                node.position,
                &path.index(index).key("mountPath"),
                message,
                "mount it elsewhere",
            );
        }
    }
}

/// Kubernetes takes other policies for jobs than for what runs for ever.
fn check_restarts(spec: &Node, pod: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    let kind = super::rules::effective_kind(spec);
    let Some(node) = pod.get("restartPolicy") else {
        return;
    };
    let hint = match (kind, node.text()) {
        (_, None) | ("Job", Some("OnFailure" | "Never")) | ("Deployment" | "StatefulSet", Some("Always")) => {
            return;
        }
        ("Job", _) => "write OnFailure or Never",
        _ => "remove it, or write Always",
    };
    let message = format!(
        "pods of a {kind} cannot have the restart policy {}",
        node.describe()
    );
    found.problem(node.position, &path.key("restartPolicy"), message, hint);
}

fn check_command(container: &Node, native: bool, path: &KeyPath, found: &mut Findings<'_>) {
    if let Some(entry) = container.entry("command")
        && !native
        && !entry.value.items().is_empty()
    {
        let message = format!("the container `{RUNTIME_CONTAINER}` must not set a command");
        let hint = "remove it: the runtime's command is set by itself; `args` and spec.workload.pythonExecutable are allowed";
        found.problem(entry.position, &path.key("command"), message, hint);
    }
}

/// An unknown mode ends the Python runtime when it starts; other programs read the variable as they like.
fn check_mode(container: &Node, native: bool, path: &KeyPath, found: &mut Findings<'_>) {
    let Some((index, node)) = variable(container, "ASYA_HANDLER_MODE") else {
        return;
    };
    let Some(mode) = literal(node) else { return };
    let known = ["", "payload", "envelope"].contains(&mode.text.to_lowercase().as_str());
    let is_free = native && found.is_object();
    if !(known || is_free) {
        let path = path.key("env").index(index).key("value");
        let message = format!("{:?} is not a handler mode", mode.text);
        found.problem(mode.at, &path, message, "write payload or envelope");
    }
}

fn check_handler(container: &Node, native: bool, path: &KeyPath, found: &mut Findings<'_>) {
    let Some((index, node)) = variable(container, "ASYA_HANDLER") else {
        // In a cluster an image may bring its own, and a program that is no Python runtime need not read it.
        if found.is_object() || native {
            return;
        }
        let env = container.entry("env");
        let at = env.map_or(container.position, |entry| entry.position);
        if let Some(sources) = container.entry("envFrom") {
            let message = "ASYA_HANDLER is not in `env`; it has to come from these sources, which only a cluster can read";
            found.notice(
                sources.position,
                &path.key("envFrom"),
                message,
                "write it under `env` to run locally",
            );
        } else if env.is_none_or(|env| matches!(env.value.kind, crate::yaml::Kind::List(_))) {
            let message = format!("ASYA_HANDLER is missing in the container `{RUNTIME_CONTAINER}`");
            let hint =
                "add an item `- name: ASYA_HANDLER` with `value: module.function` or `module.Class.method`";
            found.problem(at, &path.key("env"), message, hint);
        }
        return;
    };
    let Some(handler) = literal(node) else { return };
    let is_free = native && found.is_object();
    if !(is_free || is_handler(handler.text)) {
        let message = format!("{:?} does not name a handler", crate::yaml::shorten(handler.text));
        let hint = "write module.function or module.Class.method, as in an import";
        found.problem(
            handler.at,
            &path.key("env").index(index).key("value"),
            message,
            hint,
        );
    }
}

/// `^[a-zA-Z_][a-zA-Z0-9_]*(\.[a-zA-Z_][a-zA-Z0-9_]*)+$` (contract data-plane §6.3).
fn is_handler(text: &str) -> bool {
    let identifier = |part: &str| {
        part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
            && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    };
    text.contains('.') && text.split('.').all(identifier)
}

/// The items of a list, numbered.
fn items<'a>(node: &'a Node, field: &str) -> impl Iterator<Item = (usize, &'a Node)> {
    node.get(field)
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .enumerate()
}

/// The item of `env` that counts: the last one of this name.
pub(super) fn variable<'a>(container: &'a Node, name: &str) -> Option<(usize, &'a Node)> {
    let items = container.get("env").map(Node::items).unwrap_or_default();
    items
        .iter()
        .enumerate()
        .rfind(|(_, item)| item.get("name").and_then(Node::text) == Some(name))
}

pub(super) struct Literal<'a> {
    pub(super) text: &'a str,
    pub(super) at: Position,
}

/// The value as written; none if it comes from elsewhere (`valueFrom`, `$(OTHER)`) or has a wrong type.
pub(super) fn literal(item: &Node) -> Option<Literal<'_>> {
    let Some(value) = item.get("value") else {
        return item.get("valueFrom").is_none().then_some(Literal {
            text: "",
            at: item.position,
        });
    };
    value
        .text()
        .filter(|text| !text.contains("$("))
        .map(|text| Literal {
            text,
            at: value.position,
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn handlers() {
        for good in ["a.b", "_a.B1.c_", "package.module.Class.method"] {
            assert!(is_handler(good), "{good}");
        }
        for bad in [
            "", "a", "a.", ".a", "a..b", "1a.b", "a.b-c", "a b.c", "a:b", "é.b",
        ] {
            assert!(!is_handler(bad), "{bad}");
        }
    }
}
