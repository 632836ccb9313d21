//! A call of a tool becomes an envelope: durable first, then on its way.

use std::sync::Arc;

use asya_gateway_store::{Applied, Created, NewEnvelope, Record, Status, StoreError};
use asya_manifest::Tool;
use asya_runtime_protocol::{RawJson, RawObject};
use bytes::Bytes;
use chrono::Utc;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::error::SubmitError;
use super::message::{Order, entry, idempotency};
use super::outbox::{Attempt, Outbox};
use super::tail::Tail;
use super::{Gateway, metrics};
use crate::auth::Caller;

/// How the error of an envelope begins whose message was never sent (contract gateway §3).
const NOT_SENT: &str = "failed to send envelope: ";

/// A call of a tool.
#[derive(Debug, Clone, Default)]
pub struct ToolCall {
    /// Name of the tool.
    pub tool: String,
    /// The arguments as they were sent, byte for byte; `None` counts as `null`.
    pub arguments: Option<RawJson>,
    /// Under which a repeat of the same call is recognised: at most 255 bytes without control characters, unique for
    /// each tenant.
    pub idempotency_key: Option<String>,
    /// Headers of the envelope, for example `traceparent`.
    pub headers: Option<RawObject>,
}

/// The envelope that a call made.
#[derive(Debug, Clone)]
pub struct Submitted {
    /// As it was stored, or for a repeat as it stands.
    pub record: Record,
    /// The tool that was called.
    pub tool: Arc<Tool>,
    /// Whether an earlier call with the same idempotency key made it.
    pub repeated: bool,
}

impl Gateway {
    /// Calls a tool. `Ok` means that the envelope is durable, and that the broker has confirmed its message or will
    /// be asked until it does.
    ///
    /// Waits for the broker's first word for a limited time, so that an actor without a queue is told to the caller.
    /// Dropping the future does not stop a call that is being stored.
    pub async fn submit(&self, caller: &Caller, call: ToolCall) -> Result<Submitted, SubmitError> {
        let name = call.tool.clone();
        let tool = self.tool(&name);
        let known = tool.is_some();
        let submitted = match tool {
            Some(tool) => self.submit_to(tool, caller, call).await,
            None => Err(SubmitError::UnknownTool(name.clone())),
        };
        // Names of tools that do not exist are the caller's, and may be any number.
        metrics::submit(if known { &name } else { "" }, result(&submitted));
        submitted
    }

    async fn submit_to(
        &self,
        tool: Arc<Tool>,
        caller: &Caller,
        call: ToolCall,
    ) -> Result<Submitted, SubmitError> {
        if self.draining().is_cancelled() {
            return Err(SubmitError::Draining);
        }
        let new = self.order(&tool, caller, call)?;
        let (record, repeated, sent) = self.store_and_send(new).await?;
        if repeated {
            refuse_failed_repeat(&record)?;
        } else {
            // What comes later than this is not awaited: the outbox goes on.
            let first_word = tokio::time::timeout(self.inner.options.patience.submit, sent).await;
            if let Ok(Ok(attempt)) = first_word {
                tell(&record.id, attempt)?;
            }
        }
        Ok(Submitted {
            record,
            tool,
            repeated,
        })
    }

    /// Checks a call and makes the envelope of it. Nothing is stored yet.
    fn order(&self, tool: &Tool, caller: &Caller, call: ToolCall) -> Result<NewEnvelope, SubmitError> {
        let arguments = call.arguments.unwrap_or_else(RawJson::null);
        let payload = tool.arguments(arguments.as_str())?;
        let payload = if payload.as_bytes() == arguments.as_bytes() {
            arguments.clone()
        } else {
            // It is JSON that the check has completed with JSON.
            RawJson::parse(Bytes::from(payload.into_owned()))
                .map_err(|error| StoreError::Broken(error.into()))?
        };
        let key = call.idempotency_key;
        let idempotency = key
            .map(|key| idempotency(key, &tool.name, arguments.as_str()))
            .transpose()
            .map_err(SubmitError::IdempotencyKey)?;
        let new = Order {
            id: Uuid::new_v4().to_string(),
            tenant: caller.tenant.clone(),
            tool,
            payload,
            headers: call.headers,
            idempotency,
            now: Utc::now(),
        }
        .envelope();
        let size = new.outbox.as_ref().map_or(0, |message| message.body.len());
        match self.max_body() {
            Some(limit) if size > limit => Err(SubmitError::TooLarge { size, limit }),
            _ => Ok(new),
        }
    }

