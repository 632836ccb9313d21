//! A program whose speed is looked at from outside. Killed when dropped.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::Command;
use tokio::time::timeout;

use super::{Processor, Usage};

/// Longest time that a program may take to end.
const ENDING: Duration = Duration::from_secs(40);
/// Lines of its output that an error repeats.
const LINES: usize = 8;

/// See the module documentation.
#[derive(Debug)]
pub struct Child {
    name: &'static str,
    process: tokio::process::Child,
    output: PathBuf,
}

impl Child {
    /// Starts `command` with its output in a file of `directory`.
    pub fn start(name: &'static str, command: &mut Command, directory: &Path) -> Result<Self> {
        let output = directory.join(format!("{name}.log"));
        let log = File::create(&output)?;
        let process = command
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        Ok(Self {
            name,
            process,
            output,
        })
    }

    /// Its process id.
    pub fn id(&self) -> Result<u32> {
        self.process
            .id()
            .with_context(|| format!("{} has ended", self.name))
    }

    /// Its memory.
    pub fn usage(&self) -> Result<Usage> {
        Usage::of(self.id()?)
    }

    /// Its use of the processor.
    pub fn processor(&self) -> Result<Processor> {
        Processor::of(self.id()?)
    }

    /// Does `work` for as long as the program runs; an error when it ends before.
    pub async fn during<T>(&mut self, work: impl Future<Output = Result<T>>) -> Result<T> {
        tokio::select! {
            result = work => result.with_context(|| self.last_words()),
            ended = self.process.wait() => bail!("{} ended early with {}: {}", self.name, ended?, self.last_words()),
        }
    }

    /// Asks it to end (SIGTERM), which it has to do with success.
    pub async fn stop(mut self) -> Result<()> {
        let id = i32::try_from(self.id()?)?;
        kill_process(Pid::from_raw(id).context("no process")?, Signal::TERM)?;
        let status = self.wait(ENDING).await?;
        ensure!(
            status.success(),
            "{} ended with {status}: {}",
            self.name,
            self.last_words()
        );
        Ok(())
    }

    async fn wait(&mut self, limit: Duration) -> Result<ExitStatus> {
        let ended = timeout(limit, self.process.wait()).await;
        let status = ended.with_context(|| format!("{} does not end: {}", self.name, self.last_words()))?;
        Ok(status?)
    }

    fn last_words(&self) -> String {
        let text = std::fs::read_to_string(&self.output).unwrap_or_default();
        let lines: Vec<_> = text.lines().collect();
        let last = lines.len().saturating_sub(LINES);
        format!("last words of {}:\n{}", self.name, lines[last..].join("\n"))
    }
}
