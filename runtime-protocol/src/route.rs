//! The route that travels inside an envelope, and what the sidecars note in its metadata.

use crate::json::{self, Fields, push_integer, push_string};
use crate::raw::{ObjectBuilder, RawJson, RawObject};

/// Metadata key: hops that this envelope has finished, a non-negative integer (ruling 3).
const STEP: &str = "asya_step";
/// Metadata key: which attempt at the whole envelope this is, an integer from 1 (ruling 5).
const ATTEMPT: &str = "asya_attempt";
/// Metadata key: present once this envelope id has been split.
const SPLIT: &str = "asya_split";

/// Where an envelope goes: the actors in order and the position of the one whose turn it is.
///
/// `current` is not checked against `actors`: a position outside means that the route is finished (contract §6.7).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Route {
    /// Actor names, without queue prefix.
    pub actors: Vec<String>,
    /// Index of the actor whose turn it is.
    pub current: i64,
    /// `route.metadata`, carried across hops; empty when absent.
    pub metadata: RawObject,
    /// Members of the route that this version does not know, carried unchanged.
    pub extra: RawObject,
}

impl Route {
    /// A route at its first actor.
    pub fn new<S: Into<String>>(actors: impl IntoIterator<Item = S>) -> Self {
        Self {
            actors: actors.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }

    /// The actor whose turn it is; `None` when `current` lies outside the list: the route is finished.
    pub fn current_actor(&self) -> Option<&str> {
        usize::try_from(self.current)
            .ok()
            .and_then(|at| self.actors.get(at))
            .map(String::as_str)
    }

    /// The same route, one position on. Only the runtime's end of the socket does this (ruling 18).
    #[must_use]
    pub fn advanced(&self) -> Self {
        Self {
            current: self.current.saturating_add(1),
            ..self.clone()
        }
    }

    /// Hops that this envelope has finished; 0 when nothing (usable) is noted.
    pub fn step(&self) -> u64 {
        self.metadata
            .get_str(STEP)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    }

    /// Notes the finished hops.
    pub fn set_step(&mut self, step: u64) {
        self.metadata.insert(STEP, &RawJson::trusted(step.to_string()));
    }

    /// The same route with the finished hops noted.
    #[must_use]
    pub fn with_step(mut self, step: u64) -> Self {
        self.set_step(step);
        self
    }

    /// Which attempt at the whole envelope this is, from 1; a redrive opens the next (ruling 5). 1 when nothing (usable)
    /// is noted. Retries of one hop do not count.
    pub fn attempt(&self) -> u32 {
        self.metadata
            .get_str(ATTEMPT)
            .and_then(|value| value.parse().ok())
            .filter(|attempt| *attempt > 0)
            .unwrap_or(1)
    }

    /// Notes which attempt this is.
    pub fn set_attempt(&mut self, attempt: u32) {
        self.metadata
            .insert(ATTEMPT, &RawJson::trusted(attempt.to_string()));
    }

    /// Whether this envelope id has already been split; see [`child_id`](crate::child_id).
    pub fn is_split(&self) -> bool {
        self.metadata.get_str(SPLIT).is_some()
    }

    /// Notes that this envelope id has been split.
    pub fn set_split(&mut self) {
        if !self.is_split() {
            self.metadata.insert(SPLIT, &RawJson::trusted(&b"true"[..]));
        }
    }

    /// Removes the note: a child starts with an id that has never been split.
    pub fn clear_split(&mut self) {
        self.metadata.remove(SPLIT);
    }

    /// Reads a route; the flag says whether other readers of the same text could read it differently.
    ///
    /// The error is a sentence about the shape, without the values.
    pub(crate) fn parse(raw: &RawJson) -> Result<(Self, bool), String> {
        let text = raw.as_str();
        if !text.starts_with('{') {
            return Err(format!(
                "`route` must be an object, found {}",
                json::kind_of(text)
            ));
        }
        let mut known = Fields::new(["actors", "current", "metadata", "steps"]);
        let mut steps_key = "\"steps\"";
        let mut extra = ObjectBuilder::default();
        json::for_each_member(text, |key, value| {
            if !known.take(key, value) {
                extra.push(key, value);
            } else if known.written(3) == Some(value) {
                steps_key = key;
            }
        })
        .map_err(|error| error.to_string())?;

        // `steps` is the older name of `actors`; beside `actors` it is a member like any unknown one.
        let (name, actors) = match (known.value(0), known.value(3)) {
            (None, steps) => ("steps", steps),
            (actors, steps) => {
                if let Some(value) = steps {
                    extra.push(steps_key, value);
                }
                ("actors", actors)
            }
        };
        let irregular = known.irregular() || name == "steps" || (0..3).any(|at| known.is_null(at));
        let route = Self {
            actors: actors
                .map(|value| parse_actors(name, value))
                .transpose()?
                .unwrap_or_default(),
            current: known.value(1).map(parse_current).transpose()?.unwrap_or(0),
            metadata: match known.value(2) {
                None => RawObject::new(),
                Some(value) => RawObject::try_from(raw.part(value)).map_err(|found| {
                    format!(
                        "`route.metadata` must be an object, found {}",
                        json::kind_of(found.as_str())
                    )
                })?,
            },
            extra: extra.finish(),
        };
        Ok((route, irregular))
    }

    /// Appends the route as JSON: `actors`, `current`, `metadata` unless empty, unknown members.
    pub(crate) fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"actors\":[");
        for (at, actor) in self.actors.iter().enumerate() {
            if at > 0 {
                out.push(b',');
            }
            push_string(out, actor);
        }
        out.extend_from_slice(b"],\"current\":");
        push_integer(out, self.current);
        if !self.metadata.is_empty() {
            out.extend_from_slice(b",\"metadata\":");
            out.extend_from_slice(self.metadata.as_raw().as_bytes());
        }
        if !self.extra.is_empty() {
            out.push(b',');
            out.extend_from_slice(self.extra.inner().as_bytes());
        }
        out.push(b'}');
    }

    /// An upper bound of the length of the JSON text, escapes aside.
    pub(crate) fn size_hint(&self) -> usize {
        let actors: usize = self.actors.iter().map(|actor| actor.len() + 3).sum();
        actors + self.metadata.as_raw().len() + self.extra.as_raw().len() + 64
    }
}

