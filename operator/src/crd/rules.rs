//! The rules that a schema cannot say, in CEL, with what to do about it (contract operator §1.6 and §5).
//!
//! Each has its twin in `asya_manifest::check_object`; a test on a real API server compares the two. CEL needs bounds on
//! lists and texts to stay within its budget: [`BOUNDS`] gives them, so wide that nothing which can run meets them.

use serde_json::{Value, json};

/// One rule.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rule {
    /// The value that `self` is, as in `spec.retry.on[]`; empty for the whole object.
    pub(super) at: &'static str,
    /// What must hold.
    pub(super) holds: &'static str,
    /// What is said if it does not, and what to do.
    pub(super) message: &'static str,
    /// The same with values in it, as a CEL expression; empty if there are none. Servers before 1.27 say `message`.
    pub(super) detail: &'static str,
    /// The field below `at` that is named in the answer, e.g. `.minReplicas`; empty for `at` itself.
    pub(super) field: &'static str,
}

/// A rule about `at` itself with a fixed message.
const fn rule(at: &'static str, holds: &'static str, message: &'static str) -> Rule {
    Rule {
        at,
        holds,
        message,
        detail: "",
        field: "",
    }
}

impl Rule {
    const fn detail(mut self, detail: &'static str) -> Self {
        self.detail = detail;
        self
    }

    const fn field(mut self, field: &'static str) -> Self {
        self.field = field;
        self
    }

    /// As it stands in the schema.
    fn to_json(self) -> Value {
        let mut rule = json!({"rule": self.holds, "message": self.message});
        if !self.detail.is_empty() {
            rule["messageExpression"] = self.detail.into();
        }
        if !self.field.is_empty() {
            rule["fieldPath"] = self.field.into();
        }
        rule
    }
}

const POD: &str = "spec.workload.template.spec";
const CONTAINER: &str = "spec.workload.template.spec.containers[]";

/// All of them, in the order of the page.
///
/// Stored objects of before may break every rule and lack every field, and must still take a status and lose their
/// finalizer: the server lets a broken rule pass where nothing changed, but not an expression that fails. Hence `has`
/// before each use of a field.
///
/// Rules on the whole object hold when it is created only: an object that an earlier operator let through keeps its name,
/// and must still take a status and lose its finalizer. A new object has no status yet (the server drops it).
pub(super) const RULES: [Rule; 21] = [
    rule(
        "",
        "has(self.status) || size(self.metadata.name) <= 63",
        "an actor's name has at most 63 characters, because it becomes a label value: choose a shorter metadata.name",
    )
    .field(".metadata.name"),
    rule(
        "",
        "has(self.status) || !self.metadata.name.startsWith('asya-')",
        "an actor's name must not start with asya-: remove the prefix, its queue gets it by itself",
    )
    .field(".metadata.name"),
    rule(
        "",
        "has(self.status) || !has(self.spec) || !has(self.spec.workload) || !(self.spec.workload.kind == 'StatefulSet' || (has(self.spec.workload.type) && self.spec.workload.type == 'StatefulSet' && self.spec.workload.kind == 'Deployment')) || (size(self.metadata.name) <= 52 && !self.metadata.name.contains('.') && (has(self.spec.workload.serviceName) || self.metadata.name.matches('^[a-z]')))",
        "the name of a StatefulSet has at most 52 characters, no dots, and begins with a letter unless spec.workload.serviceName is set: choose another metadata.name",
    )
    .field(".metadata.name"),
    rule(
        "spec.scaling",
        "!has(self.enabled) || !self.enabled || self.minReplicas <= self.maxReplicas",
        "minReplicas is above maxReplicas: raise maxReplicas or lower minReplicas",
    )
    .field(".minReplicas"),
    rule("spec.retry.initialBackoff", DURATION, DURATION_HINT),
    rule("spec.retry.maxBackoff", DURATION, DURATION_HINT),
    rule("spec.retry.maxDuration", DURATION, DURATION_HINT),
    rule("spec.retry.on[]", NAME, NAME_HINT),
    rule("spec.retry.true[]", NAME, NAME_HINT),
    rule("spec.retry.neverOn[]", NAME, NAME_HINT),
    rule(
        "spec.retry",
        "!has(self.on) || !has(self.__true__)",
        "on is there twice, with and without quotes (then it arrives as true): keep one of the two",
    ),
    rule("spec.runtime.batch.wait", DURATION, DURATION_HINT),
    rule(
        "spec.runtime",
        "!(has(self.stream) && self.stream && has(self.batch) && has(self.batch.size) && self.batch.size > 1)",
        "a handler cannot both stream and take batches: remove stream, or set batch.size to 1",
    )
    .field(".stream"),
    rule(
        "spec.workload",
        "!has(self.type) || self.kind == 'Deployment' || self.kind == self.type",
        "type contradicts kind: remove type, kind is its new name",
    )
    .detail("'type ' + self.type + ' contradicts kind ' + self.kind + ': remove type, kind is its new name'")
    .field(".type"),
    rule(
        "spec.workload",
        "!has(self.template) || !has(self.template.spec) || !has(self.template.spec.restartPolicy) || ((self.kind != 'Deployment' ? self.kind : (has(self.type) ? self.type : self.kind)) == 'Job' ? self.template.spec.restartPolicy != 'Always' : self.template.spec.restartPolicy == 'Always')",
        "this restartPolicy does not fit the kind of workload: a Job takes OnFailure or Never, others take Always (or remove it)",
    )
    .field(".template.spec.restartPolicy"),
    rule(
        "spec.workload",
        "self.runtime == 'native' || !has(self.template) || !has(self.template.spec) || !has(self.template.spec.containers) || self.template.spec.containers.all(c, !has(c.name) || c.name != 'asya-runtime' || !has(c.command) || size(c.command) == 0)",
        "the container asya-runtime must not set a command: remove it, the runtime's command is set by itself (args and spec.workload.pythonExecutable are allowed; a program that speaks the protocol itself needs spec.workload.runtime: native)",
    )
    .field(".template.spec.containers"),
    rule(
        POD,
        "!has(self.containers) || self.containers.all(c, !has(c.name) || c.name != 'asya-sidecar')",
        "the container name asya-sidecar is reserved: remove it, the sidecar is added by itself; see spec.sidecar",
    )
    .field(".containers"),
    rule(
        POD,
        "!has(self.initContainers) || self.initContainers.all(c, !has(c.name) || c.name != 'asya-sidecar')",
        "the init container name asya-sidecar is reserved: remove it, the sidecar is added by itself; see spec.sidecar",
    )
    .field(".initContainers"),
    rule(
        POD,
        "!has(self.containers) || self.containers.exists(c, has(c.name) && c.name == 'asya-sidecar') || self.containers.exists_one(c, has(c.name) && c.name == 'asya-runtime')",
        "expected exactly one container named asya-runtime: it is the one that holds the handler; rename the others",
    )
    .detail("self.containers.exists(c, has(c.name) && c.name == 'asya-runtime') ? 'expected exactly one container named asya-runtime, found more: rename or remove the others' : 'expected exactly one container named asya-runtime, found none: give this name to the one that holds the handler'")
    .field(".containers"),
    rule(
        POD,
        "!has(self.volumes) || self.volumes.all(v, !has(v.name) || !(v.name in ['socket-dir', 'tmp', 'asya-runtime']))",
        "the volume names socket-dir, tmp and asya-runtime are reserved: these volumes are added by themselves; choose another name",
    )
    .field(".volumes"),
    rule(
        CONTAINER,
        "!has(self.name) || self.name != 'asya-runtime' || !has(self.volumeMounts) || self.volumeMounts.all(m, !has(m.mountPath) || !(m.mountPath in ['/var/run/asya', '/var/run/asya/', '/opt/asya/asya_runtime.py']))",
        "/var/run/asya and /opt/asya/asya_runtime.py are where the runtime's own volumes are mounted: mount yours elsewhere",
    )
    .field(".volumeMounts"),
];

