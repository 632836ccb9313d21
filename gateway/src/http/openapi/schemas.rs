//! The shapes of bodies, for people and generators (contract gateway §3, §4, §5).

#![expect(
    dead_code,
    reason = "described here, written by `render` and read by `reports`"
)]

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// Where an envelope is. `unknown` is legal in old databases and never written.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Status {
    Pending,
    Running,
    Succeeded,
    Failed,
    Unknown,
}

/// How an envelope ended; finer than its status.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    TimedOut,
    Cancelled,
}

/// How far one actor is with an envelope.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Phase {
    Received,
    Processing,
    Completed,
}

/// The actors that an envelope visits.
#[derive(Serialize, ToSchema)]
pub(super) struct Route {
    /// Names, in order; as last reported.
    actors: Vec<String>,
    /// Index of the actor whose turn it was at creation; never changes.
    current: i64,
    /// What travels with the route.
    #[schema(required = false)]
    metadata: Option<BTreeMap<String, Value>>,
}

/// One envelope. What is absent has no key.
#[derive(Serialize, ToSchema)]
pub(super) struct Envelope {
    id: String,
    /// The envelope that it was split from.
    #[schema(required = false, nullable = false)]
    parent_id: Option<String>,
    status: Status,
    route: Route,
    /// Headers that travel with it, for example `traceparent`.
    #[schema(required = false, nullable = false)]
    headers: Option<BTreeMap<String, Value>>,
    /// What the call brought, byte for byte; `null` for children. Absent in lists without `view=full`.
    #[schema(required = false)]
    payload: Value,
    /// What came out, byte for byte; absent until then.
    #[schema(required = false)]
    result: Value,
    /// What went wrong, in words.
    #[schema(required = false, nullable = false)]
    error: Option<String>,
    /// How long it may take, in seconds; absent without a limit.
    #[schema(required = false, nullable = false, minimum = 1)]
    timeout_seconds: Option<u64>,
    /// When its time is over; absent without a limit.
    #[schema(required = false, nullable = false)]
    deadline: Option<DateTime<Utc>>,
    /// Never falls within an attempt; 100 once final. Two decimals.
    #[schema(minimum = 0, maximum = 100)]
    progress_percent: f64,
    /// Index of the actor that was reported last.
    current_actor_idx: i64,
    #[schema(required = false, nullable = false)]
    current_actor_name: Option<String>,
    /// What happened last, for people.
    #[schema(required = false, nullable = false)]
    message: Option<String>,
    actors_completed: u32,
    total_actors: u64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// With `outcome=1`, and in lists; absent until it has ended.
    #[schema(required = false, nullable = false)]
    outcome: Option<Outcome>,
    /// With `outcome=1`, and in lists: which attempt at the whole envelope this is.
    #[schema(required = false, nullable = false)]
    attempt: Option<u32>,
    /// With `outcome=1`, and in lists: the tool whose call made it.
    #[schema(required = false, nullable = false)]
    tool: Option<String>,
    /// With `outcome=1`, and in lists: where the end actor stored it.
    #[schema(required = false, nullable = false)]
    stored_at: Option<String>,
    /// With `outcome=1`: all envelopes below it.
    #[schema(required = false, nullable = false)]
    children: Option<Counts>,
}

/// Envelopes below one, children of children included.
#[derive(Serialize, ToSchema)]
pub(super) struct Counts {
    pending: u64,
    running: u64,
    succeeded: u64,
    failed: u64,
    total: u64,
}

/// A page of envelopes, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct EnvelopePage {
    envelopes: Vec<Envelope>,
    /// For the parameter `page` of the next request; absent on the last page.
    #[schema(required = false, nullable = false)]
    next: Option<String>,
}

/// A fan-out: how it is as a whole, and its direct children page by page, newest first.
#[derive(Serialize, ToSchema)]
pub(super) struct Children {
    id: String,
    /// Running while anything of it runs, failed if anything of it has.
    status: Status,
    counts: Counts,
    envelopes: Vec<Envelope>,
    /// For the parameter `page` of the next request; absent on the last page.
    #[schema(required = false, nullable = false)]
    next: Option<String>,
}

/// What came of a cancellation.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelReply {
    id: String,
    status: Status,
    #[schema(required = false, nullable = false)]
    outcome: Option<Outcome>,
    /// Whether this request ended it; false if it had ended before.
    cancelled: bool,
    /// How many envelopes below it this request ended.
    children_cancelled: u64,
}

/// Why an envelope is cancelled.
#[derive(Serialize, ToSchema)]
pub(super) struct CancelRequest {
    /// For people.
    #[schema(required = false)]
    reason: Option<String>,
}

/// A call of a tool. The older keys `tool` and `params` are understood, too.
#[derive(Serialize, ToSchema)]
pub(super) struct ToolCall {
    name: String,
    /// As the tool's `inputSchema` says; the payload of the envelope, byte for byte.
    #[schema(required = false)]
    arguments: Option<BTreeMap<String, Value>>,
}

/// What a call came to, as in MCP. Mistakes that a model can mend are results, too, with `isError`.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct CallToolResult {
    content: Vec<TextContent>,
    /// Absent on success.
    #[schema(required = false, nullable = false)]
    is_error: Option<bool>,
}

/// A text. On success it is JSON: `envelope_id`, `message`, `metadata`, `status_url`, `stream_url`.
#[derive(Serialize, ToSchema)]
pub(super) struct TextContent {
    r#type: ContentType,
    text: String,
}

