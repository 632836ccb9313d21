//! Parser events to [`Node`]s, without recursion and within a budget.

use std::collections::HashMap;

use saphyr_parser::{Event, Parser, ScalarStyle, Span, Tag};

use super::scalar::{ScalarError, resolve, resolve_tagged};
use super::{Entry, Kind, Node};
use crate::path::KeyPath;
use crate::problem::Position;

/// Values in one file after expanding aliases; a bomb of nested aliases ends here.
const MOST_NODES: usize = 100_000;
/// Collections within collections; a pod template needs about fifteen.
const MOST_DEPTH: usize = 64;

/// A mistake in the YAML itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    pub(crate) position: Position,
    pub(crate) key: String,
    pub(crate) message: String,
    pub(crate) hint: Option<&'static str>,
}

/// Reads every document of a file. After a syntax error the documents before it are still returned.
pub(crate) fn parse(text: &str) -> (Vec<Node>, Vec<Fault>) {
    let mut builder = Builder::default();
    for event in Parser::new_from_str(text) {
        let (event, span) = match event {
            Ok(found) => found,
            Err(error) => {
                let (line, column) = (error.marker().line(), error.marker().col() + 1);
                builder.faults.push(Fault {
                    position: Position {
                        line: line.max(1),
                        column,
                    },
                    key: String::new(),
                    message: format!("not valid YAML: {}", error.info()),
                    hint: Some(
                        "check the indentation, the quotes and the colons on this line and the one before it",
                    ),
                });
                break;
            }
        };
        if builder.take(event, span).is_err() {
            break;
        }
    }
    (builder.documents, builder.faults)
}

/// The file is beyond a bound, or refers to itself; the fault is recorded and reading stops.
struct Stop;

/// A finished anchor: its value, how many values it holds, how deep it is.
struct Anchor {
    node: Node,
    size: usize,
    height: usize,
}

/// An open collection.
struct Frame {
    position: Position,
    anchor: usize,
    /// Values inside so far, this one included.
    size: usize,
    /// Levels inside so far.
    height: usize,
    content: Content,
}

enum Content {
    List(Vec<Node>),
    Map {
        entries: Vec<Entry>,
        seen: HashMap<String, Position>,
        key: PendingKey,
        merges: Vec<Node>,
    },
}

/// Where a mapping stands between two entries.
enum PendingKey {
    /// The next value is a key.
    None,
    Named(String, Position),
    Merge,
    /// The key was refused; its value is read and dropped.
    Refused,
}

#[derive(Default)]
struct Builder {
    documents: Vec<Node>,
    faults: Vec<Fault>,
    stack: Vec<Frame>,
    anchors: HashMap<usize, Anchor>,
    nodes: usize,
}

impl Builder {
    fn take(&mut self, event: Event<'_>, span: Span) -> Result<(), Stop> {
        let position = Position {
            line: span.start.line().max(1),
            column: span.start.col() + 1,
        };
        match event {
            Event::Scalar(text, style, anchor, tag) => {
                let node = self.scalar(&text, style, tag.as_deref(), position);
                self.count(1, position)?;
                self.finish(node, anchor, 1, 0)?;
            }
            Event::SequenceStart(anchor, tag) => {
                self.open(Content::List(Vec::new()), anchor, tag.as_deref(), "seq", position)?;
            }
            Event::MappingStart(anchor, tag) => {
                let content = Content::Map {
                    entries: Vec::new(),
                    seen: HashMap::new(),
                    key: PendingKey::None,
                    merges: Vec::new(),
                };
                self.open(content, anchor, tag.as_deref(), "map", position)?;
            }
            Event::SequenceEnd | Event::MappingEnd => self.close()?,
            Event::Alias(id) => self.alias(id, position)?,
            Event::DocumentStart(_) => {
                self.anchors.clear();
                self.stack.clear();
            }
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => {}
        }
        Ok(())
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, tag: Option<&Tag>, position: Position) -> Node {
        let plain = style == ScalarStyle::Plain;
        let value = match tag {
            Some(tag) if tag.is_yaml_core_schema() => resolve_tagged(text, &tag.suffix),
            Some(tag) => Err(ScalarError::UnknownTag(tag.to_string())),
            None if plain => resolve(text),
            None => Ok(Kind::Text(text.to_owned())),
        };
        let kind = value.unwrap_or_else(|error| {
            self.fault(position, error.to_string(), Some("quote it if text is meant"));
            Kind::Text(text.to_owned())
        });
        Node {
            position,
            kind,
            plain: (plain && tag.is_none()).then(|| text.to_owned()),
        }
    }

    fn open(
        &mut self,
        content: Content,
        anchor: usize,
        tag: Option<&Tag>,
        expected: &str,
        position: Position,
    ) -> Result<(), Stop> {
        if let Some(tag) = tag
            && !(tag.is_yaml_core_schema() && tag.suffix == expected)
        {
            self.fault(position, format!("the tag {tag} is not known"), Some("remove it"));
        }
        self.count(1, position)?;
        if self.stack.len() >= MOST_DEPTH {
            return self.stop(position, format!("nested more than {MOST_DEPTH} levels deep"));
        }
        self.stack.push(Frame {
            position,
            anchor,
            size: 1,
            height: 0,
            content,
        });
        Ok(())
    }

    fn close(&mut self) -> Result<(), Stop> {
        let Some(frame) = self.stack.pop() else {
            return Ok(());
        };
        let kind = match frame.content {
            Content::List(items) => Kind::List(items),
            Content::Map {
                mut entries,
                mut seen,
                merges,
                ..
            } => {
                for source in merges {
                    self.merge(source, &mut entries, &mut seen);
                }
                Kind::Map(entries)
            }
        };
        let node = Node {
            position: frame.position,
            kind,
            plain: None,
        };
        self.finish(node, frame.anchor, frame.size, frame.height + 1)
    }

