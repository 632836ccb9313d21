//! Calling tools, and listing them, without MCP.

use asya_manifest::Tool;
use axum::Extension;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json as value};

use super::api::Api;
use super::fields::Fields;
use super::refusal::Refusal;
use super::render::Object;
use super::trace_context::trace_context;
use super::{body, json};
use crate::auth::Caller;
use crate::core::{SubmitError, ToolCall, reply};

const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");

/// `POST /tools/call`, with `name` and `arguments`, or `tool` and `params` as an older document has them.
pub(super) async fn call(
    State(api): State<Api>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Refusal> {
    let body = body::read(request, api.max_body, api.options.body_timeout).await?;
    let call = tool_call(&headers, &Fields::read(&body)?)?;
    let submitted = match api.gateway.submit(&caller, call).await {
        Ok(submitted) => submitted,
        Err(error) => return refused(error),
    };
    let mut response = answer(&reply::handle_text(&submitted), false);
    if submitted.repeated {
        response
            .headers_mut()
            .insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
    }
    Ok(response)
}

fn tool_call(headers: &HeaderMap, fields: &Fields) -> Result<ToolCall, Refusal> {
    let arguments = match fields.object("arguments")? {
        Some(arguments) => Some(arguments),
        None => fields.object("params")?,
    };
    let name = match fields.name("name")? {
        Some(name) => Some(name),
        None => fields.name("tool")?,
    };
    let name = name.filter(|name| !name.is_empty());
    Ok(ToolCall {
        tool: name.ok_or_else(|| Refusal::bad("Tool name is required"))?,
        arguments: arguments.map(asya_runtime_protocol::RawObject::into_raw),
        idempotency_key: idempotency_key(headers)?,
        headers: trace_context(headers),
    })
}

fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Refusal> {
    let mut keys = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(key) = keys.next() else {
        return Ok(None);
    };
    let key = key.to_str().ok().filter(|key| !key.is_empty());
    match (key, keys.next()) {
        (Some(key), None) => Ok(Some(key.to_owned())),
        _ => Err(Refusal::invalid(
            "Invalid Idempotency-Key",
            "expected one key of visible ASCII characters",
        )),
    }
}

/// What a call is told that made no envelope, or one that has failed: as a result where a model can read it and do
/// better, as a refusal where only the client can.
fn refused(error: SubmitError) -> Result<Response, Refusal> {
    match error {
        SubmitError::Arguments(problems) => Ok(answer(&problems.to_string(), true)),
        SubmitError::Unroutable { ref id, .. } | SubmitError::NotSent { ref id, .. } => {
            let text = format!("failed to create envelope: {error} (envelope {id})");
            Ok(answer(&text, true))
        }
        SubmitError::UnknownTool(name) => Err(Refusal::new(
            StatusCode::NOT_FOUND,
            format!("Tool {name:?} not found"),
        )),
        SubmitError::IdempotencyKey(_) => Err(Refusal::invalid("Invalid Idempotency-Key", error.to_string())),
        SubmitError::Conflict { .. } => Err(Refusal::new(StatusCode::CONFLICT, error.to_string())),
        SubmitError::TooLarge { .. } => Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, error.to_string())),
        SubmitError::Draining => Err(Refusal::later(error.to_string())),
        SubmitError::Store(error) => Err(Refusal::of_store(
            "Tool call failed: the envelope was not stored",
            &error,
        )),
    }
}

/// A `CallToolResult`; `isError` is absent on success (contract gateway §3).
fn answer(text: &str, is_error: bool) -> Response {
    let mut content = Object::new();
    content.text("type", "text").text("text", text);
    let content = [b"[".as_slice(), &content.finish(), b"]"].concat();
    let mut result = Object::new();
    result.raw("content", &content);
    if is_error {
        result.raw("isError", b"true");
    }
    json(StatusCode::OK, result.finish())
}

