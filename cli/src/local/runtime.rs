//! The runtime of one actor as a child process that is restarted when it ends.
//!
//! Each child runs below a [guard](crate::guard) in a process group of its own, so that Ctrl-C on the terminal reaches
//! only `asya`, and nothing of it survives `asya`.

use std::convert::Infallible;
use std::path::PathBuf;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use asya_runtime_protocol::{READY_FILE_NAME, SOCKET_NAME};
use asya_sidecar::RuntimeControl;
use futures::future::BoxFuture;
use tokio::io::AsyncWriteExt as _;
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, oneshot, watch};

use super::output::{Destination, Followers, LastLines};
use super::settings::RuntimeSettings;

/// Starts in a row that never get ready after which the handler is taken to be unable to start.
const HOPELESS: u32 = 3;

/// First and longest pause before a runtime that ended is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A runtime that was up for this long has recovered; its next restart is immediate again.
const STABLE: Duration = Duration::from_secs(10);

/// Pause between two looks whether a runtime that was started is ready.
const READY_INTERVAL: Duration = Duration::from_millis(10);

/// How long a runtime may take to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Set when a runtime has answered: then it was ready, even if nobody saw its ready file.
pub(crate) type Answered = Arc<AtomicBool>;

/// A supervised runtime. Dropping it ends the process and everything below it.
pub(crate) struct Runtime {
    commands: mpsc::Sender<Order>,
    failure: watch::Receiver<Option<String>>,
}

enum Order {
    Restart(oneshot::Sender<()>),
    Stop(oneshot::Sender<()>),
}

impl Runtime {
    /// Starts the runtime and keeps it running.
    pub(crate) fn start(
        settings: RuntimeSettings,
        socket_dir: PathBuf,
        log: PathBuf,
        answered: Answered,
    ) -> Self {
        let (commands, orders) = mpsc::channel(4);
        let (failed, failure) = watch::channel(None);
        let keeper = Keeper {
            settings,
            socket_dir,
            log,
            answered,
            failed,
            last_lines: LastLines::default(),
        };
        tokio::spawn(keeper.keep(orders));
        Self { commands, failure }
    }

    /// Resolves with the reason when the runtime cannot be started.
    pub(crate) async fn failed(&self) -> String {
        let mut failure = self.failure.clone();
        let reason = failure
            .wait_for(Option::is_some)
            .await
            .ok()
            .and_then(|reason| reason.clone());
        match reason {
            Some(reason) => reason,
            // The keeper has ended because it was told to: there will be no failure.
            None => std::future::pending().await,
        }
    }

    /// Asks the runtime to end, and makes it end after a while.
    pub(crate) async fn stop(&self) {
        self.order(Order::Stop).await;
    }

    async fn order(&self, order: impl FnOnce(oneshot::Sender<()>) -> Order) {
        let (done, carried_out) = oneshot::channel();
        if self.commands.send(order(done)).await.is_ok() {
            // A keeper that ends without an answer has stopped its runtime too.
            let _done = carried_out.await;
        }
    }
}

impl RuntimeControl for Runtime {
    fn restart(&self) -> BoxFuture<'static, ()> {
        let runtime = Self {
            commands: self.commands.clone(),
            failure: self.failure.clone(),
        };
        Box::pin(async move { runtime.order(Order::Restart).await })
    }
}

/// The task behind a [`Runtime`].
struct Keeper {
    settings: RuntimeSettings,
    socket_dir: PathBuf,
    log: PathBuf,
    answered: Answered,
    failed: watch::Sender<Option<String>>,
    last_lines: LastLines,
}

/// One incarnation of the runtime.
struct Incarnation {
    child: Child,
    /// Held apart: waiting for a child closes the one that is still in it.
    pipe: Option<ChildStdin>,
    followers: Followers,
}

impl Keeper {
    async fn keep(self, mut orders: mpsc::Receiver<Order>) {
        let mut hopeless = 0;
        let mut restarts = 0_u32;
        loop {
            let mut incarnation = match self.spawn() {
                Ok(spawned) => spawned,
                Err(error) => {
                    self.failed.send_replace(Some(format!(
                        "cannot start {}: {error}",
                        self.settings.command[0]
                    )));
                    return;
                }
            };
            let started = Instant::now();
            let mut was_ready = false;
            let ended = tokio::select! {
                status = incarnation.child.wait() => status,
                order = orders.recv() => {
                    let stop = !matches!(order, Some(Order::Restart(_)));
                    end(incarnation, stop).await;
                    self.answered.store(false, Ordering::Relaxed);
                    match carried_out(order) {
                        Next::GoOn => continue,
                        Next::Leave => return,
                    }
                }
                never = self.watch_ready(&mut was_ready) => match never {},
            };
            incarnation.followers.finish().await;
            was_ready |= self.ready_file_is_there() | self.answered.swap(false, Ordering::Relaxed);
            hopeless = if was_ready { 0 } else { hopeless + 1 };
            self.note_end(&ended, hopeless);
            if hopeless >= HOPELESS {
                return;
            }
            restarts = if started.elapsed() >= STABLE {
                0
            } else {
                restarts.saturating_add(1)
            };
            if restarts > 1 {
                let pause = RESTART.0.saturating_mul(1 << restarts.min(10)).min(RESTART.1);
                if pause_for(pause, &mut orders).await == Next::Leave {
                    return;
                }
            }
        }
    }

