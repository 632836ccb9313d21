//! What a runtime answers (contract data-plane §6.5, §6.7).

use bytes::Bytes;
use thiserror::Error;

use crate::json::{self, Fields};
use crate::raw::{ObjectBuilder, RawJson, RawObject};
use crate::route::Route;

/// The answer to one request; an empty list means that the handler aborted the pipeline.
#[derive(Debug)]
pub enum Reply {}

/// One item of an answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReplyItem {
    /// A message to publish.
    Output {
        /// The result; `null` when the item has none.
        payload: RawJson,
        /// Whether the item has the member `payload` (contract §9: the report of an end actor depends on it).
        has_payload: bool,
        /// Where it goes; `None` when the item has no route (legacy forms, end handlers).
        route: Option<Route>,
        /// The older form `{"status":"ok"}`, which never had a route and means the next actor of the input's; an item
        /// of today without a route ends it.
        is_legacy: bool,
        /// What the item says about headers.
        headers: HeadersField,
        /// Members that are none of the above, nor `id` and `parent_id`, which a runtime has no say in.
        extra: RawObject,
    },
    /// The handler, or the runtime, failed.
    Error {
        /// For example `processing_error`.
        code: String,
        /// What the runtime tells about it.
        details: Option<ErrorDetails>,
    },
}

/// The `headers` member of an item.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum HeadersField {
    /// Not there: the input's headers stay.
    #[default]
    Absent,
    /// `null`: the handler removed them.
    Null,
    /// Replaced.
    Present(RawObject),
}

impl HeadersField {
    /// The headers of the message to publish, given those of the input (contract §6.7).
    pub fn or_input(self, input: Option<&RawObject>) -> Option<RawObject> {
        match self {
            Self::Absent => input.cloned(),
            Self::Null => None,
            Self::Present(headers) => Some(headers),
        }
    }
}

/// The `details` of an error item, kept as the runtime wrote them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ErrorDetails(RawJson);

impl ErrorDetails {
    /// The human text of the failure.
    pub fn message(&self) -> Option<String> {
        self.text("message")
    }

    /// The name of the exception class.
    pub fn exception(&self) -> Option<String> {
        self.text("type")
    }

    /// The names of the exception class and of its bases, the most special first: `mro`, or `type` alone from a
    /// runtime that does not tell the bases. Names that are no strings are passed over.
    pub fn exceptions(&self) -> Vec<String> {
        let told = self.get("mro").filter(|mro| mro.as_str().starts_with('['));
        let told = told.and_then(|mro| mro.to::<Vec<RawJson>>().ok());
        let mut names: Vec<_> = told.iter().flatten().filter_map(RawJson::to_text).collect();
        if names.is_empty() {
            names.extend(self.exception());
        }
        names
    }

    /// The traceback as text.
    pub fn traceback(&self) -> Option<String> {
        self.text("traceback")
    }

    /// Any member that is a string.
    pub fn text(&self, name: &str) -> Option<String> {
        self.get(name)?.to_text()
    }

    /// Any member.
    pub fn get(&self, name: &str) -> Option<RawJson> {
        RawObject::try_from(self.0.clone()).ok()?.get(name)
    }

    /// All of it, to be carried on.
    pub fn as_raw(&self) -> &RawJson {
        &self.0
    }

    /// All of it, to be carried on.
    pub fn into_raw(self) -> RawJson {
        self.0
    }
}

/// An answer that is none. `Display` is the text of `payload.error` (contract §7.2).
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("failed to parse runtime response: {text}")]
pub struct ReplyError {
    text: String,
}

