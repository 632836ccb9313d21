//! What a document may look like, as data, and the walk that compares.
//!
//! A [`Shape`] says which keys and types are allowed. [`conform`] walks a [`Node`] along it, reports every
//! difference with its place, and brings scalars that mean the right thing into the right type (`yes` where a
//! boolean stands, `3` where text is read as written), so that deserialising afterwards cannot disagree.

mod scalar;

use std::path::Path;

use scalar::{
    conform_bool, conform_bytes, conform_choice, conform_duration, conform_integer, conform_number,
    conform_scalar, conform_text, expect_kind,
};

use crate::path::KeyPath;
use crate::problem::{Location, Position, Problem, Problems};
use crate::suggest;
use crate::yaml::{Entry, Kind, Node};

/// The shape of one value.
pub(crate) enum Shape {
    /// Anything at all.
    Any,
    /// A mapping with any content.
    Object,
    /// Text.
    Text,
    /// Text; other scalars are taken as they are written, as a YAML reader with typed fields does.
    Scalar,
    Bool,
    /// An integer within bounds, both included.
    Integer {
        least: i64,
        most: i64,
    },
    /// A number within bounds, both included.
    Number {
        least: f64,
        most: f64,
    },
    /// One of these words.
    Choice(&'static [&'static str]),
    /// A duration such as `500ms` or `1h30m`.
    Duration,
    /// A count of bytes: an integer or a quantity such as `64Mi`.
    Bytes,
    List(&'static Shape),
    /// A mapping with any keys and one shape of value.
    MapOf(&'static Shape),
    Record(&'static Record),
}

/// An integer that ends up in 32 bits with a sign, as Kubernetes has it.
pub(crate) const fn at_least(least: i64) -> Shape {
    // i32::MAX; a conversion is not const.
    let most = 2_147_483_647;
    Shape::Integer { least, most }
}

/// A mapping with known keys.
pub(crate) struct Record {
    pub(crate) fields: &'static [Field],
    /// Other keys are let through unseen (parts of a pod, which grow with Kubernetes).
    pub(crate) open: bool,
    /// Keys that older documents show and nothing ever read: remarked on, not refused.
    pub(crate) inert: &'static [&'static str],
}

/// One key of a [`Record`].
pub(crate) struct Field {
    pub(crate) name: &'static str,
    pub(crate) shape: Shape,
    pub(crate) required: bool,
    /// `key:` without a value means an absent key, as Kubernetes reads it inside a pod.
    pub(crate) nullable: bool,
}

impl Field {
    pub(crate) const fn optional(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            required: false,
            nullable: false,
        }
    }

    pub(crate) const fn required(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            required: true,
            nullable: false,
        }
    }

    pub(crate) const fn nullable(name: &'static str, shape: Shape) -> Self {
        Self {
            name,
            shape,
            required: false,
            nullable: true,
        }
    }
}

/// The problems and remarks of one file or stored object, with its name at hand.
pub(crate) struct Findings<'a> {
    pub(crate) file: &'a Path,
    source: Source,
    pub(crate) problems: Problems,
    pub(crate) notices: Problems,
}

/// What is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Source {
    /// What a person wrote: every slip counts.
    File,
    /// What an API server has admitted: it has dealt with unknown fields, and only what cannot run is wrong.
    Object,
}

impl<'a> Findings<'a> {
    pub(crate) fn new(file: &'a Path) -> Self {
        Self::of(file, Source::File)
    }

    /// For an object of a cluster: it has no file and no lines.
    pub(crate) fn of_object() -> Findings<'static> {
        Findings::of(Path::new(""), Source::Object)
    }

    /// Whether the document is an object of a cluster.
    pub(crate) fn is_object(&self) -> bool {
        self.source == Source::Object
    }

    fn of(file: &'a Path, source: Source) -> Self {
        Self {
            file,
            source,
            problems: Problems::default(),
            notices: Problems::default(),
        }
    }

    pub(crate) fn problem(&mut self, at: Position, key: &KeyPath, message: impl Into<String>, hint: &str) {
        let problem = self.problem_at(at, key, message.into(), hint);
        self.problems.push(problem);
    }

    pub(crate) fn notice(&mut self, at: Position, key: &KeyPath, message: impl Into<String>, hint: &str) {
        let notice = self.problem_at(at, key, message.into(), hint);
        self.notices.push(notice);
    }

    fn problem_at(&self, at: Position, key: &KeyPath, message: String, hint: &str) -> Problem {
        let problem = Problem::new(Location::at(self.file, at), key.to_string(), message);
        if hint.is_empty() {
            problem
        } else {
            problem.hint(hint)
        }
    }
}

