//! The rules of a manifest for an object that an API server holds.

use std::path::Path;

use serde_json::{Value, json};

use super::shape::{MANIFEST, SPEC};
use crate::path::KeyPath;
use crate::problem::{Position, Problem};
use crate::shape::{Findings, Shape, conform};
use crate::yaml::Node;

/// Where a document without lines begins.
const START: Position = Position { line: 0, column: 0 };

/// Every rule that an actor breaks, one line each: `spec.workload.template…: message; hint`.
///
/// `spec` is what the API server holds, defaults included. The rules are those of a manifest in a file with three
/// differences: fields that are not known are let through, a Python actor may have no `ASYA_HANDLER` (its image may set
/// one), and a native one may have any. A reserved container name is reported before the wrong number of runtimes
/// (contract operator §5). Nothing is reported for what only the registry can tell: transports and their limits on names.
pub fn check_object(name: &str, spec: &Value) -> Vec<String> {
    let mut found = Findings::of_object();
    let document = examine(name, spec, &mut found);
    super::check(&document, &KeyPath::default(), &mut found);
    found.problems.iter().map(line).collect()
}

/// Paths of fields that older documents show and nothing reads, e.g. `spec.socket`: worth a word to whoever wrote them.
pub fn ineffective_fields(spec: &Value) -> Vec<String> {
    let mut found = Findings::of_object();
    examine("", spec, &mut found);
    found.notices.iter().map(|notice| notice.key.clone()).collect()
}

/// Everything that is wrong with an AsyncActor document, one line each, as if it stood in a file: unknown fields and a
/// missing handler count.
pub fn check_document(document: &Value) -> Vec<String> {
    let mut found = Findings::new(Path::new(""));
    let (mut node, root) = (Node::from_json(document), KeyPath::default());
    conform(&mut node, &Shape::Record(&MANIFEST), START, &root, &mut found);
    super::check(&node, &root, &mut found);
    found.problems.iter().map(line).collect()
}

/// Compares the object with the shape of a spec, which also drops what means nothing (`env: null`).
fn examine(name: &str, spec: &Value, found: &mut Findings<'_>) -> Node {
    let mut node = Node::from_json(spec);
    conform(
        &mut node,
        &Shape::Record(&SPEC),
        START,
        &KeyPath::default().key("spec"),
        found,
    );
    Node::from_json(&json!({"metadata": {"name": name}, "spec": node.to_json()}))
}

fn line(problem: &Problem) -> String {
    let Problem {
        key, message, hint, ..
    } = problem;
    match hint {
        Some(hint) => format!("{key}: {message}; {hint}"),
        None => format!("{key}: {message}"),
    }
}