impl Reply {
    /// Reads an answer: an array of items. Older forms are read too: `null` as no item, an object as one item,
    /// `{"status":"ok","result":…}` and `{"status":"error","error":…,"message":…}` (contract §6.5).
    ///
    /// Values share the buffer of `body`.
    pub fn parse(body: Bytes) -> Result<Vec<ReplyItem>, ReplyError> {
        let reply = RawJson::parse(body).map_err(|error| problem(&error))?;
        let text = reply.as_str();
        match json::kind_of(text) {
            "null" => Ok(Vec::new()),
            "an object" => match legacy_item(&reply)? {
                Some(item) => Ok(vec![item]),
                None => item(&reply, 0).map(|item| vec![item]),
            },
            "an array" => {
                let mut items = Ok(Vec::new());
                let mut at = 0;
                json::for_each_element(text, |element| {
                    if let Ok(list) = &mut items {
                        match item(&reply.part(element), at) {
                            Ok(item) => list.push(item),
                            Err(error) => items = Err(error),
                        }
                    }
                    at += 1;
                })
                .map_err(|error| problem(&error))?;
                items
            }
            kind => Err(problem(&format_args!("expected an array of items, found {kind}"))),
        }
    }
}

fn problem(text: &dyn std::fmt::Display) -> ReplyError {
    ReplyError {
        text: text.to_string(),
    }
}

fn item(raw: &RawJson, at: usize) -> Result<ReplyItem, ReplyError> {
    let wrong = |name: &str, expected: &str, found: &str| {
        problem(&format_args!(
            "item {at}: {name} must be {expected}, found {}",
            json::kind_of(found)
        ))
    };
    let text = raw.as_str();
    if !text.starts_with('{') {
        return Err(problem(&format_args!(
            "item {at} must be an object, found {}",
            json::kind_of(text)
        )));
    }
    let mut known = Fields::new([
        "payload",
        "route",
        "headers",
        "error",
        "details",
        "id",
        "parent_id",
    ]);
    let mut extra = ObjectBuilder::default();
    json::for_each_member(text, |key, value| {
        if !known.take(key, value) {
            extra.push(key, value);
        }
    })
    .map_err(|error| problem(&error))?;

    if let Some(error) = known.value(3) {
        let code = json::string_of(error).ok_or_else(|| wrong("`error`", "a string", error))?;
        if !code.is_empty() {
            let details = known.value(4).map(|details| ErrorDetails(raw.part(details)));
            return Ok(ReplyItem::Error {
                code: code.into_owned(),
                details,
            });
        }
    }
    let route = match known.value(1) {
        None => None,
        Some(route) => Some(
            Route::parse(&raw.part(route))
                .map_err(|error| problem(&format_args!("item {at}: {error}")))?
                .0,
        ),
    };
    let headers = match known.written(2) {
        None => HeadersField::Absent,
        Some("null") => HeadersField::Null,
        Some(headers) => HeadersField::Present(
            RawObject::try_from(raw.part(headers))
                .map_err(|_| wrong("`headers`", "an object or null", headers))?,
        ),
    };
    Ok(ReplyItem::Output {
        payload: known
            .written(0)
            .map_or_else(RawJson::null, |payload| raw.part(payload)),
        has_payload: known.written(0).is_some(),
        route,
        is_legacy: false,
        headers,
        extra: extra.finish(),
    })
}

/// The `{"status":…}` form of older runtimes, which items never have at the same time as a payload or a route.
fn legacy_item(raw: &RawJson) -> Result<Option<ReplyItem>, ReplyError> {
    let mut known = Fields::new(["status", "result", "error", "message", "payload", "route"]);
    json::for_each_member(raw.as_str(), |key, value| {
        known.take(key, value);
    })
    .map_err(|error| problem(&error))?;
    if known.written(4).or(known.written(5)).is_some() {
        return Ok(None);
    }
    match known.value(0) {
        Some("\"ok\"") => Ok(Some(ReplyItem::Output {
            payload: known
                .written(1)
                .map_or_else(RawJson::null, |result| raw.part(result)),
            has_payload: known.written(1).is_some(),
            route: None,
            is_legacy: true,
            headers: HeadersField::Absent,
            extra: RawObject::new(),
        })),
        Some("\"error\"") => {
            let code = known
                .value(2)
                .and_then(json::string_of)
                .filter(|code| !code.is_empty());
            let details = known.value(3).map(|message| {
                let mut details = RawObject::new();
                details.insert("message", &raw.part(message));
                ErrorDetails(details.into_raw())
            });
            let code = code.map_or_else(|| "processing_error".to_owned(), Into::into);
            Ok(Some(ReplyItem::Error { code, details }))
        }
        _ => Ok(None),
    }
}