fn parse_actors(name: &str, text: &str) -> Result<Vec<String>, String> {
    if !text.starts_with('[') {
        return Err(format!(
            "`route.{name}` must be an array of strings, found {}",
            json::kind_of(text)
        ));
    }
    let mut actors = Vec::new();
    let mut problem = None;
    json::for_each_element(text, |element| match json::string_of(element) {
        Some(actor) => actors.push(actor.into_owned()),
        None => {
            problem.get_or_insert_with(|| match json::kind_of(element) {
                "a string" => format!("`route.{name}[{}]` is not valid Unicode", actors.len()),
                kind => format!("`route.{name}[{}]` must be a string, found {kind}", actors.len()),
            });
        }
    })
    .map_err(|error| error.to_string())?;
    problem.map_or(Ok(actors), Err)
}

/// Digits alone: `1.0` and `1e0` are refused, as the original does.
fn parse_current(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| match json::kind_of(text) {
        "a number" => "`route.current` must be an integer of 64 bits, found another number".to_owned(),
        kind => format!("`route.current` must be an integer, found {kind}"),
    })
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn parse(text: &str) -> Result<(Route, bool), String> {
        Route::parse(&RawJson::parse(Bytes::copy_from_slice(text.as_bytes())).unwrap())
    }

    fn written(route: &Route) -> String {
        let mut out = Vec::new();
        route.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_route_is_written_in_one_order_with_everything_that_it_carried() {
        let text = r#"{"x": [1.0],"metadata":{"k" : 1e400},"current":1,"actors":["a","b"]}"#;
        let (route, irregular) = parse(text).unwrap();
        assert!(!irregular);
        assert_eq!(route.current_actor(), Some("b"));
        assert_eq!(
            written(&route),
            r#"{"actors":["a","b"],"current":1,"metadata":{"k" : 1e400},"x":[1.0]}"#
        );
    }

    #[test]
    fn steps_stand_in_for_absent_actors_only() {
        for text in [
            r#"{"steps":["a"]}"#,
            r#"{"actors":null,"steps":["a"]}"#,
            r#"{"STEPS":["a"]}"#,
        ] {
            let (route, irregular) = parse(text).unwrap();
            assert!(irregular, "{text}");
            assert_eq!(written(&route), r#"{"actors":["a"],"current":0}"#);
        }
        let (route, irregular) = parse(r#"{"steps":7,"actors":["a"]}"#).unwrap();
        assert!(!irregular);
        assert_eq!(written(&route), r#"{"actors":["a"],"current":0,"steps":7}"#);
    }

    #[test]
    fn nulls_count_as_absent() {
        let (route, irregular) = parse(r#"{"actors":null,"current":null,"metadata":null}"#).unwrap();
        assert!(irregular);
        assert_eq!(route, Route::default());
        assert_eq!(route.current_actor(), None);
    }

    #[test]
    fn wrong_shapes_are_named_without_quoting_values() {
        for (text, problem) in [
            ("[]", "`route` must be an object, found an array"),
            (
                r#"{"actors":"a"}"#,
                "`route.actors` must be an array of strings, found a string",
            ),
            (
                r#"{"steps":{}}"#,
                "`route.steps` must be an array of strings, found an object",
            ),
            (
                r#"{"actors":["a",null]}"#,
                "`route.actors[1]` must be a string, found null",
            ),
            (
                r#"{"actors":["\ud800"]}"#,
                "`route.actors[0]` is not valid Unicode",
            ),
            (
                r#"{"current":1.0}"#,
                "`route.current` must be an integer of 64 bits, found another number",
            ),
            (
                r#"{"current":1e0}"#,
                "`route.current` must be an integer of 64 bits, found another number",
            ),
            (
                r#"{"current":9223372036854775808}"#,
                "`route.current` must be an integer of 64 bits, found another number",
            ),
            (
                r#"{"current":"1"}"#,
                "`route.current` must be an integer, found a string",
            ),
            (
                r#"{"current":true}"#,
                "`route.current` must be an integer, found a boolean",
            ),
            (
                r#"{"metadata":[]}"#,
                "`route.metadata` must be an object, found an array",
            ),
        ] {
            assert_eq!(parse(text).unwrap_err(), problem, "{text}");
        }
    }

    #[test]
    fn positions_outside_the_list_are_a_finished_route() {
        for current in [-1, 1, i64::MAX] {
            assert_eq!(
                Route {
                    current,
                    ..Route::new(["a"])
                }
                .current_actor(),
                None
            );
        }
    }

    #[test]
    fn bookkeeping_lives_in_metadata_beside_what_others_keep_there() {
        let (route, _) = parse(r#"{"actors":["a"],"metadata":{"mine":1e400}}"#).unwrap();
        assert_eq!((route.step(), route.is_split()), (0, false));
        let mut route = route.with_step(3);
        route.set_split();
        route.set_split();
        assert_eq!(
            route.metadata.as_str(),
            r#"{"mine":1e400,"asya_step":3,"asya_split":true}"#
        );
        assert_eq!((route.step(), route.is_split()), (3, true));
        route.clear_split();
        assert_eq!(
            route.with_step(4).metadata.as_str(),
            r#"{"mine":1e400,"asya_step":4}"#
        );
        let (odd, _) = parse(r#"{"actors":["a"],"metadata":{"asya_step":"x"}}"#).unwrap();
        assert_eq!(odd.step(), 0);
    }
}
