//! What a manifest of the right shape must still get right: names, replicas, words that contradict each
//! other. The pod's own rules are in `pod`.

use super::UNQUOTED_ON;
use crate::path::KeyPath;
use crate::shape::Findings;
use crate::yaml::{Entry, Node};

/// An actor's name becomes a label value.
const LONGEST_NAME: usize = 63;
/// With a hash of 10 characters behind it, the name of a `StatefulSet` becomes a label value of its pods.
const LONGEST_STATEFUL_NAME: usize = 52;

/// Reports every broken rule. Values of a wrong type are passed over: the shape has reported them.
pub(crate) fn check(document: &Node, root: &KeyPath, found: &mut Findings<'_>) {
    check_name(document, root, found);
    let Some(spec) = document.get("spec") else { return };
    let path = root.key("spec");
    check_transport(spec, &path, found);
    check_replicas(spec, &path, found);
    check_exceptions(spec, &path, found);
    check_kind(spec, &path, found);
    check_resources(spec, &path, found);
    super::pod::check(spec, &path, found);
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
    } else if let Some(spec) = document
        .get("spec")
        .filter(|spec| effective_kind(spec) == "StatefulSet")
    {
        let message = format!("{name:?} cannot be the name of a StatefulSet");
        if name.len() > LONGEST_STATEFUL_NAME {
            found.problem(
                node.position,
                &path,
                message,
                "use at most 52 characters: its pods add to the name",
            );
        } else if name.contains('.') {
            found.problem(
                node.position,
                &path,
                message,
                "use no dots: its pods become host names",
            );
        } else if !name.starts_with(|c: char| c.is_ascii_lowercase())
            && spec.at(&["workload", "serviceName"]).is_none()
        {
            let hint = "begin it with a letter, as its Service must, or set spec.workload.serviceName";
            found.problem(node.position, &path, message, hint);
        }
    }
}

/// Amounts of the sidecar's resources: whole numbers or quantities.
fn check_resources(spec: &Node, path: &KeyPath, found: &mut Findings<'_>) {
    for field in ["limits", "requests"] {
        let keys = ["sidecar", "resources", field];
        let amounts = spec.at(&keys).map(Node::entries).unwrap_or_default();
        for Entry { key, value, .. } in amounts {
            if value.integer().is_some() || value.text().is_some_and(is_quantity) {
                continue;
            }
            let message = format!("expected a quantity, found {}", value.describe());
            let hint = "write it like 500m, 2, \"0.5\" or 64Mi";
            found.problem(value.position, &path.keys(&keys).key(key), message, hint);
        }
    }
}

/// A Kubernetes quantity: a decimal number with a sign, and a suffix or an exponent.
fn is_quantity(text: &str) -> bool {
    const SUFFIXES: [&str; 16] = [
        "", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
    ];
    let text = unsigned(text);
    let end = text
        .find(|c: char| !(c.is_ascii_digit() || c == '.'))
        .unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let exponent = suffix.strip_prefix(['e', 'E']).map(unsigned);
    is_decimal(number) && (SUFFIXES.contains(&suffix) || exponent.is_some_and(is_decimal))
}

fn unsigned(number: &str) -> &str {
    number.strip_prefix(['+', '-']).unwrap_or(number)
}

fn is_decimal(text: &str) -> bool {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let digits = |part: &str| part.bytes().all(|b| b.is_ascii_digit());
    !(whole.is_empty() && fraction.is_empty()) && digits(whole) && digits(fraction)
}

/// What runs the pods: `type` when it is written and `kind` is the default, else `kind`.
pub(super) fn effective_kind(spec: &Node) -> &str {
    let text = |field| spec.at(&["workload", field]).and_then(Node::text);
    match text("kind") {
        None | Some("Deployment") => text("type").unwrap_or("Deployment"),
        Some(kind) => kind,
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
    if let (Some(_), Some(again)) = (spec.at(&["retry", "on"]), spec.at(&["retry", UNQUOTED_ON])) {
        let path = path.keys(&["retry", UNQUOTED_ON]);
        let message = "`on` is there a second time, without quotes";
        found.problem(again.position, &path, message, "keep one of the two");
    }
    for field in ["on", UNQUOTED_ON, "neverOn"] {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities() {
        for good in [
            "1", "0.5", ".5", "5.", "+1", "-1", "500m", "64Mi", "1Ei", "2E", "1e3", "1E-3", "1.5e+2",
        ] {
            assert!(is_quantity(good), "{good}");
        }
        for bad in [
            "", ".", "m", "lots", "64MB", "1 Gi", "1e", "1e3m", "1ei", "--1", "1..2", "0x1",
        ] {
            assert!(!is_quantity(bad), "{bad}");
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
