//! From bytes to a request and from items to bytes: the rules of contract §6.4 to §6.6 without any I/O.

use bytes::Bytes;

use super::handler::{EnvelopeItem, HandlerError, HandlerItem, RequestEnvelope};
use crate::envelope::{Envelope, ParseError, Parsed};
use crate::json::ObjectWriter;
use crate::raw::RawJson;
use crate::reply::HeadersField;
use crate::route::Route;

/// Reads a request; a runtime needs no id.
pub(super) fn request(body: &Bytes, validation: bool) -> Result<RequestEnvelope, HandlerError> {
    let refuse = |exception: &str, text: String| {
        Err(HandlerError::new(text)
            .code("msg_parsing_error")
            .exception(exception))
    };
    let parsed = match Envelope::parse(body) {
        Ok(parsed) => parsed,
        Err(ParseError::MissingId(parsed)) => *parsed,
        Err(ParseError::Json { text, problem }) => return refuse(problem.exception_name(), text),
    };
    if validation && let Err(text) = check_input(&parsed) {
        return refuse("ValueError", text);
    }
    Ok(RequestEnvelope {
        envelope: parsed.envelope,
        body: body.clone(),
        deadline: None,
        attempt: 1,
    })
}

fn check_input(parsed: &Parsed) -> Result<(), String> {
    if parsed.envelope.payload.is_none() {
        return Err("Missing required field 'payload' in envelope".to_owned());
    }
    if !parsed.has_route() {
        return Err("Missing required field 'route' in envelope".to_owned());
    }
    check_route(&parsed.envelope.route)
}

fn check_route(route: &Route) -> Result<(), String> {
    let (current, length) = (route.current, route.actors.len());
    if length == 0 {
        return Err("Field 'route.actors' cannot be empty".to_owned());
    }
    match usize::try_from(current) {
        Ok(at) if at <= length => Ok(()),
        _ => Err(format!(
            "Invalid route.current={current}: out of bounds for actors of length {length}"
        )),
    }
}

/// An answer of one error item.
pub(super) fn failure(error: &HandlerError) -> Bytes {
    let mut out = vec![b'['];
    error.write(&mut out);
    out.push(b']');
    out.into()
}

/// The answer to `input`; an item that breaks the rules becomes an error item in its place, the others stay
/// (ruling 7).
pub(super) fn success(input: &Envelope, items: &[HandlerItem], validation: bool) -> Bytes {
    let mut out = Vec::with_capacity(64 + items.iter().map(|item| size_hint(item, input)).sum::<usize>());
    out.push(b'[');
    for (at, item) in items.iter().enumerate() {
        if at > 0 {
            out.push(b',');
        }
        out = match item {
            HandlerItem::Payload(payload) => write_payload_item(out, input, payload),
            HandlerItem::Envelope(item) if validation => match check_output(&input.route, item) {
                Ok(route) => write_envelope_item(out, item, Some(&route)),
                Err(text) => {
                    let text = format!("Invalid output envelope[{at}/{}]: {text}", items.len());
                    HandlerError::new(text).exception("ValueError").write(&mut out);
                    out
                }
            },
            HandlerItem::Envelope(item) => write_envelope_item(out, item, item.route.as_ref()),
        };
    }
    out.push(b']');
    out.into()
}

fn write_payload_item(out: Vec<u8>, input: &Envelope, payload: &RawJson) -> Vec<u8> {
    let mut out = ObjectWriter::new(out);
    out.raw("payload", payload.as_bytes());
    input.route.advanced().write(out.key("route"));
    if let Some(headers) = &input.headers {
        out.raw("headers", headers.as_raw().as_bytes());
    }
    out.finish()
}

fn write_envelope_item(out: Vec<u8>, item: &EnvelopeItem, route: Option<&Route>) -> Vec<u8> {
    let mut out = ObjectWriter::new(out);
    if let Some(payload) = &item.payload {
        out.raw("payload", payload.as_bytes());
    }
    if let Some(route) = route {
        route.write(out.key("route"));
    }
    match &item.headers {
        HeadersField::Absent => {}
        HeadersField::Null => out.raw("headers", b"null"),
        HeadersField::Present(headers) => out.raw("headers", headers.as_raw().as_bytes()),
    }
    out.members(item.extra.inner());
    out.finish()
}

/// Checks an output envelope against the input's route and gives the route to publish.
fn check_output(input: &Route, item: &EnvelopeItem) -> Result<Route, String> {
    if item.payload.is_none() {
        return Err("Missing required field 'payload' in envelope".to_owned());
    }
    let route = item
        .route
        .as_ref()
        .ok_or("Missing required field 'route' in envelope")?;
    check_route(route)?;
    let done = usize::try_from(input.current)
        .unwrap_or(0)
        .saturating_add(1)
        .min(input.actors.len());
    if !route.actors.starts_with(&input.actors[..done]) {
        return Err(format!(
            "Route modification error: already-processed actors cannot be erased; the first {done} must stay"
        ));
    }
    Ok(if route.current == input.current {
        route.advanced()
    } else {
        route.clone()
    })
}

fn size_hint(item: &HandlerItem, input: &Envelope) -> usize {
    let payload = match item {
        HandlerItem::Payload(payload) => payload.len(),
        HandlerItem::Envelope(item) => {
            item.payload.as_ref().map_or(0, RawJson::len) + item.extra.as_raw().len()
        }
    };
    payload
        + input.route.size_hint()
        + input.headers.as_ref().map_or(0, |headers| headers.as_raw().len())
        + 48
}
