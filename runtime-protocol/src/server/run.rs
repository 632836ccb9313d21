//! From the bytes of a request to the bytes of its answer, whichever protocol brought it.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::ServerOptions;
use super::answer;
use super::handler::{Handler, HandlerError, HandlerItem, RequestEnvelope};

/// The handler, its options, and the places for calls of it.
pub(super) struct Runner<H> {
    pub(super) options: ServerOptions,
    pub(super) handler: Arc<H>,
    pub(super) places: Arc<Semaphore>,
}

impl<H: Handler> Runner<H> {
    pub(super) fn new(options: ServerOptions, handler: H) -> Self {
        Self {
            places: Arc::new(Semaphore::new(options.concurrency.get())),
            handler: Arc::new(handler),
            options,
        }
    }

    /// Reads a request.
    pub(super) fn request(&self, body: &Bytes) -> Result<RequestEnvelope, HandlerError> {
        answer::request(body, self.options.validation)
    }

    /// Writes the answer to `request` from what the handler gave, within the limit.
    pub(super) fn answer(
        &self,
        request: &RequestEnvelope,
        result: Result<Vec<HandlerItem>, HandlerError>,
    ) -> Bytes {
        let answer = match result {
            Ok(items) => answer::success(&request.envelope, &items, self.options.validation),
            Err(error) => return answer::failure(&error),
        };
        let (length, limit) = (answer.len(), self.options.max_frame);
        if length > limit {
            let text = format!("the answer has {length} bytes, the limit is {limit} bytes");
            return answer::failure(&HandlerError::new(text));
        }
        answer
    }
}
