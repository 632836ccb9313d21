//! The runtime of one actor as a child process that is restarted when it ends.
//!
//! Each child runs below a [guard](crate::guard) in a process group of its own, so that Ctrl-C on the terminal reaches
//! only `asya`, and nothing of it survives `asya`.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use asya_runtime_protocol::{READY_FILE_NAME, SOCKET_NAME};
use asya_sidecar::RuntimeControl;
use futures::future::BoxFuture;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, AsyncWriteExt as _, BufReader};
use tokio::process::{Child, ChildStdin};
use tokio::sync::{mpsc, oneshot, watch};

use super::settings::RuntimeSettings;

/// Starts in a row that never get ready after which the handler is taken to be unable to start.
const HOPELESS: u32 = 3;

/// First and longest pause before a runtime that ended is started again.
const RESTART: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// A runtime that was up for this long has recovered; its next restart is immediate again.
const STABLE: Duration = Duration::from_secs(10);

/// Lines kept for the report about a runtime that cannot start.
const LAST_LINES: usize = 12;

/// How long a runtime may take to end after it was asked to.
const STOP_PATIENCE: Duration = Duration::from_secs(3);

/// Gets what a runtime prints on standard output, line by line: the handler's own prints.
pub(crate) type Printed = Arc<dyn Fn(&str, &str) + Send + Sync>;

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
        printed: Printed,
    ) -> Self {
        let (commands, orders) = mpsc::channel(4);
        let (failed, failure) = watch::channel(None);
        let keeper = Keeper {
            settings,
            socket_dir,
            log,
            printed,
            failed,
            last_lines: Arc::default(),
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
    printed: Printed,
    failed: watch::Sender<Option<String>>,
    last_lines: Arc<Mutex<VecDeque<String>>>,
}

impl Keeper {
    async fn keep(self, mut orders: mpsc::Receiver<Order>) {
        let mut hopeless = 0;
        let mut restarts = 0_u32;
        loop {
            // The pipe is held apart: waiting for a child closes the one that is still in it.
            let (mut child, mut pipe) = match self.spawn() {
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
            let ended = tokio::select! {
                status = child.wait() => status,
                order = orders.recv() => {
                    let stop = !matches!(order, Some(Order::Restart(_)));
                    end(&mut child, pipe.take(), stop).await;
                    match order {
                        Some(Order::Restart(done)) => {
                            let _nobody_waits = done.send(());
                            continue;
                        }
                        Some(Order::Stop(done)) => {
                            let _nobody_waits = done.send(());
                            return;
                        }
                        None => return,
                    }
                }
            };
            let was_ready = self.socket_dir.join(READY_FILE_NAME).exists();
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
                tokio::time::sleep(pause).await;
            }
        }
    }

    fn spawn(&self) -> std::io::Result<(Child, Option<ChildStdin>)> {
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
        if let Some(stdout) = child.stdout.take() {
            let (printed, actor) = (Arc::clone(&self.printed), self.settings.actor.clone());
            self.follow(stdout, move |line| printed(&actor, line))?;
        }
        if let Some(stderr) = child.stderr.take() {
            let (last, actor) = (Arc::clone(&self.last_lines), self.settings.actor.clone());
            self.follow(stderr, move |line| {
                tracing::info!("[{actor}] {line}"); // Seen with --verbose; the log file has it in any case.
                let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
                if last.len() == LAST_LINES {
                    last.pop_front();
                }
                last.push_back(line.to_owned());
            })?;
        }
        let pipe = child.stdin.take();
        Ok((child, pipe))
    }

    /// Copies lines into the log file and to `each`. A fork that outlives the runtime may keep the pipe open; the task
    /// then waits without harm.
    fn follow(
        &self,
        pipe: impl AsyncRead + Unpin + Send + 'static,
        each: impl Fn(&str) + Send + 'static,
    ) -> std::io::Result<()> {
        let log = open_log(&self.log)?;
        tokio::spawn(async move {
            let mut log = tokio::fs::File::from_std(log);
            let mut lines = BufReader::new(pipe).split(b'\n');
            while let Ok(Some(mut line)) = lines.next_segment().await {
                each(&String::from_utf8_lossy(&line));
                line.push(b'\n');
                if let Err(error) = log.write_all(&line).await {
                    tracing::warn!(%error, "a runtime's log cannot be written");
                    // Go on reading: a full pipe would stop the handler.
                }
            }
        });
        Ok(())
    }

    fn note_end(&self, ended: &std::io::Result<ExitStatus>, hopeless: u32) {
        let how = match ended {
            Ok(status) => how_it_ended(*status),
            Err(error) => error.to_string(),
        };
        tracing::warn!(actor = %self.settings.actor, %how, "the runtime ended and is started again");
        if hopeless >= HOPELESS {
            let last = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
            let said: Vec<_> = last.iter().map(|line| format!("\n    {line}")).collect();
            self.failed.send_replace(Some(format!(
                "the runtime of actor {} ended {HOPELESS} times before it was ready ({how}); it said last:{}\n  \
                 The whole log: {}",
                self.settings.actor,
                said.concat(),
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

fn open_log(path: &Path) -> std::io::Result<std::fs::File> {
    if let Some(directory) = path.parent() {
        std::fs::create_dir_all(directory)?;
    }
    std::fs::File::options().create(true).append(true).open(path)
}

/// Ends a child: politely first if `politely`, then by closing its pipe, upon which its guard kills it.
async fn end(child: &mut Child, pipe: Option<ChildStdin>, politely: bool) {
    if let Some(mut pipe) = pipe {
        if politely {
            // If the guard is gone, so is the runtime.
            let _asked = pipe.write_all(b"\n").await;
            if tokio::time::timeout(STOP_PATIENCE, child.wait()).await.is_ok() {
                return;
            }
        }
        drop(pipe);
    }
    if let Err(error) = child.wait().await {
        tracing::warn!(%error, "a runtime could not be waited for");
    }
}