    /// Stores the envelope and starts to send its message, in a task of its own: a caller that goes away in between
    /// must not leave the message to the next search of the outbox.
    async fn store_and_send(
        &self,
        new: NewEnvelope,
    ) -> Result<(Record, bool, oneshot::Receiver<Attempt>), SubmitError> {
        let (stored, storing) = oneshot::channel();
        let (word, sent) = oneshot::channel();
        let (outbox, tail) = (Arc::clone(&self.inner.outbox), Arc::clone(&self.inner.tail));
        self.inner
            .calls
            .spawn(store_then_send(outbox, tail, new, stored, word));
        let stopped = || StoreError::Unavailable("the gateway is shutting down".into());
        match storing.await.map_err(|_| stopped())?? {
            Created::New(record) => Ok((*record, false, sent)),
            Created::Existing(record) => Ok((*record, true, sent)),
            Created::Conflict(record) => Err(SubmitError::Conflict { id: record.id }),
        }
    }
}

async fn store_then_send(
    outbox: Arc<Outbox>,
    tail: Arc<Tail>,
    new: NewEnvelope,
    stored: oneshot::Sender<Result<Created, StoreError>>,
    word: oneshot::Sender<Attempt>,
) {
    let Some(entry) = entry(&new) else { return };
    // Its id is new, so that nobody else can have it; and nobody takes it while it is being stored.
    let _hand = outbox.take_in_hand(&entry);
    let created = outbox.store.create(new, outbox.patience.lease).await;
    let is_new = match &created {
        Ok(Created::New(record)) => {
            tail.remember(record);
            true
        }
        _ => false,
    };
    // A caller that is gone is found gone below.
    let _gone = stored.send(created);
    if !is_new {
        return;
    }
    let id = entry.envelope_id.clone();
    let attempt = outbox.first_attempt(&entry).await;
    let word = tell_success(word, &attempt);
    let waits = word.as_ref().is_some_and(|word| !word.is_closed());
    match outbox.settle(entry, attempt.clone(), !waits).await {
        Ok(applied) => {
            if let (Some(word), true) = (word, failed(applied.as_ref())) {
                // The caller may have gone meanwhile; the envelope says the same.
                let _gone = word.send(attempt);
            }
        }
        // Its lease ends, and it is tried once more with the same message id. It was not published, unless this is the end.
        Err(error) => tracing::warn!(envelope = id, %error, "the outbox cannot be written"),
    }
}

/// A good word is told at once. A bad one is kept until it is stored, so that whoever looks finds what was told.
fn tell_success(word: oneshot::Sender<Attempt>, attempt: &Attempt) -> Option<oneshot::Sender<Attempt>> {
    if *attempt != Attempt::Published {
        return Some(word);
    }
    let _gone = word.send(Attempt::Published);
    None
}

/// Whether the envelope has failed by what was settled.
fn failed(applied: Option<&Applied>) -> bool {
    match applied {
        Some(Applied::Changed { record, .. } | Applied::Nothing { record }) => {
            record.status == Status::Failed
        }
        Some(Applied::Unknown) | None => false,
    }
}

/// Turns the broker's word into an answer.
fn tell(id: &str, attempt: Attempt) -> Result<(), SubmitError> {
    let id = id.to_owned();
    match attempt {
        Attempt::Published | Attempt::Away(_) => Ok(()),
        Attempt::Unroutable { actor, queue } => Err(SubmitError::Unroutable { id, actor, queue }),
        Attempt::Refused(error) => Err(SubmitError::NotSent { id, error }),
    }
}

/// A repeat of a call that was told of a failure is told of it again.
fn refuse_failed_repeat(record: &Record) -> Result<(), SubmitError> {
    let error = record
        .error
        .as_deref()
        .filter(|_| record.status == Status::Failed);
    match error.and_then(|error| error.strip_prefix(NOT_SENT)) {
        Some(cause) => Err(SubmitError::NotSent {
            id: record.id.clone(),
            error: cause.to_owned(),
        }),
        None => Ok(()),
    }
}

/// The label of `asya_gateway_submits_total`.
fn result(submitted: &Result<Submitted, SubmitError>) -> &'static str {
    match submitted {
        Ok(Submitted { repeated: false, .. }) => "created",
        Ok(Submitted { repeated: true, .. }) => "repeated",
        Err(SubmitError::UnknownTool(_)) => "unknown_tool",
        Err(SubmitError::Arguments(_) | SubmitError::IdempotencyKey(_)) => "invalid",
        Err(SubmitError::Conflict { .. }) => "conflict",
        Err(SubmitError::TooLarge { .. }) => "too_large",
        Err(SubmitError::Unroutable { .. }) => "unroutable",
        Err(SubmitError::NotSent { .. }) => "not_sent",
        Err(SubmitError::Draining) => "draining",
        Err(SubmitError::Store(_)) => "store_error",
    }
}