/// The only kind of content here.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum ContentType {
    Text,
}

/// What can be called.
#[derive(Serialize, ToSchema)]
pub(super) struct ToolList {
    tools: Vec<Tool>,
}

/// One tool.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub(super) struct Tool {
    name: String,
    #[schema(required = false, nullable = false)]
    title: Option<String>,
    #[schema(required = false, nullable = false)]
    description: Option<String>,
    /// JSON Schema of the arguments.
    input_schema: BTreeMap<String, Value>,
    /// JSON Schema of the result.
    #[schema(required = false)]
    output_schema: Value,
    /// Hints as in MCP.
    annotations: BTreeMap<String, Value>,
    /// Whether replies offer a stream of progress.
    progress: bool,
    /// How long an envelope may take; absent without a limit.
    #[serde(rename = "timeout_seconds")]
    #[schema(required = false, nullable = false)]
    timeout_seconds: Option<u64>,
}

/// A child of a fan-out, which its sidecar has published.
#[derive(Serialize, ToSchema)]
pub(super) struct ChildRequest {
    /// At most 1024 bytes, without a slash.
    id: String,
    #[schema(required = false)]
    parent_id: Option<String>,
    #[schema(max_items = 10000)]
    actors: Vec<String>,
    #[schema(required = false)]
    current: Option<i64>,
}

/// A child that is known now.
#[derive(Serialize, ToSchema)]
pub(super) struct ChildCreated {
    id: String,
    /// Always `created`, also when it was known before.
    status: String,
}

/// Progress of one actor.
#[derive(Serialize, ToSchema)]
pub(super) struct ProgressRequest {
    #[schema(required = false, max_items = 10000)]
    actors: Option<Vec<String>>,
    /// Index of the actor.
    #[schema(required = false)]
    current_actor_idx: Option<i64>,
    /// A word that is not known weighs nothing.
    #[schema(required = false)]
    status: Option<String>,
    /// For people.
    #[schema(required = false)]
    message: Option<String>,
}

/// How far the envelope is, whatever was reported.
#[derive(Serialize, ToSchema)]
pub(super) struct ProgressReply {
    /// Not rounded.
    #[schema(minimum = 0, maximum = 100)]
    progress_percent: f64,
    /// Always `ok`.
    status: String,
    /// Present if nobody wants the envelope any more.
    #[schema(required = false, nullable = false)]
    cancelled: Option<bool>,
}

/// The last word of an end actor.
#[derive(Serialize, ToSchema)]
pub(super) struct FinalRequest {
    status: FinalStatus,
    #[schema(required = false)]
    result: Value,
    #[schema(required = false)]
    error: Option<String>,
    #[schema(required = false)]
    error_details: Value,
    /// `s3_uri` says where the envelope is stored.
    #[schema(required = false)]
    metadata: Option<BTreeMap<String, Value>>,
    #[schema(required = false, max_items = 10000)]
    actors: Option<Vec<String>>,
    #[schema(required = false)]
    current_actor_idx: Option<i64>,
    #[schema(required = false)]
    current_actor_name: Option<String>,
}

/// The two ends.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum FinalStatus {
    Succeeded,
    Failed,
}

/// A report that was taken.
#[derive(Serialize, ToSchema)]
pub(super) struct Ok {
    /// Always `ok`.
    status: String,
}

/// Whether anybody may still work on an envelope.
#[derive(Serialize, ToSchema)]
pub(super) struct Active {
    active: bool,
}

/// The data of an event `update`. What is absent has no key.
#[derive(Serialize, ToSchema)]
pub(super) struct Update {
    /// The envelope.
    id: String,
    status: Status,
    #[schema(required = false, nullable = false)]
    message: Option<String>,
    /// In the final update.
    #[schema(required = false)]
    result: Value,
    #[schema(required = false, nullable = false)]
    error: Option<String>,
    #[schema(required = false, nullable = false, minimum = 0, maximum = 100)]
    progress_percent: Option<f64>,
    /// The actor that it is about.
    #[schema(required = false, nullable = false)]
    actor: Option<String>,
    /// The route.
    #[schema(required = false, nullable = false)]
    actors: Option<Vec<String>>,
    #[schema(required = false, nullable = false)]
    current_actor_idx: Option<i64>,
    #[schema(required = false, nullable = false)]
    envelope_state: Option<Phase>,
    timestamp: DateTime<Utc>,
    /// With `outcome=1`.
    #[schema(required = false, nullable = false)]
    outcome: Option<Outcome>,
    /// With `outcome=1`.
    #[schema(required = false, nullable = false)]
    attempt: Option<u32>,
}

/// The data of an event `partial`: one item of a handler that yields while it works.
#[derive(Serialize, ToSchema)]
pub(super) struct PartialItem {
    /// The envelope.
    id: String,
    #[schema(required = false, nullable = false)]
    actor: Option<String>,
    current_actor_idx: i64,
    /// Counts from 0 within one run; 0 again voids what came before.
    index: u32,
    /// The item, byte for byte.
    value: Value,
    attempt: u32,
    timestamp: DateTime<Utc>,
}

/// Why a request was refused, for those who prefer JSON (RFC 9457).
#[derive(Serialize, ToSchema)]
pub(super) struct Problem {
    r#type: String,
    /// The same as the first line of the plain text.
    title: String,
    status: u16,
    /// What exactly was wrong.
    #[schema(required = false, nullable = false)]
    detail: Option<String>,
}
