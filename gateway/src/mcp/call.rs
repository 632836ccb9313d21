//! `tools/call` in its three modes: handle, wait, task (contract gateway §8.1).

use std::sync::Arc;

use asya_gateway_store::{StoreError, View};
use asya_manifest::{Tool, ToolMode};
use asya_runtime_protocol::{RawJson, RawObject};
use rmcp::model::{
    CallToolRequestParams, CallToolResponse, CallToolResult, ClientCapabilities, CreateTaskResult,
    RequestMetaObject,
};
use rmcp::service::RequestContext;
use rmcp::{ErrorData, RoleServer};
use serde_json::Value;

use super::exchange::Exchange;
use super::outcome::{error_result, text_result};
use super::server::{Server, sign};
use super::wait::{Ended, Hold};
use super::{MODE_KEY, outcome, tasks, told_back};
use crate::core::reply::handle_text;
use crate::core::{SubmitError, Submitted, ToolCall};

/// The header that chooses the mode.
const MODE_HEADER: &str = "asya-tool-mode";
/// Where `_meta` has the idempotency key.
const IDEMPOTENCY_KEY: &str = "asya.sh/idempotencyKey";
/// The header that has it, as REST takes it.
const IDEMPOTENCY_HEADER: &str = "idempotency-key";
/// Trace context, as W3C names it and as `_meta` carries it.
const TRACE: [&str; 3] = ["traceparent", "tracestate", "baggage"];
/// A longer trace header is no trace context.
const LONGEST_TRACE: usize = 8192;

impl Server {
    /// Calls a tool.
    pub(super) async fn call(
        &self,
        request: &CallToolRequestParams,
        context: &RequestContext<RoleServer>,
    ) -> Result<CallToolResponse, ErrorData> {
        let exchange = Exchange::of(&context.extensions)?;
        let Some(tool) = self.gateway.tool(&request.name) else {
            return Err(unknown(&request.name));
        };
        let mode = mode(&tool, &exchange, context)?;
        let call = tool_call(&tool, &exchange, &context.meta)?;
        // Before the envelope: a notification that withdraws the call may come any time after it.
        let entered = self.inflight.enter(exchange.key.clone());
        let submitted = match self.gateway.submit(&exchange.caller, call).await {
            Ok(submitted) => submitted,
            Err(SubmitError::UnknownTool(name)) => return Err(unknown(&name)),
            Err(error) => return Ok(signed(refused(&error), &exchange)),
        };
        match mode {
            ToolMode::Handle => Ok(handle(&submitted, &exchange)),
            ToolMode::Task => Ok(self.as_task(&submitted, &exchange)),
            ToolMode::Wait => {
                let Ok(_place) = self.streams.try_acquire() else {
                    return Ok(handle(&submitted, &exchange));
                };
                let hold = Hold {
                    server: self,
                    exchange: &exchange,
                    context,
                    entered: &entered,
                };
                match hold.until_final(&submitted.record.id).await {
                    Ended::Final => self.final_result(&submitted, &exchange).await,
                    Ended::Early => Ok(handle(&submitted, &exchange)),
                }
            }
        }
    }

    async fn final_result(
        &self,
        submitted: &Submitted,
        exchange: &Exchange,
    ) -> Result<CallToolResponse, ErrorData> {
        let record = self
            .gateway
            .get(&exchange.caller, &submitted.record.id, View::Full)
            .await;
        match record {
            Ok(record) => Ok(signed(
                outcome::result(&record, exchange.era, &exchange.answers),
                exchange,
            )),
            Err(error) => {
                tracing::warn!(envelope = submitted.record.id, %error, "the result of a call cannot be read");
                // It is durable, and the handle says where it will be found.
                Ok(handle(submitted, exchange))
            }
        }
    }

    fn as_task(&self, submitted: &Submitted, exchange: &Exchange) -> CallToolResponse {
        let mut result = CreateTaskResult::new(tasks::task(&submitted.record, &self.options));
        sign(&mut result.meta, exchange.era);
        CallToolResponse::Task(result)
    }
}

/// The text of contract gateway §8.
fn unknown(name: &str) -> ErrorData {
    let name = told_back(name);
    ErrorData::invalid_params(format!("tool '{name}' not found: tool not found"), None)
}

