//! What an end actor does with one envelope.

use std::fmt;
use std::sync::Arc;

use asya_objects::{End, Facts, Results, StoredObject};
use asya_runtime_protocol::{EnvelopeItem, Handler, HandlerError, HandlerItem, RequestEnvelope};

/// Attempt of an envelope that has never been retried.
const FIRST_ATTEMPT: u32 = 1;

/// Told about every envelope that came to its end.
pub type Observer = Arc<dyn Fn(&Ended<'_>) + Send + Sync>;

/// One envelope that came to its end.
#[derive(Clone, Copy, Debug)]
pub struct Ended<'a> {
    /// At which end.
    pub end: End,
    /// The envelope, and the bytes that it was read from.
    pub request: &'a RequestEnvelope,
    /// Where it was stored; `None` if results are not kept.
    pub stored: Option<&'a StoredObject>,
}

/// The handler of `happy-end` and `error-end`.
///
/// It stores the envelope with the bytes of its numbers and strings untouched, tells the observer, and answers one
/// empty item. A failure to store is an error item (`processing_error`, type `StorageError`): the result counts as
/// not delivered, and the sidecar has to try again (D-10). Trying again is safe, see [`Results::put_result`].
///
/// It works in envelope mode without validation; [`serve_end_actor`](crate::serve_end_actor) sees to that.
#[derive(Clone)]
pub struct EndHandler {
    end: End,
    results: Option<Arc<Results>>,
    observer: Option<Observer>,
}

impl EndHandler {
    /// A handler for `end`. Without `results` nothing is stored and every envelope that has an id is taken.
    ///
    /// The observer is called when the result is safe and before the sidecar hears of it, hence again for a message
    /// that comes again. It runs on the server's task: it must not block, and a panic fails the request.
    pub fn new(end: End, results: Option<Arc<Results>>, observer: Option<Observer>) -> Self {
        Self {
            end,
            results,
            observer,
        }
    }

    async fn store(&self, request: &RequestEnvelope) -> Result<Option<StoredObject>, HandlerError> {
        let Some(results) = &self.results else {
            return Ok(None);
        };
        let facts = Facts {
            id: &request.envelope.id,
            actors: &request.envelope.route.actors,
            current: request.envelope.route.current,
            attempt: FIRST_ATTEMPT,
        };
        match results.put_result(self.end, &facts, request.body.clone()).await {
            Ok(stored) => Ok(Some(stored)),
            Err(error) => {
                Err(HandlerError::new(format!("the result was not stored: {error}"))
                    .exception("StorageError"))
            }
        }
    }
}

impl Handler for EndHandler {
    async fn handle(&self, request: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
        if request.envelope.id.is_empty() {
            return Err(HandlerError::new("Envelope missing required field: id").exception("ValueError"));
        }
        let stored = self.store(&request).await?;
        if let Some(observer) = &self.observer {
            observer(&Ended {
                end: self.end,
                request: &request,
                stored: stored.as_ref(),
            });
        }
        Ok(vec![HandlerItem::Envelope(EnvelopeItem::default())])
    }
}

impl fmt::Debug for EndHandler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EndHandler")
            .field("end", &self.end)
            .field("results", &self.results)
            .field("observed", &self.observer.is_some())
            .finish()
    }
}
