//! What came of an envelope, as the result of a tool call. Pure but for the stand-ins of raw values.

use asya_gateway_store::{Outcome, Record, Status};
use asya_runtime_protocol::RawJson;
use rmcp::model::{CallToolResult, ContentBlock, MetaObject};
use serde_json::json;

use super::answers::Answers;
use super::message::Era;

/// How an envelope ended; `None` while it has not. Rows of the original have no outcome but their status.
pub(super) fn of(record: &Record) -> Option<Outcome> {
    match record.status {
        Status::Succeeded => Some(Outcome::Succeeded),
        Status::Failed => Some(record.outcome.unwrap_or(Outcome::Failed)),
        Status::Pending | Status::Running | Status::Unknown => None,
    }
}

/// The result of a call whose envelope is final.
pub(super) fn result(record: &Record, era: Era, answers: &Answers) -> CallToolResult {
    let mut result = match of(record) {
        Some(Outcome::Succeeded) => succeeded(record.result.as_ref(), era, answers),
        _ => failed(record.error.as_deref()),
    };
    let mut meta = MetaObject::default();
    meta.insert("asya.sh/envelopeId".to_owned(), json!(record.id));
    result.meta = Some(meta);
    result
}

/// A success: text as it is, anything else as JSON text and as structured content.
fn succeeded(result: Option<&RawJson>, era: Era, answers: &Answers) -> CallToolResult {
    let null = RawJson::null();
    let result = result.unwrap_or(&null);
    let text = result.to_text().unwrap_or_else(|| result.as_str().to_owned());
    let mut answer = text_result(text);
    let may_be_structured = match era {
        Era::Handshake => result.as_str().starts_with('{'),
        Era::Stateless => !result.is_null(),
    };
    if may_be_structured {
        answer.structured_content = Some(answers.stand_in(result));
    }
    answer
}

fn failed(error: Option<&str>) -> CallToolResult {
    error_result(error.unwrap_or("Envelope failed"))
}

/// A result of one text, without `isError` (contract gateway §3).
pub(super) fn text_result(text: impl Into<String>) -> CallToolResult {
    let mut result = CallToolResult::success(vec![ContentBlock::text(text.into())]);
    result.is_error = None;
    result
}

/// A result that tells of an error.
pub(super) fn error_result(text: impl Into<String>) -> CallToolResult {
    CallToolResult::error(vec![ContentBlock::text(text.into())])
}