/// How this call is answered: as `_meta` says, else the header, else the tool.
fn mode(
    tool: &Tool,
    exchange: &Exchange,
    context: &RequestContext<RoleServer>,
) -> Result<ToolMode, ErrorData> {
    let knows_tasks = || {
        let capabilities = context.client_capabilities();
        capabilities.is_some_and(|capabilities| capabilities.supports_tasks())
    };
    let said = match context.meta.get(MODE_KEY) {
        Some(Value::String(word)) => Some(word.as_str()),
        Some(_) => Some(""),
        None => exchange.header(MODE_HEADER),
    };
    let Some(word) = said else {
        // The file cannot know who calls: a client that has no tasks gets the handle.
        let mode = tool.mode;
        return Ok(if mode == ToolMode::Task && !knows_tasks() {
            ToolMode::Handle
        } else {
            mode
        });
    };
    match ToolMode::parse(word) {
        Some(ToolMode::Task) if !knows_tasks() => Err(ErrorData::missing_required_client_capability(
            ClientCapabilities::builder().enable_tasks().build(),
        )),
        Some(mode) => Ok(mode),
        None => {
            let words = ToolMode::WORDS.join(", ");
            let text =
                format!("the mode of a tool call is one of {words} ({MODE_KEY} in _meta, or Asya-Tool-Mode)");
            Err(ErrorData::invalid_params(text, None))
        }
    }
}

fn tool_call(tool: &Arc<Tool>, exchange: &Exchange, meta: &RequestMetaObject) -> Result<ToolCall, ErrorData> {
    let arguments = exchange.arguments.clone();
    // What the arguments must hold is the tool's to say; that they are an object is the protocol's.
    if arguments
        .as_ref()
        .is_some_and(|arguments| !arguments.is_null() && !arguments.as_str().starts_with('{'))
    {
        return Err(ErrorData::invalid_params("arguments must be an object", None));
    }
    let idempotency_key = match meta.get(IDEMPOTENCY_KEY) {
        Some(Value::String(key)) => Some(key.clone()),
        Some(_) => {
            let text = format!("{IDEMPOTENCY_KEY} in _meta must be a text");
            return Err(ErrorData::invalid_params(text, None));
        }
        None => exchange.header(IDEMPOTENCY_HEADER).map(str::to_owned),
    };
    Ok(ToolCall {
        tool: tool.name.clone(),
        arguments,
        idempotency_key,
        headers: trace(exchange, meta),
    })
}

/// Trace context for the headers of the envelope: of the call itself, else of the HTTP request that carried it.
fn trace(exchange: &Exchange, meta: &RequestMetaObject) -> Option<RawObject> {
    let mut headers = RawObject::new();
    let is_ours = meta.contains_key(TRACE[0]);
    for name in TRACE {
        let value = if is_ours {
            meta.get(name).and_then(Value::as_str)
        } else {
            exchange.header(name)
        };
        if let Some(value) = value.filter(|value| value.len() <= LONGEST_TRACE) {
            headers.insert(name, &RawJson::from_text(value));
        }
    }
    (!headers.is_empty()).then_some(headers)
}

/// A call that made no envelope, or one that failed at once, as a result that says so (contract gateway §3).
fn refused(error: &SubmitError) -> CallToolResult {
    match error {
        SubmitError::Arguments(problems) => error_result(problems.to_string()),
        SubmitError::Store(cause) => {
            tracing::error!(error = %cause, "an envelope cannot be stored");
            error_result(match cause {
                StoreError::Unavailable(_) => {
                    "failed to create envelope: the store does not answer; call again"
                }
                StoreError::Broken(_) | StoreError::Schema(_) => {
                    "failed to create envelope: the store refused it; the gateway's log says why"
                }
            })
        }
        other => error_result(format!("failed to create envelope: {other}")),
    }
}

/// The reply of contract gateway §3, as text and as structured content.
fn handle(submitted: &Submitted, exchange: &Exchange) -> CallToolResponse {
    let text = handle_text(submitted);
    let structured = RawJson::parse(text.clone()).map(|raw| exchange.answers.stand_in(&raw));
    let mut result = text_result(text);
    result.structured_content = structured.ok();
    signed(result, exchange)
}

fn signed(mut result: CallToolResult, exchange: &Exchange) -> CallToolResponse {
    sign(&mut result.meta, exchange.era);
    CallToolResponse::Complete(result)
}
