//! The operations, one function without a body for each.

#![expect(
    dead_code,
    reason = "the macro makes the description of each; the handlers are elsewhere"
)]

use utoipa::ToResponse;

use super::schemas::{
    Active, CallToolResult, CancelReply, CancelRequest, ChildCreated, ChildRequest, Children, Envelope,
    EnvelopePage, FinalRequest, Ok, Problem, ProgressReply, ProgressRequest, ToolCall, ToolList,
};

/// Refused; the text says why.
#[derive(ToResponse)]
pub(super) enum Refused {
    Text(#[content("text/plain")] String),
    Json(#[content("application/problem+json")] Problem),
}

/// Lists the tools, by name.
#[utoipa::path(get, path = "/tools", tag = "tools", responses((status = 200, body = ToolList)))]
pub(super) fn list_tools() {}

/// Calls a tool. Mistakes in its arguments are a result with `isError`.
#[utoipa::path(post, path = "/tools/call", tag = "tools", request_body = ToolCall,
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "A repeat with the same key gets the same answer, and the header `Idempotency-Replayed: true`"),
        ("traceparent" = Option<String>, Header, description = "W3C trace context; goes into the headers of the envelope"),
        ("tracestate" = Option<String>, Header, description = "Goes with `traceparent`"),
    ),
    responses(
        (status = 200, body = CallToolResult),
        (status = 400, response = Refused),
        (status = 404, description = "No such tool", content((String = "text/plain"), (Problem = "application/problem+json"))),
        (status = 409, description = "The idempotency key was used for another request", content((String = "text/plain"), (Problem = "application/problem+json"))),
        (status = 413, description = "Too large for the gateway or its broker", content((String = "text/plain"), (Problem = "application/problem+json"))),
        (status = 503, description = "The store is not available, or the gateway is stopping", content((String = "text/plain"), (Problem = "application/problem+json"))),
    ))]
pub(super) fn call_tool() {}

/// Lists envelopes, newest first. All filters that are given must match.
#[utoipa::path(get, path = "/envelopes", tag = "envelopes",
    params(
        ("status" = Option<String>, Query, description = "Any of pending, running, succeeded, failed; commas between them"),
        ("outcome" = Option<String>, Query, description = "Any of succeeded, failed, timed_out, cancelled; commas between them"),
        ("actor" = Option<String>, Query, description = "Whose turn it is with this actor"),
        ("tool" = Option<String>, Query, description = "Made by a call of this tool"),
        ("parent" = Option<String>, Query, description = "Direct children of this envelope"),
        ("from" = Option<String>, Query, description = "Made at this instant or later (RFC 3339)"),
        ("before" = Option<String>, Query, description = "Made before this instant (RFC 3339)"),
        ("limit" = Option<u32>, Query, description = "Envelopes on a page, 1 to 1000; 50 by default, at most 100 with view=full. A page of more than 3 MiB ends earlier"),
        ("page" = Option<String>, Query, description = "`next` of the page before"),
        ("view" = Option<String>, Query, description = "basic (default) or full, which has payload and result"),
    ),
    responses((status = 200, body = EnvelopePage), (status = 400, response = Refused)))]
pub(super) fn list_envelopes() {}

/// Records a child of a fan-out. Nothing is published. A repeat is answered like the first.
#[utoipa::path(post, path = "/envelopes", tag = "reports", request_body = ChildRequest,
    responses(
        (status = 201, body = ChildCreated),
        (status = 400, response = Refused),
        (status = 409, description = "The id is taken, with another parent or route", content((String = "text/plain"), (Problem = "application/problem+json"))),
        (status = 413, response = Refused),
        (status = 503, description = "The store did not take it; send it again", content((String = "text/plain"), (Problem = "application/problem+json"))),
    ))]
pub(super) fn create_child() {}

/// One envelope, at once or at its end.
#[utoipa::path(get, path = "/envelopes/{id}", tag = "envelopes",
    params(
        ("id" = String, Path),
        ("wait" = Option<String>, Query, description = "Answer when it has ended, or after this time: seconds, or 30s, 1m30s; at most 5m"),
        ("outcome" = Option<String>, Query, description = "1 adds outcome, attempt, tool, stored_at and children"),
    ),
    responses(
        (status = 200, body = Envelope),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 503, description = "Too many are waiting", content((String = "text/plain"), (Problem = "application/problem+json"))),
    ))]
