//! A native echo as a runtime: on a thread of its own, as a program written with the runtime library has one.

use std::num::NonZeroUsize;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use asya_runtime_protocol::{HandlerItem, RequestEnvelope, SOCKET_NAME, ServerOptions, serve, wait_ready};
use tokio_util::sync::CancellationToken;

/// Longest wait until it listens.
const START: Duration = Duration::from_secs(10);

/// A running echo; ends when dropped.
#[derive(Debug)]
pub struct Echo {
    stop: CancellationToken,
    thread: Option<JoinHandle<Result<()>>>,
    first: Arc<Mutex<Option<Instant>>>,
}

impl Echo {
    /// Serves in `socket_dir`, each call for `time`, and waits until it listens.
    pub async fn start(socket_dir: &Path, time: Duration) -> Result<Self> {
        let stop = CancellationToken::new();
        let first = Arc::new(Mutex::new(None));
        let (called, stopped) = (Arc::clone(&first), stop.clone());
        let options = ServerOptions {
            concurrency: NonZeroUsize::MIN,
            ..ServerOptions::new(socket_dir)
        };
        let echo = move |request: RequestEnvelope| {
            called
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .get_or_insert_with(Instant::now);
            async move {
                if !time.is_zero() {
                    tokio::time::sleep(time).await;
                }
                Ok(vec![HandlerItem::Payload(request.payload())])
            }
        };
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            // A call that still sleeps is not waited for.
            runtime.block_on(async {
                let serving = serve(options, echo, std::future::pending());
                stopped.run_until_cancelled(serving).await.transpose()
            })?;
            Ok(())
        });
        let echo = Self {
            stop,
            thread: Some(thread),
            first,
        };
        wait_ready(socket_dir, &socket_dir.join(SOCKET_NAME), START).await?;
        Ok(echo)
    }

    /// When it was called for the first time.
    #[must_use]
    pub fn first_call(&self) -> Option<Instant> {
        *self.first.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends it.
    pub fn stop(mut self) -> Result<()> {
        self.stop.cancel();
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow!("the echo panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Echo {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}
