//! The tasks that the gateway cannot do without. One that ends before its time is told, so that the process does not
//! live on, to all appearances ready, without it.

use std::panic::AssertUnwindSafe;

use futures::FutureExt as _;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

/// Which task was lost, if any. Clones share it.
#[derive(Clone)]
pub(super) struct Losses {
    /// Once it is cancelled, tasks may end.
    over: CancellationToken,
    lost: watch::Sender<Option<&'static str>>,
}

impl Losses {
    pub(super) fn new(over: CancellationToken) -> Self {
        Self {
            over,
            lost: watch::Sender::new(None),
        }
    }

    /// The same task, whose end is noticed. `what` is what it does, for people.
    pub(super) fn guard<F>(&self, what: &'static str, task: F) -> impl Future<Output = ()> + Send + use<F>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let losses = self.clone();
        async move {
            // Nothing of it is used afterwards, and a panic was logged where it happened.
            let _ended = AssertUnwindSafe(task).catch_unwind().await;
            if !losses.over.is_cancelled() {
                tracing::error!(task = what, "a task of the gateway has ended before its time");
                losses.lost.send_replace(Some(what));
            }
        }
    }

    /// What does not happen any more, in one line.
    pub(super) fn told(&self) -> Option<String> {
        self.lost.borrow().map(words)
    }

    /// Waits until something is lost; returns it in one line.
    pub(super) async fn any(&self) -> String {
        let mut lost = self.lost.subscribe();
        let found = lost.wait_for(Option::is_some).await;
        match found.ok().and_then(|found| *found) {
            Some(what) => words(what),
            // The sender lives as long as this.
            None => std::future::pending().await,
        }
    }
}

fn words(what: &'static str) -> String {
    format!("the task for {what} has ended before its time; the gateway must be started again")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_task_that_ends_early_is_told_and_one_that_may_end_is_not() {
        let over = CancellationToken::new();
        let losses = Losses::new(over.clone());
        let waiting = losses.guard("waiting", over.clone().cancelled_owned());
        let waiting = tokio::spawn(waiting);
        assert_eq!(losses.told(), None);
        tokio::spawn(losses.guard("work", async { panic!("as it is wanted here") }))
            .await
            .unwrap();
        assert!(losses.any().await.contains("work"));
        assert_eq!(losses.told(), Some(losses.any().await));

        let calm = Losses::new(over.clone());
        over.cancel();
        waiting.await.unwrap();
        tokio::spawn(calm.guard("work", async {})).await.unwrap();
        assert_eq!(calm.told(), None);
    }
}