const DURATION: &str = "self.matches('^(0|([0-9]+(\\\\.[0-9]+)?(ns|us|µs|μs|ms|s|m|h))+)$')";
const DURATION_HINT: &str = "not a duration: write it like 500ms, 30s or 1h30m";
const NAME: &str = "self.matches('^[^,\\\\s]+$')";
const NAME_HINT: &str = "not an exception name or error code: give one name per item, e.g. ConnectionError";

/// Linux starts no process with a longer variable (`MAX_ARG_STRLEN`).
const LONGEST_VARIABLE: u32 = 131_072;

/// Most items of a list, most characters of a text.
const BOUNDS: [(&str, &str, u32); 21] = [
    ("spec.retry.on", "maxItems", 500),
    ("spec.retry.on[]", "maxLength", 500),
    ("spec.retry.true", "maxItems", 500),
    ("spec.retry.true[]", "maxLength", 500),
    ("spec.retry.neverOn", "maxItems", 500),
    ("spec.retry.neverOn[]", "maxLength", 500),
    ("spec.retry.initialBackoff", "maxLength", 100),
    ("spec.retry.maxBackoff", "maxLength", 100),
    ("spec.retry.maxDuration", "maxLength", 100),
    ("spec.runtime.batch.wait", "maxLength", 100),
    ("spec.sidecar.env", "maxItems", 2000),
    ("spec.sidecar.env[].value", "maxLength", LONGEST_VARIABLE),
    ("spec.workload.template.spec.containers", "maxItems", 100),
    ("spec.workload.template.spec.containers[].env", "maxItems", 2000),
    (
        "spec.workload.template.spec.containers[].env[].value",
        "maxLength",
        LONGEST_VARIABLE,
    ),
    (
        "spec.workload.template.spec.containers[].volumeMounts",
        "maxItems",
        500,
    ),
    (
        "spec.workload.template.spec.containers[].volumeMounts[].mountPath",
        "maxLength",
        4096,
    ),
    ("spec.workload.template.spec.initContainers", "maxItems", 100),
    (
        "spec.workload.template.spec.initContainers[].env",
        "maxItems",
        2000,
    ),
    (
        "spec.workload.template.spec.initContainers[].env[].value",
        "maxLength",
        LONGEST_VARIABLE,
    ),
    ("spec.workload.template.spec.volumes", "maxItems", 1000),
];

/// Adds rules and bounds to the schema of the whole object.
pub(super) fn add_to(object: &mut Value) {
    for (at, keyword, most) in BOUNDS {
        find(object, at)[keyword] = most.into();
    }
    for rule in RULES {
        let place = find(object, rule.at);
        if rule.holds == DURATION
            && let Some(schema) = place.as_object_mut()
        {
            // The rule says the same and how to write it.
            schema.remove("pattern");
        }
        match &mut place["x-kubernetes-validations"] {
            Value::Array(rules) => rules.push(rule.to_json()),
            none => *none = json!([rule.to_json()]),
        }
    }
}

/// The schema of one field.
fn find<'a>(object: &'a mut Value, at: &str) -> &'a mut Value {
    at.split('.')
        .filter(|key| !key.is_empty())
        .fold(object, |schema, key| {
            let (name, is_list) = key.strip_suffix("[]").map_or((key, false), |name| (name, true));
            let property = &mut schema["properties"][name];
            if is_list { &mut property["items"] } else { property }
        })
}
