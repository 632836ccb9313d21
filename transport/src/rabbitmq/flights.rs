//! Publishes on their way, and how to take in all that have landed.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll, Wake, Waker};

use futures::Stream as _;
use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use lapin::Confirmation;

use super::route::FlightError;

/// The number of a publish and how it ended.
pub(super) type Landing = (u64, Result<Confirmation, FlightError>);

#[derive(Default)]
pub(super) struct Flights {
    aloft: FuturesUnordered<BoxFuture<'static, Landing>>,
}

impl Flights {
    pub(super) fn push(&mut self, flight: impl Future<Output = Landing> + Send + 'static) {
        // Tokio makes futures pause for the sake of other tasks, which looks like a ring of the bell below.
        self.aloft.push(Box::pin(tokio::task::unconstrained(flight)));
    }

    /// Waits for at least one to land, and returns all that have landed by then. Cancel safe.
    ///
    /// Complete in this sense: a publish that was woken before one of the returned ones was resolved is polled
    /// before this returns.
    pub(super) async fn landed(&mut self) -> Vec<Landing> {
        std::future::poll_fn(|context| self.poll_landed(context)).await
    }

    fn poll_landed(&mut self, context: &Context<'_>) -> Poll<Vec<Landing>> {
        let bell = Arc::new(Bell {
            rung: AtomicBool::new(false),
            task: context.waker().clone(),
        });
        let waker = Waker::from(Arc::clone(&bell));
        let mut inner = Context::from_waker(&waker);
        let mut landed = Vec::new();
        loop {
            match Pin::new(&mut self.aloft).poll_next(&mut inner) {
                Poll::Ready(Some(landing)) => landed.push(landing),
                // "Nothing for now" may also mean "let others run first"; only an unrung bell means nothing. A bell
                // that was rung has woken the task as well, so with empty hands it is safe to let others run.
                Poll::Pending if !landed.is_empty() && bell.rung.swap(false, Ordering::AcqRel) => {}
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if landed.is_empty() {
            Poll::Pending
        } else {
            Poll::Ready(landed)
        }
    }
}

/// Notes that it was rung, and passes it on.
struct Bell {
    rung: AtomicBool,
    task: Waker,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.wake_by_ref();
    }
}
