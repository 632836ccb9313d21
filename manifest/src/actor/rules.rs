//! What a manifest of the right shape must still get right: names, containers, the handler, replicas.

use super::{RUNTIME_CONTAINER, SIDECAR_CONTAINER};
use crate::path::KeyPath;
use crate::problem::Position;
use crate::shape::Findings;
use crate::yaml::Node;

/// An actor's name becomes a label value.
const LONGEST_NAME: usize = 63;
/// Volumes that are added to each pod.
const INJECTED_VOLUMES: [&str; 3] = ["socket-dir", "tmp", "asya-runtime"];
/// Where they are mounted; `/tmp` may be mounted by the user as well.
const INJECTED_MOUNTS: [&str; 2] = ["/var/run/asya", "/opt/asya/asya_runtime.py"];

/// Reports every broken rule. Values of a wrong type are passed over: the shape has reported them.
pub(crate) fn check(document: &Node, root: &KeyPath, found: &mut Findings<'_>) {
    check_name(document, root, found);
    let Some(spec) = document.get("spec") else { return };
    let path = root.key("spec");
    check_transport(spec, &path, found);
    check_replicas(spec, &path, found);
    check_exceptions(spec, &path, found);
    check_kind(spec, &path, found);
    check_pod(spec, &path, found);
}

fn check_name(document: &Node, root: &KeyPath, found: &mut Findings<'_>) {
    let Some(node) = document.at(&["metadata", "name"]) else {
        return;
    };
    let Some(name) = node.text() else { return };
    let path = root.keys(&["metadata", "name"]);
    if name.len() > LONGEST_NAME {
        let message = format!("{} characters are too many for an actor's name", name.len());
        found.problem(
            node.position,
            &path,
            message,
            "use at most 63: the name becomes a label value",
        );
    } else if !is_dns_name(name) {
        let hint = "use lower-case letters, digits, - and . only, with a letter or digit at both ends";
        found.problem(
            node.position,
            &path,
            format!("{name:?} is not a name that Kubernetes accepts"),
            hint,
        );
    } else if let Some(rest) = name.strip_prefix("asya-") {
        let message = "actor names must not start with `asya-`";
        let hint = format!("name it {rest:?}: its queue gets the prefix by itself");
        found.problem(node.position, &path, message, &hint);
    }
}

/// DNS-1123 subdomain: labels of letters, digits and inner hyphens, joined by dots.
fn is_dns_name(name: &str) -> bool {
    name.split('.').all(|label| {
        let inner = label
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
        inner && !label.is_empty() && !label.starts_with('-') && !label.ends_with('-')
    })
}

fn check_transport(spec: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    if let Some(node) = spec.get("transport").filter(|node| node.text() == Some("")) {
        found.problem(
            node.position,
            &path.key("transport"),
            "must not be empty",
            "name a transport, e.g. rabbitmq",
        );
    }
}

fn check_replicas(spec: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    let Some(scaling) = spec.get("scaling") else {
        return;
    };
    let enabled = scaling
        .get("enabled")
        .is_some_and(|node| node.kind == crate::yaml::Kind::Bool(true));
    let least = scaling.get("minReplicas").map_or(Some(0), Node::integer);
    let most = scaling.get("maxReplicas").map_or(Some(50), Node::integer);
    let (Some(least), Some(most)) = (least, most) else {
        return;
    };
    if enabled && least > most {
        let at = scaling
            .get("minReplicas")
            .map_or(scaling.position, |node| node.position);
        let written = if scaling.get("maxReplicas").is_some() {
            ""
        } else {
            " (the default)"
        };
        let message = format!("minReplicas {least} is above maxReplicas {most}{written}");
        found.problem(
            at,
            &path.keys(&["scaling", "minReplicas"]),
            message,
            "raise maxReplicas or lower minReplicas",
        );
    }
}

/// Lists that become one variable, separated by commas.
fn check_exceptions(spec: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    for field in ["on", "neverOn"] {
        let items = spec.at(&["retry", field]).map(Node::items).unwrap_or_default();
        for (index, item) in items.iter().enumerate() {
            let Some(name) = item.text() else { continue };
            if name.is_empty() || name.contains(|c: char| c == ',' || c.is_whitespace()) {
                let path = path.keys(&["retry", field]).index(index);
                let message = format!("{name:?} is not an exception name or error code");
                found.problem(
                    item.position,
                    &path,
                    message,
                    "one name per item, e.g. ConnectionError",
                );
            }
        }
    }
}