/// A tool as `GET /tools` shows it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Listed<'a> {
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<&'a str>,
    #[serde(skip_serializing_if = "str::is_empty")]
    description: &'a str,
    input_schema: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    output_schema: Option<&'a Value>,
    annotations: Map<String, Value>,
    progress: bool,
    #[serde(rename = "timeout_seconds", skip_serializing_if = "Option::is_none")]
    timeout: Option<u64>,
}

/// `GET /tools`, by name.
pub(super) async fn list(State(api): State<Api>) -> Response {
    let tools = api.gateway.tools();
    let mut listed: Vec<Listed<'_>> = tools.tools.iter().map(Listed::of).collect();
    listed.sort_by_key(|tool| tool.name);
    let text = serde_json::to_vec(&value!({ "tools": listed })).unwrap_or_default();
    json(StatusCode::OK, text)
}

impl<'a> Listed<'a> {
    fn of(tool: &'a Tool) -> Self {
        Self {
            name: &tool.name,
            title: tool.title.as_deref(),
            description: &tool.description,
            input_schema: tool.input_schema(),
            output_schema: tool.output_schema.as_ref(),
            annotations: annotations(tool.annotations.as_ref()),
            progress: tool.progress,
            timeout: tool.timeout.map(|timeout| timeout.as_secs()),
        }
    }
}

/// What nobody has said otherwise is what the original says (contract gateway §2.7).
fn annotations(own: Option<&Map<String, Value>>) -> Map<String, Value> {
    let defaults = [
        ("readOnlyHint", false),
        ("destructiveHint", true),
        ("idempotentHint", false),
        ("openWorldHint", true),
    ];
    let mut all: Map<String, Value> = defaults
        .into_iter()
        .map(|(name, hint)| (name.to_owned(), hint.into()))
        .collect();
    all.extend(own.cloned().unwrap_or_default());
    all
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;

    fn read(body: &'static str) -> Result<ToolCall, String> {
        let fields = Fields::read(&Bytes::from_static(body.as_bytes())).map_err(|refusal| refusal.text())?;
        tool_call(&HeaderMap::new(), &fields).map_err(|refusal| refusal.text())
    }

    #[test]
    fn both_forms_of_a_call_are_read() {
        for body in [
            r#"{"name":"t","arguments":{"n":12345678901234567890}}"#,
            r#"{"tool":"t","params":{"n":12345678901234567890}}"#,
            r#"{"Name":"t","arguments":{"n":12345678901234567890},"other":[]} trailing"#,
        ] {
            let call = read(body).unwrap();
            assert_eq!(call.tool, "t");
            assert_eq!(call.arguments.unwrap().as_str(), r#"{"n":12345678901234567890}"#);
        }
        for body in [r#"{"name":"t","arguments":null}"#, r#"{"name":"t"}"#] {
            assert_eq!(read(body).unwrap().arguments, None);
        }
    }

    #[test]
    fn calls_that_name_no_tool_or_bring_no_object_are_refused() {
        for (body, expected) in [
            ("{}", "Tool name is required\n"),
            (r#"{"name":""}"#, "Tool name is required\n"),
            (r#"{"name":7}"#, "Invalid request body\nname: "),
            (
                r#"{"name":"t","arguments":[1]}"#,
                "Invalid request body\narguments: ",
            ),
            (
                r#"{"name":"t","arguments":"{}"}"#,
                "Invalid request body\narguments: ",
            ),
            (r#"{"tool":"t","params":1}"#, "Invalid request body\nparams: "),
        ] {
            let text = read(body).unwrap_err();
            assert!(text.starts_with(expected), "{body}: {text}");
        }
    }

    #[test]
    fn one_visible_key_makes_a_call_repeatable() {
        let key = |values: &[&[u8]]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
            }
            idempotency_key(&headers)
        };
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(key(&[b"k 1"]).unwrap().as_deref(), Some("k 1"));
        for values in [&[&b""[..]][..], &[b"a", b"b"], &[b"\xff"]] {
            assert!(key(values).is_err());
        }
    }
}