    fn spawn(&self) -> std::io::Result<Incarnation> {
        std::fs::create_dir_all(&self.socket_dir)?;
        for name in [READY_FILE_NAME, SOCKET_NAME] {
            // What an earlier incarnation left would look like this one being ready.
            let _absent = std::fs::remove_file(self.socket_dir.join(name));
        }
        let mut child = self
            .settings
            .guarded()?
            .env("ASYA_SOCKET_DIR", &self.socket_dir)
            .env("ASYA_SOCKET_NAME", SOCKET_NAME)
            .spawn()?;
        let (mut followers, actor) = (Followers::default(), &self.settings.actor);
        if let Some(stdout) = child.stdout.take() {
            followers.follow(stdout, &self.log, Destination::Screen(actor.clone()))?;
        }
        if let Some(stderr) = child.stderr.take() {
            let destination = Destination::Log(actor.clone(), self.last_lines.clone());
            followers.follow(stderr, &self.log, destination)?;
        }
        Ok(Incarnation {
            pipe: child.stdin.take(),
            child,
            followers,
        })
    }

    /// Notes when the runtime is ready. While it lives, since a runtime that ends in good order removes its ready file.
    async fn watch_ready(&self, is_ready: &mut bool) -> Infallible {
        while !self.ready_file_is_there() {
            tokio::time::sleep(READY_INTERVAL).await;
        }
        *is_ready = true;
        std::future::pending().await
    }

    fn ready_file_is_there(&self) -> bool {
        self.socket_dir.join(READY_FILE_NAME).exists()
    }

    fn note_end(&self, ended: &std::io::Result<ExitStatus>, hopeless: u32) {
        let how = match ended {
            Ok(status) => how_it_ended(*status),
            Err(error) => error.to_string(),
        };
        tracing::warn!(actor = %self.settings.actor, %how, "the runtime ended and is started again");
        if hopeless >= HOPELESS {
            self.failed.send_replace(Some(format!(
                "the runtime of actor {} ended {HOPELESS} times before it was ready ({how}); it said last:{}\n  \
                 The whole log: {}",
                self.settings.actor,
                self.last_lines.report(),
                self.log.display()
            )));
        }
    }
}

/// Guards report a signal as 128 + its number.
fn how_it_ended(status: ExitStatus) -> String {
    match status.code() {
        Some(code) if code > 128 => format!("killed by signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
        None => String::from("its guard was killed"),
    }
}

/// What the keeper does after an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Next {
    GoOn,
    Leave,
}

/// Answers an order when the runtime has ended.
fn carried_out(order: Option<Order>) -> Next {
    let (done, next) = match order {
        Some(Order::Restart(done)) => (done, Next::GoOn),
        Some(Order::Stop(done)) => (done, Next::Leave),
        None => return Next::Leave,
    };
    let _nobody_waits = done.send(());
    next
}

/// Sleeps while no runtime is there, which is all that an order to end it asks for.
async fn pause_for(pause: Duration, orders: &mut mpsc::Receiver<Order>) -> Next {
    let over = tokio::time::sleep(pause);
    tokio::pin!(over);
    loop {
        tokio::select! {
            () = &mut over => return Next::GoOn,
            order = orders.recv() => if carried_out(order) == Next::Leave {
                return Next::Leave;
            },
        }
    }
}

/// Ends a runtime: politely first if `politely`, then by closing its pipe, upon which its guard kills it. Its last
/// lines are in the log then.
async fn end(incarnation: Incarnation, politely: bool) {
    let Incarnation {
        mut child,
        pipe,
        followers,
    } = incarnation;
    if let Some(mut pipe) = pipe
        && politely
    {
        // If the guard is gone, so is the runtime.
        let _asked = pipe.write_all(b"\n").await;
        // In vain or not, the pipe is closed then.
        let _ended = tokio::time::timeout(STOP_PATIENCE, child.wait()).await;
    }
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "a runtime could not be waited for");
    }
    followers.finish().await;
}
