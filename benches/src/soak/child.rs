//! The worker process as the soak sees it: a group of processes that is killed as a whole.

use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{ChildStdin, ChildStdout, Command};

use super::{Options, Status};

/// Longest time for a worker to end once it was asked or killed.
const END: Duration = Duration::from_mins(1);

/// One worker. Its group is killed when this is dropped.
pub(super) struct Child {
    process: tokio::process::Child,
    group: Pid,
    /// Closing it asks the worker to end.
    stdin: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
}

/// What a worker says, or that it says nothing any more.
pub(super) enum Ended {
    Not(Status),
    ByItself(ExitStatus),
}

impl Child {
    pub(super) fn start(options: &Options, state: &Path) -> Result<Self> {
        let (program, first) = options
            .worker
            .split_first()
            .context("no worker program is named")?;
        let mut command = Command::new(program);
        command.args(first).arg("--state").arg(state);
        command
            .arg("--credit")
            .arg(options.credit.to_string())
            .arg("--slots")
            .arg(options.slots.to_string());
        if let Some(python) = &options.python {
            command.arg("--python").arg(python);
        }
        // A group of its own, so that handlers in child processes die in the same moment.
        command
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped());
        let mut process = command
            .spawn()
            .with_context(|| format!("cannot start {}", program.display()))?;
        let id = process.id().context("the worker has ended already")?;
        let group = Pid::from_raw(i32::try_from(id)?).context("the worker has no process id")?;
        let stdout = process
            .stdout
            .take()
            .context("the worker has no standard output")?;
        let stdin = process.stdin.take();
        Ok(Self {
            process,
            group,
            stdin,
            lines: BufReader::new(stdout).lines(),
        })
    }

    /// What it says next. Cancel safe.
    pub(super) async fn next_status(&mut self) -> Result<Ended> {
        match self.lines.next_line().await? {
            Some(line) => Ok(Ended::Not(
                serde_json::from_str(&line).with_context(|| format!("not a status: {line}"))?,
            )),
            None => Ok(Ended::ByItself(self.process.wait().await?)),
        }
    }

    /// `kill -9` for the worker and everything that it started.
    pub(super) async fn kill(mut self) -> Result<()> {
        kill_process_group(self.group, Signal::KILL)?;
        tokio::time::timeout(END, self.process.wait())
            .await
            .context("a killed worker does not end")??;
        Ok(())
    }

    /// Asks it to end, and waits until it has.
    pub(super) async fn finish(mut self) -> Result<()> {
        drop(self.stdin.take());
        let reading_on = async {
            while self.lines.next_line().await?.is_some() {}
            self.process.wait().await
        };
        let status = tokio::time::timeout(END, reading_on)
            .await
            .context("the worker does not end")??;
        ensure!(status.success(), "the worker ended with {status}");
        Ok(())
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // Once it was waited for, its number may belong to somebody else.
        if self.process.id().is_some() {
            let _gone = kill_process_group(self.group, Signal::KILL);
        }
    }
}
