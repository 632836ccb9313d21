//! A desk where many hand in work that is done in one transaction: what waits when the last transaction has ended goes
//! into the next one. No timer: alone one waits for nobody, in a crowd all share a commit.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

use asya_gateway_store::{
    Applied, Final, OutboxEntry, OutboxOutcome, Report, ReportEvent, Store, StoreError,
};
use asya_runtime_protocol::RawJson;
use futures::future::{BoxFuture, join_all};
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;

use super::bulletin::Bulletin;

/// Items and bytes of one transaction, unless one caller alone brings more.
const BATCH: (usize, usize) = (512, 16 * 1024 * 1024);
/// Callers that may wait; more are held at the door.
const WAITING: usize = 4096;

/// What is done at a desk.
pub(super) trait Work: Clone + Send + Sync + 'static {
    /// About how many bytes it has.
    fn weight(&self) -> usize;

    /// One transaction. As many answers as items, in their order.
    fn run(store: &dyn Store, items: Vec<Self>) -> BoxFuture<'_, Result<Vec<Applied>, StoreError>>;
}

impl Work for Report {
    fn weight(&self) -> usize {
        let raw = |raw: &Option<RawJson>| raw.as_ref().map_or(0, RawJson::len);
        match &self.event {
            ReportEvent::Partial(partial) => partial.value.len(),
            ReportEvent::Retry(retry) => raw(&retry.failure) + retry.error.len(),
            ReportEvent::Final(Final::Succeeded(success)) => raw(&success.result),
            ReportEvent::Final(Final::Failed(failure)) => raw(&failure.details) + raw(&failure.result),
            _ => 0,
        }
    }

    fn run(store: &dyn Store, items: Vec<Self>) -> BoxFuture<'_, Result<Vec<Applied>, StoreError>> {
        store.apply(items)
    }
}

impl Work for (OutboxEntry, OutboxOutcome) {
    fn weight(&self) -> usize {
        self.0.message.body.len()
    }

    fn run(store: &dyn Store, items: Vec<Self>) -> BoxFuture<'_, Result<Vec<Applied>, StoreError>> {
        store.settle_outbox(items)
    }
}

/// The front of the desk. Clones share it.
pub(super) struct Desk<W>(mpsc::Sender<Request<W>>);

impl<W> Clone for Desk<W> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

struct Request<W> {
    items: Vec<W>,
    answer: oneshot::Sender<Result<Vec<Applied>, StoreError>>,
}

impl<W: Work> Request<W> {
    fn size(&self) -> (usize, usize) {
        (self.items.len(), self.items.iter().map(Work::weight).sum())
    }
}

impl<W: Work> Desk<W> {
    /// Opens a desk; the future is the clerk, who works until all fronts are gone or, once `stop` is cancelled,
    /// until nobody waits.
    pub(super) fn open(
        store: Arc<dyn Store>,
        bulletin: Bulletin,
        stop: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self(sender), clerk(store, bulletin, receiver, stop))
    }

    /// Does the work; the answers are as many, in the same order. Dropping the future does not take the work back.
    pub(super) async fn hand_in(&self, items: Vec<W>) -> Result<Vec<Applied>, StoreError> {
        if items.is_empty() {
            return Ok(Vec::new());
        }
        let (answer, answered) = oneshot::channel();
        let closed = || StoreError::Unavailable("the gateway is shutting down".into());
        self.0
            .send(Request { items, answer })
            .await
            .map_err(|_| closed())?;
        answered.await.map_err(|_| closed())?
    }

    /// Does each piece of work by itself, so that one that the store refuses takes no other with it; the desk puts them
    /// together all the same. Returns the answers, and the first refusal.
    pub(super) async fn hand_in_each(&self, items: Vec<W>) -> (Vec<Applied>, Option<StoreError>) {
        let each = items.into_iter().map(|item| self.hand_in(vec![item]));
        let (mut answers, mut refused) = (Vec::new(), None);
        for outcome in join_all(each).await {
            match outcome {
                Ok(applied) => answers.extend(applied),
                Err(error) => refused = refused.or(Some(error)),
            }
        }
        (answers, refused)
    }
}

async fn clerk<W: Work>(
    store: Arc<dyn Store>,
    bulletin: Bulletin,
    mut requests: mpsc::Receiver<Request<W>>,
    stop: CancellationToken,
) {
    let mut held = None;
    loop {
        let first = match held.take() {
            Some(request) => request,
            None => match stop.run_until_cancelled(requests.recv()).await {
                Some(Some(request)) => request,
                Some(None) => return,
                None => {
                    requests.close();
                    match requests.recv().await {
                        Some(request) => request,
                        None => return,
                    }
                }
            },
        };
        let mut size = first.size();
        let mut batch = vec![first];
        while size.0 < BATCH.0
            && size.1 < BATCH.1
            && let Ok(request) = requests.try_recv()
        {
            let (items, bytes) = request.size();
            size = (size.0 + items, size.1 + bytes);
            if size.0 > BATCH.0 || size.1 > BATCH.1 {
                held = Some(request);
                break;
            }
            batch.push(request);
        }
        work(&*store, &bulletin, batch).await;
    }
}

async fn work<W: Work>(store: &dyn Store, bulletin: &Bulletin, batch: Vec<Request<W>>) {
    let items: Vec<W> = batch
        .iter()
        .flat_map(|request| request.items.iter().cloned())
        .collect();
    match run(store, bulletin, items).await {
        Ok(applied) => {
            let mut applied = applied.into_iter();
            for request in batch {
                let own = applied.by_ref().take(request.items.len()).collect();
                // Who does not wait any more does not mind.
                let _gone = request.answer.send(Ok(own));
            }
        }
        // One that the store refuses must not take the others with it.
        Err(StoreError::Broken(_)) if batch.len() > 1 => {
            for request in batch {
                let _gone = request.answer.send(run(store, bulletin, request.items).await);
            }
        }
        Err(error) => {
            let error = Arc::new(error);
            for request in batch {
                let _gone = request.answer.send(Err(share(&error)));
            }
        }
    }
}

async fn run<W: Work>(
    store: &dyn Store,
    bulletin: &Bulletin,
    items: Vec<W>,
) -> Result<Vec<Applied>, StoreError> {
    let asked = items.len();
    let applied = W::run(store, items).await?;
    bulletin.post(&applied);
    if applied.len() == asked {
        Ok(applied)
    } else {
        let problem = format!("{} answers to {asked} items", applied.len());
        Err(StoreError::Broken(problem.into()))
    }
}

/// One failure, told to several.
#[derive(Debug, Clone)]
struct Shared(Arc<StoreError>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            StoreError::Unavailable(cause) | StoreError::Broken(cause) => cause.fmt(f),
            StoreError::Schema(text) => f.write_str(text),
        }
    }
}

impl Error for Shared {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match &*self.0 {
            StoreError::Unavailable(cause) | StoreError::Broken(cause) => cause.source(),
            StoreError::Schema(_) => None,
        }
    }
}

fn share(error: &Arc<StoreError>) -> StoreError {
    let shared = Box::new(Shared(Arc::clone(error)));
    match &**error {
        StoreError::Unavailable(_) => StoreError::Unavailable(shared),
        StoreError::Broken(_) => StoreError::Broken(shared),
        StoreError::Schema(text) => StoreError::Schema(text.clone()),
    }
}