/// Compares a value with its shape; `at` is where a missing key is reported (the key that holds the value).
pub(crate) fn conform(
    node: &mut Node,
    shape: &Shape,
    at: Position,
    path: &KeyPath,
    found: &mut Findings<'_>,
) {
    match shape {
        Shape::Any => {}
        Shape::Object => expect_kind(node, matches!(node.kind, Kind::Map(_)), "a mapping", path, found),
        Shape::Text => conform_text(node, path, found),
        Shape::Scalar => conform_scalar(node, path, found),
        Shape::Bool => conform_bool(node, path, found),
        Shape::Integer { least, most } => conform_integer(node, *least, *most, path, found),
        Shape::Number { least, most } => conform_number(node, *least, *most, path, found),
        Shape::Choice(words) => conform_choice(node, words, path, found),
        Shape::Duration => conform_duration(node, path, found),
        Shape::Bytes => conform_bytes(node, path, found),
        Shape::List(item) => match &mut node.kind {
            Kind::List(items) => {
                for (index, node) in items.iter_mut().enumerate() {
                    conform(node, item, node.position, &path.index(index), found);
                }
            }
            _ => expect_kind(node, false, "a list", path, found),
        },
        Shape::MapOf(value) => match &mut node.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    conform(
                        &mut entry.value,
                        value,
                        entry.position,
                        &path.key(&entry.key),
                        found,
                    );
                }
            }
            _ => expect_kind(node, false, "a mapping", path, found),
        },
        Shape::Record(record) => conform_record(node, record, at, path, found),
    }
}

fn conform_record(node: &mut Node, record: &Record, at: Position, path: &KeyPath, found: &mut Findings<'_>) {
    let Kind::Map(entries) = &mut node.kind else {
        return expect_kind(node, false, "a mapping", path, found);
    };
    entries.retain(|entry| {
        !(entry.value.is_null()
            && record
                .fields
                .iter()
                .any(|field| field.nullable && field.name == entry.key))
    });
    entries.retain_mut(|entry| conform_entry(entry, record, path, found));
    for field in record.fields.iter().filter(|field| field.required) {
        if !entries.iter().any(|entry| entry.key == field.name) {
            let message = "required, but missing";
            found.problem(
                at,
                &path.key(field.name),
                message,
                &format!("add `{}:` here", field.name),
            );
        }
    }
}

/// Whether the entry stays in the tree.
fn conform_entry(entry: &mut Entry, record: &Record, path: &KeyPath, found: &mut Findings<'_>) -> bool {
    let below = path.key(&entry.key);
    if let Some(field) = record.fields.iter().find(|field| field.name == entry.key) {
        conform(&mut entry.value, &field.shape, entry.position, &below, found);
        return true;
    }
    if record.open {
        return true;
    }
    if record.inert.contains(&entry.key.as_str()) {
        let message = "this field has no effect and never had";
        found.notice(entry.position, &below, message, "remove it");
        return false;
    }
    if found.is_object() {
        return true;
    }
    found.problem(
        entry.position,
        &below,
        "unknown field",
        &unknown_field_hint(&entry.key, record),
    );
    true
}

/// A similar key here, else the same key further down, else what is known here.
fn unknown_field_hint(key: &str, record: &Record) -> String {
    let names = || record.fields.iter().map(|field| field.name);
    if let Some(name) = suggest::nearest(key, names()) {
        return format!("did you mean `{name}`?");
    }
    if let Some(path) = find_below(key, record, &KeyPath::default(), 6) {
        return format!("`{key}` belongs under `{path}`");
    }
    format!("known here: {}", names().collect::<Vec<_>>().join(", "))
}

/// The path to the record below this one that knows the key.
fn find_below(key: &str, record: &Record, path: &KeyPath, levels: usize) -> Option<KeyPath> {
    let levels = levels.checked_sub(1)?;
    record.fields.iter().find_map(|field| {
        let Shape::Record(inner) = &field.shape else {
            return None;
        };
        let below = path.key(field.name);
        if inner.fields.iter().any(|field| field.name == key) {
            return Some(below);
        }
        find_below(key, inner, &below, levels)
    })
}