    /// `<<: *other` or `<<: [*one, *two]`: keys that stand in the mapping itself win, then earlier sources.
    fn merge(&mut self, source: Node, into: &mut Vec<Entry>, seen: &mut HashMap<String, Position>) {
        match source.kind {
            Kind::Map(entries) => {
                for entry in entries {
                    if !seen.contains_key(&entry.key) {
                        seen.insert(entry.key.clone(), entry.position);
                        into.push(entry);
                    }
                }
            }
            Kind::List(items) if items.iter().all(|item| matches!(item.kind, Kind::Map(_))) => {
                for item in items {
                    self.merge(item, into, seen);
                }
            }
            _ => self.fault(
                source.position,
                "a merge key `<<` needs a mapping or a list of mappings".to_owned(),
                Some("refer to an anchored mapping, e.g. `<<: *defaults`"),
            ),
        }
    }

    fn alias(&mut self, id: usize, position: Position) -> Result<(), Stop> {
        let Some(anchor) = self.anchors.get(&id) else {
            return self.stop(
                position,
                "an alias refers to the value that contains it".to_owned(),
            );
        };
        let (size, height) = (anchor.size, anchor.height);
        if self.stack.len() + height > MOST_DEPTH {
            return self.stop(
                position,
                format!("aliases expand to more than {MOST_DEPTH} levels"),
            );
        }
        self.count(size, position)?;
        let Some(anchor) = self.anchors.get(&id) else {
            return Ok(());
        };
        let node = anchor.node.clone();
        self.finish(node, 0, size, height)
    }

    /// Hands a complete value to the collection around it, or ends the document.
    fn finish(&mut self, node: Node, anchor: usize, size: usize, height: usize) -> Result<(), Stop> {
        if anchor != 0 {
            // The copy kept for aliases is paid for as well, or anchors within anchors would multiply memory.
            self.count(size, node.position)?;
            self.anchors.insert(
                anchor,
                Anchor {
                    node: node.clone(),
                    size,
                    height,
                },
            );
        }
        let Some(frame) = self.stack.last_mut() else {
            self.documents.push(node);
            return Ok(());
        };
        frame.size += size;
        frame.height = frame.height.max(height);
        match &mut frame.content {
            Content::List(items) => items.push(node),
            Content::Map {
                entries, key, merges, ..
            } => match std::mem::replace(key, PendingKey::None) {
                PendingKey::None => self.key(&node),
                PendingKey::Named(key, position) => entries.push(Entry {
                    key,
                    position,
                    value: node,
                }),
                PendingKey::Merge => merges.push(node),
                PendingKey::Refused => {}
            },
        }
        Ok(())
    }

    /// A mapping's key: scalars by their text, as JSON has it.
    fn key(&mut self, node: &Node) {
        let name = match &node.kind {
            Kind::Text(text) => Some(text.clone()),
            Kind::Bool(_) | Kind::Number(_) => node.plain.clone(),
            Kind::Null | Kind::List(_) | Kind::Map(_) => None,
        };
        let Some(name) = name else {
            self.fault(
                node.position,
                format!("a key must be text, not {}", node.describe()),
                None,
            );
            self.pending(PendingKey::Refused);
            return;
        };
        if name == "<<" && node.plain.is_some() {
            self.pending(PendingKey::Merge);
            return;
        }
        let earlier = match self.stack.last_mut().map(|frame| &mut frame.content) {
            Some(Content::Map { seen, .. }) => {
                let earlier = seen.get(&name).copied();
                seen.entry(name.clone()).or_insert(node.position);
                earlier
            }
            _ => None,
        };
        let Some(earlier) = earlier else {
            self.pending(PendingKey::Named(name, node.position));
            return;
        };
        let message = format!("the key appears twice; the first is on line {}", earlier.line);
        let key = self.path().key(&name).to_string();
        let hint = Some("keep one of the two");
        self.faults.push(Fault {
            position: node.position,
            key,
            message,
            hint,
        });
        self.pending(PendingKey::Refused);
    }

    fn pending(&mut self, next: PendingKey) {
        if let Some(Frame {
            content: Content::Map { key, .. },
            ..
        }) = self.stack.last_mut()
        {
            *key = next;
        }
    }

    fn count(&mut self, more: usize, position: Position) -> Result<(), Stop> {
        self.nodes = self.nodes.saturating_add(more);
        if self.nodes <= MOST_NODES {
            return Ok(());
        }
        self.stop(
            position,
            format!("more than {MOST_NODES} values in one file, aliases expanded"),
        )
    }

    fn stop(&mut self, position: Position, message: String) -> Result<(), Stop> {
        self.fault(position, message, None);
        Err(Stop)
    }

    fn fault(&mut self, position: Position, message: String, hint: Option<&'static str>) {
        let key = self.path().to_string();
        self.faults.push(Fault {
            position,
            key,
            message,
            hint,
        });
    }

    fn path(&self) -> KeyPath {
        self.stack
            .iter()
            .fold(KeyPath::default(), |path, frame| match &frame.content {
                Content::List(items) => path.index(items.len()),
                Content::Map {
                    key: PendingKey::Named(name, _),
                    ..
                } => path.key(name),
                Content::Map {
                    key: PendingKey::Merge,
                    ..
                } => path.key("<<"),
                Content::Map { .. } => path,
            })
    }
}