pub(super) fn get_envelope() {}

/// Cancels an envelope and all unfinished ones below it. It stays, with status `failed`, error `cancelled` and outcome
/// `cancelled`.
#[utoipa::path(delete, path = "/envelopes/{id}", tag = "envelopes", params(("id" = String, Path)),
    request_body = Option<CancelRequest>,
    responses(
        (status = 200, body = CancelReply),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
    ))]
pub(super) fn cancel_envelope() {}

/// Server-sent events: history first, then live; closed after the final event. Events `update` have data of the schema
/// `Update`, events `partial` of `PartialItem`. When the gateway stops, a comment and `retry:` come last.
#[utoipa::path(get, path = "/envelopes/{id}/stream", tag = "envelopes",
    params(
        ("id" = String, Path),
        ("outcome" = Option<String>, Query, description = "1 adds outcome and attempt"),
        ("Last-Event-ID" = Option<String>, Header, description = "Go on after this event"),
    ),
    responses(
        (status = 200, content_type = "text/event-stream", body = String),
        (status = 204, description = "It has ended, and the client has seen everything"),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 503, description = "Too many streams are open", content((String = "text/plain"), (Problem = "application/problem+json"))),
    ))]
pub(super) fn stream_envelope() {}

/// Whether anybody may still work on it.
#[utoipa::path(get, path = "/envelopes/{id}/active", tag = "envelopes", params(("id" = String, Path)),
    responses(
        (status = 200, body = Active),
        (status = 400, response = Refused),
        (status = 410, description = "It has ended, its time is over, or it is not known", body = Active),
    ))]
pub(super) fn envelope_active() {}

/// How all envelopes below one are, and its direct children page by page.
#[utoipa::path(get, path = "/envelopes/{id}/children", tag = "envelopes",
    params(
        ("id" = String, Path),
        ("limit" = Option<u32>, Query, description = "Envelopes on a page, 1 to 1000; at most 100 with view=full. A page of more than 3 MiB ends earlier"),
        ("page" = Option<String>, Query, description = "`next` of the page before"),
        ("view" = Option<String>, Query, description = "basic (default) or full"),
    ),
    responses(
        (status = 200, body = Children),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
    ))]
pub(super) fn envelope_children() {}

/// Reports progress. What comes late or again changes nothing and is answered like the first.
#[utoipa::path(post, path = "/envelopes/{id}/progress", tag = "reports",
    params(
        ("id" = String, Path),
        ("x-asya-index" = Option<String>, Header, description = "`exact`: the index is the actor that did the work, also in `completed`"),
    ),
    request_body = ProgressRequest,
    responses(
        (status = 200, body = ProgressReply),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 413, response = Refused),
        (status = 503, description = "The store did not take it; send it again", content((String = "text/plain"), (Problem = "application/problem+json"))),
    ))]
pub(super) fn report_progress() {}

/// Reports the end. The first one counts; others are answered like it.
#[utoipa::path(post, path = "/envelopes/{id}/final", tag = "reports", params(("id" = String, Path)),
    request_body = FinalRequest,
    responses(
        (status = 200, body = Ok),
        (status = 400, response = Refused),
        (status = 404, response = Refused),
        (status = 413, response = Refused),
        (status = 503, description = "The store did not take it; send it again", content((String = "text/plain"), (Problem = "application/problem+json"))),
    ))]
pub(super) fn report_final() {}

/// The process answers.
#[utoipa::path(get, path = "/health", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) fn health() {}

/// The process answers.
#[utoipa::path(get, path = "/livez", tag = "health", responses((status = 200, content_type = "text/plain", body = String)))]
pub(super) fn livez() {}

/// It can do its work: store and broker answer, and it is not stopping.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses(
        (status = 200, content_type = "text/plain", body = String),
        (status = 503, description = "One line for each reason", content_type = "text/plain", body = String),
    ))]
pub(super) fn readyz() {}
