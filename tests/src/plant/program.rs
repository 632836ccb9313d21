//! A child process that is killed and started again, always with the same command line and environment.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::waiting::wait_for;

/// What to start.
#[derive(Debug, Clone)]
pub(crate) struct Recipe {
    /// For messages of failing tests.
    pub(crate) name: String,
    pub(crate) executable: PathBuf,
    pub(crate) arguments: Vec<OsString>,
    /// The whole environment, besides `PATH`.
    pub(crate) environment: Vec<(String, OsString)>,
    /// Working directory; standard output and error go to `<directory>/<name>.log`.
    pub(crate) directory: PathBuf,
}

/// A program under test. Killed when dropped, and by the kernel when the thread that started it ends in any way.
#[derive(Debug)]
pub struct Program {
    recipe: Recipe,
    child: Option<Child>,
}

impl Program {
    /// Starts it for the first time.
    pub(crate) fn start(recipe: Recipe) -> Self {
        let mut program = Self { recipe, child: None };
        program.start_again();
        program
    }

    /// Starts it after it was killed or has ended.
    pub fn start_again(&mut self) {
        assert!(self.child.is_none(), "{} runs already", self.recipe.name);
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log_path())
            .unwrap();
        // `setpriv` becomes the program: same process, same id.
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.recipe.executable)
            .args(&self.recipe.arguments)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .envs(self.recipe.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.recipe.directory)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.child = Some(child.expect("setpriv comes with util-linux"));
    }

    /// Ends it with SIGKILL. It must have been running until now.
    pub fn kill(&mut self) {
        self.assert_running();
        if let Some(mut child) = self.child.take() {
            child.kill().unwrap();
            child.wait().unwrap();
        }
    }

    /// Kills it if it runs, and starts it again.
    pub fn crash(&mut self) {
        self.kill();
        self.start_again();
    }

    /// Asks it to end.
    pub fn signal(&self, signal: Signal) {
        if let Some(child) = &self.child {
            kill_process(Pid::from_child(child), signal).unwrap();
        }
    }

    /// Waits for its end; the exit code, or `None` when a signal ended it.
    pub fn wait(&mut self) -> Option<i32> {
        let status = wait_for(&format!("the end of {}", self.recipe.name), || self.try_wait());
        self.child = None;
        status.code()
    }

    /// Fails the test when it has ended by itself.
    pub fn assert_running(&mut self) {
        if let Some(status) = self.try_wait() {
            panic!(
                "{} ended by itself, {status}:\n{}",
                self.recipe.name,
                self.last_words()
            );
        }
    }

    /// What it is called in messages of failing tests.
    pub fn name(&self) -> &str {
        &self.recipe.name
    }

    /// Everything that it has written, over all its lives.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    /// The end of its log.
    pub(crate) fn last_words(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().map(|line| format!("{line:.400}")).collect();
        lines[lines.len().saturating_sub(20)..].join("\n")
    }

    fn try_wait(&mut self) -> Option<ExitStatus> {
        self.child.as_mut()?.try_wait().unwrap()
    }

    fn log_path(&self) -> PathBuf {
        Path::new(&self.recipe.directory).join(format!("{}.log", self.recipe.name))
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Errors mean that it has ended already.
            let _gone = child.kill();
            let _reaped = child.wait();
        }
    }
}