fn check_kind(spec: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    let text = |field| spec.at(&["workload", field]).and_then(Node::text);
    let (Some(kind), Some(alias), Some(node)) = (text("kind"), text("type"), spec.at(&["workload", "type"]))
    else {
        return;
    };
    if kind != "Deployment" && kind != alias {
        let message = format!("type {alias} contradicts kind {kind}");
        found.problem(
            node.position,
            &path.keys(&["workload", "type"]),
            message,
            "remove `type`: `kind` is its new name",
        );
    }
}

fn check_pod(spec: &Node, spec_path: &KeyPath, found: &mut Findings<'_>) {
    let native = spec.at(&["workload", "runtime"]).and_then(Node::text) == Some("native");
    let Some(pod) = spec.at(&["workload", "template", "spec"]) else {
        return;
    };
    let path = spec_path.keys(&["workload", "template", "spec"]);
    for (field, kind) in [("containers", "container"), ("initContainers", "init container")] {
        check_reserved(pod, field, kind, &path, found);
    }
    check_volumes(pod, &path, found);
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
    check_runtime(runtime, native, &path, found);
    super::calls::check(spec, spec_path, runtime, &path, found);
}

fn is_runtime(container: &Node) -> bool {
    container.get("name").and_then(Node::text) == Some(RUNTIME_CONTAINER)
}

fn check_reserved(pod: &Node, field: &str, kind: &str, path: &KeyPath, found: &mut Findings<'_>) {
    for (index, container) in pod
        .get(field)
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
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
    let hint = "the volume is added by itself; choose another name";
    for (index, volume) in pod
        .get("volumes")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let Some(node) = volume.get("name") else { continue };
        if let Some(name) = node.text().filter(|name| INJECTED_VOLUMES.contains(name)) {
            let path = path.key("volumes").index(index).key("name");
            found.problem(
                node.position,
                &path,
                format!("the volume name `{name}` is reserved"),
                hint,
            );
        }
    }
    for (position, container) in pod
        .get("containers")
        .map(Node::items)
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        for (index, mount) in container
            .get("volumeMounts")
            .map(Node::items)
            .unwrap_or_default()
            .iter()
            .enumerate()
        {
            let Some(node) = mount.get("mountPath") else {
                continue;
            };
            if let Some(target) = node
                .text()
                .filter(|target| INJECTED_MOUNTS.contains(&target.trim_end_matches('/')))
            {
                let path = path
                    .key("containers")
                    .index(position)
                    .key("volumeMounts")
                    .index(index)
                    .key("mountPath");
                let message = format!("{target} is where the runtime's own volume is mounted");
                found.problem(node.position, &path, message, "mount it elsewhere");
            }
        }
    }
}

fn check_runtime(container: &Node, native: bool, path: &KeyPath, found: &mut Findings<'_>) {
    if let Some(entry) = container.entry("command")
        && !native
        && !entry.value.items().is_empty()
    {
        let message = format!("the container `{RUNTIME_CONTAINER}` must not set a command");
        let hint = "remove it: the runtime's command is set by itself; `args` and spec.workload.pythonExecutable are allowed";
        found.problem(entry.position, &path.key("command"), message, hint);
    }
    check_handler(container, path, found);
    if let Some((index, node)) = variable(container, "ASYA_HANDLER_MODE")
        && let Some(mode) = literal(node)
        && !["", "payload", "envelope"].contains(&mode.text.to_lowercase().as_str())
    {
        let path = path.key("env").index(index).key("value");
        found.problem(
            mode.at,
            &path,
            format!("{:?} is not a handler mode", mode.text),
            "write payload or envelope",
        );
    }
}

fn check_handler(container: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    let Some((index, node)) = variable(container, "ASYA_HANDLER") else {
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
    if !is_handler(handler.text) {
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

    #[test]
    fn names() {
        for good in ["a", "0", "hello-actor", "a.b", "1-a"] {
            assert!(is_dns_name(good), "{good}");
        }
        for bad in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a/b", "é"] {
            assert!(!is_dns_name(bad), "{bad}");
        }
    }
}
