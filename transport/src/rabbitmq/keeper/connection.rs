//! The connection of a keeper: opened by whoever needs it first, shared, replaced when it is lost, closed when idle.

use futures::future::BoxFuture;

use super::{
    Arc, ConnectError, Connection, DialError, ErrorKind, FAILED, IDLE, Inner, Instant, KeepError, OPERATION,
    PoisonError, dial, timeout,
};
use crate::rabbitmq::dial::Cutter;

/// What is known about the connection.
#[derive(Debug, Default)]
pub(super) struct Opened {
    open: Option<Open>,
    /// When it could not be opened last, and why.
    failure: Option<(Instant, KeepError)>,
}

#[derive(Debug, Clone)]
pub(super) struct Open {
    pub(super) connection: Arc<Connection>,
    cutter: Cutter,
}

impl Open {
    fn close(&self) {
        self.cutter.cut();
    }
}

impl Drop for Dedicated {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A connection for one operation, cut at its end.
pub(super) struct Dedicated(Open);

impl Dedicated {
    pub(super) fn connection(&self) -> &Connection {
        &self.0.connection
    }
}

impl Inner {
    /// Does something on the shared connection. What fails because that has been lost is done once more on a new one,
    /// so the work must be such that it can be repeated.
    pub(super) async fn with_connection<'a, T>(
        self: &Arc<Self>,
        work: impl Fn(Arc<Connection>) -> BoxFuture<'a, lapin::Result<T>>,
    ) -> Result<T, KeepError> {
        let mut is_first = true;
        loop {
            let open = self.open().await?;
            let failed = match timeout(OPERATION, work(Arc::clone(&open.connection))).await {
                Ok(Ok(done)) => return Ok(done),
                Ok(Err(error)) => {
                    // Closed channels use up their numbers, see `topology::channel`.
                    let used_up = matches!(error.kind(), ErrorKind::ChannelsLimitReached);
                    if open.connection.status().connected() && !used_up {
                        return Err(self.broken(error));
                    }
                    self.broken(error)
                }
                Err(_) => self.silent(),
            };
            self.forget(&open).await;
            if !std::mem::take(&mut is_first) {
                return Err(failed);
            }
        }
    }

    /// A connection of its own, for what may end with the broker closing it.
    pub(super) async fn dedicated(&self) -> Result<Dedicated, KeepError> {
        self.dial().await.map(Dedicated)
    }

    pub(super) fn silent(&self) -> KeepError {
        KeepError::Refused(format!(
            "RabbitMQ at {} did not answer within {OPERATION:?}",
            self.broker()
        ))
    }

    async fn open(self: &Arc<Self>) -> Result<Open, KeepError> {
        *self.used.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        let mut opened = self.opened.lock().await;
        if let Some(open) = &opened.open {
            if open.connection.status().connected() {
                return Ok(open.clone());
            }
            open.close();
            opened.open = None;
        }
        if let Some((at, error)) = &opened.failure
            && at.elapsed() < FAILED
        {
            return Err(error.clone());
        }
        match self.dial().await {
            Ok(open) => {
                *opened = Opened {
                    open: Some(open.clone()),
                    failure: None,
                };
                tokio::spawn(close_when_idle(Arc::downgrade(self), open.clone()));
                Ok(open)
            }
            Err(error) => {
                opened.failure = Some((Instant::now(), error.clone()));
                Err(error)
            }
        }
    }

    async fn forget(&self, broken: &Open) {
        broken.close();
        let mut opened = self.opened.lock().await;
        let is_same = |open: &Open| Arc::ptr_eq(&open.connection, &broken.connection);
        if opened.open.as_ref().is_some_and(is_same) {
            opened.open = None;
        }
    }

    async fn dial(&self) -> Result<Open, KeepError> {
        match dial(&self.settings, "queues").await {
            Ok((connection, cutter)) => Ok(Open {
                connection: Arc::new(connection),
                cutter,
            }),
            Err(DialError::Permanent(error @ ConnectError::Login { .. })) => {
                Err(KeepError::Login(error.to_string()))
            }
            Err(DialError::Permanent(error)) => Err(KeepError::Refused(error.to_string())),
            Err(DialError::Transient(reason)) => Err(KeepError::Refused(format!(
                "RabbitMQ at {} is not reachable: {reason}; check host, port and network",
                self.broker()
            ))),
        }
    }
}

/// Ends with the connection, or ends it.
async fn close_when_idle(keeper: std::sync::Weak<Inner>, open: Open) {
    loop {
        tokio::time::sleep(IDLE).await;
        let Some(inner) = keeper.upgrade() else {
            open.close();
            return;
        };
        let idle = inner
            .used
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .elapsed();
        if idle >= IDLE || !open.connection.status().connected() {
            inner.forget(&open).await;
            return;
        }
    }
}
