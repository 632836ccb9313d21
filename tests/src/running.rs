//! `asya` as a child process with a hard time limit.

use std::ffi::OsStr;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::binary::{asya, real_python};
use crate::processes::{MARK, processes_under};
use crate::waiting::{LIMIT, wait_for};

/// A command line in the making.
#[derive(Debug)]
pub struct Asya {
    command: Command,
    mark: String,
    input: Vec<u8>,
    stdout: Stdout,
}

/// What happens to standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stdout {
    /// It is read to its end.
    ReadAll,
    /// So many lines are read, then it is closed, as `head` does.
    CloseAfter(usize),
    /// It is a pipe that nobody reads.
    Stalled,
}

impl Asya {
    /// `asya` without arguments, from the root directory, its processes marked with `mark`.
    pub(crate) fn new(mark: &str, temporary: &Path) -> Self {
        let mut command = Command::new(asya());
        command
            .env(MARK, mark)
            .env("TMPDIR", temporary)
            .env("ASYA_PYTHON", real_python())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .env_remove("ASYA_STATE_DIR")
            .env_remove("ASYA_LOG_LEVEL")
            .env_remove("NO_COLOR")
            .current_dir("/");
        Self {
            command,
            mark: mark.to_owned(),
            input: Vec::new(),
            stdout: Stdout::ReadAll,
        }
    }

    /// Another program that runs `asya` in its turn, with the same environment and limits.
    #[must_use]
    pub fn through(self, program: &str) -> Self {
        let mut command = Command::new(program);
        command.current_dir("/");
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        Self { command, ..self }
    }

    /// One more argument.
    #[must_use]
    pub fn arg(mut self, argument: impl AsRef<OsStr>) -> Self {
        self.command.arg(argument);
        self
    }

    /// More arguments.
    #[must_use]
    pub fn args<'a>(mut self, arguments: impl IntoIterator<Item = &'a str>) -> Self {
        self.command.args(arguments);
        self
    }

    /// One more variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    /// Standard input.
    #[must_use]
    pub fn stdin(mut self, text: impl Into<Vec<u8>>) -> Self {
        self.input = text.into();
        self
    }

    /// What happens to standard output.
    #[must_use]
    pub fn stdout(mut self, stdout: Stdout) -> Self {
        self.stdout = stdout;
        self
    }

    /// Starts it.
    pub fn spawn(mut self) -> Running {
        let started = Instant::now();
        let mut child = self
            .command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("asya can be started");
        let mut stdin = child.stdin.take().expect("it is a pipe");
        let input = self.input;
        std::thread::spawn(move || {
            // Who does not read its input need not get it.
            let _refused = stdin.write_all(&input);
        });
        let stdout = child.stdout.take().expect("it is a pipe");
        let stderr = child.stderr.take().expect("it is a pipe");
        let (stdout, unread) = match self.stdout {
            Stdout::ReadAll => (Collected::of(stdout, read_all), None),
            Stdout::CloseAfter(lines) => (
                Collected::of(stdout, move |pipe, into| read_lines(pipe, lines, into)),
                None,
            ),
            Stdout::Stalled => (Collected::default(), Some(stdout)),
        };
        Running {
            stderr: Collected::of(stderr, read_all),
            stdout,
            _unread: unread,
            child,
            mark: self.mark,
            started,
        }
    }

    /// Runs it to its end.
    pub fn run(self) -> Finished {
        self.spawn().wait()
    }
}

/// `asya` at work.
#[derive(Debug)]
pub struct Running {
    child: Child,
    stdout: Collected,
    stderr: Collected,
    mark: String,
    started: Instant,
    // Held open while `asya` runs.
    _unread: Option<ChildStdout>,
}

impl Running {
    /// Sends a signal to `asya` alone.
    pub fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("asya is still running");
    }

    /// Id of its process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it has written `text` to standard error.
    pub fn await_stderr(&self, text: &str) {
        wait_for(&format!("{text:?} on standard error"), || {
            self.stderr.text().contains(text).then_some(())
        });
    }

    /// Waits until it has written `text` to standard output.
    pub fn await_stdout(&self, text: &str) {
        wait_for(&format!("{text:?} on standard output"), || {
            self.stdout.text().contains(text).then_some(())
        });
    }

    /// What it has written to standard output so far.
    pub fn stdout_text(&self) -> String {
        self.stdout.text()
    }

    /// What it has written to standard error so far.
    pub fn stderr_text(&self) -> String {
        self.stderr.text()
    }

    /// Waits for its end.
    pub fn wait(mut self) -> Finished {
        let deadline = Instant::now() + LIMIT;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("asya can be waited for") {
                break status;
            }
            if Instant::now() > deadline {
                for process in processes_under(&self.mark) {
                    process.signal(Signal::KILL);
                }
                panic!(
                    "asya did not end; stdout:\n{}\nstderr:\n{}",
                    self.stdout.text(),
                    self.stderr.text()
                );
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        Finished {
            took: self.started.elapsed(),
            code: status.code(),
            stdout: self.stdout.finish(),
            stderr: self.stderr.finish(),
        }
    }
}

/// `asya` at its end.
#[derive(Debug)]
pub struct Finished {
    /// Its exit code; `None` when a signal ended it.
    pub code: Option<i32>,
    /// All of standard output that was read.
    pub stdout: String,
    /// All of standard error.
    pub stderr: String,
    /// From start to end.
    pub took: Duration,
}

impl Finished {
    /// Fails unless it ended with `code`.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            Some(code),
            "exit code; standard error:\n{}\nstandard output:\n{:.2000}",
            self.stderr,
            self.stdout
        );
        self
    }

    /// Fails unless standard error holds all of `texts`.
    pub fn expect_stderr(self, texts: &[&str]) -> Self {
        for text in texts {
            assert!(
                self.stderr.contains(text),
                "{text:?} is missing in:\n{}",
                self.stderr
            );
        }
        self
    }

    /// The lines of standard output, each of which must be one JSON object.
    pub fn envelopes(&self) -> Vec<Value> {
        assert!(
            self.stdout.is_empty() || self.stdout.ends_with('\n'),
            "the last line is whole"
        );
        let parse = |line| serde_json::from_str(line).expect("every line is JSON");
        let lines: Vec<Value> = self.stdout.lines().map(parse).collect();
        assert!(lines.iter().all(Value::is_object), "every line is an object");
        lines
    }

    /// The payloads of [`Self::envelopes`].
    pub fn payloads(&self) -> Vec<Value> {
        self.envelopes()
            .iter()
            .map(|envelope| envelope["payload"].clone())
            .collect()
    }

    /// The words of standard output: the ids that `asya send` prints.
    pub fn ids(&self) -> Vec<String> {
        self.stdout.split_whitespace().map(str::to_owned).collect()
    }
}

/// What a thread reads from a pipe.
#[derive(Debug, Default)]
struct Collected {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Collected {
    fn of<P: Send + 'static>(pipe: P, read: impl FnOnce(P, &Mutex<Vec<u8>>) + Send + 'static) -> Self {
        let bytes = Arc::default();
        let into = Arc::clone(&bytes);
        let reader = std::thread::spawn(move || read(pipe, &into));
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    fn text(&self) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn finish(mut self) -> String {
        if let Some(reader) = self.reader.take() {
            // Only `asya` has the other end of the pipe. Were it passed on to a process that stays, this would show it.
            wait_for("the end of the output", || reader.is_finished().then_some(()));
        }
        self.text()
    }
}

fn read_all(mut pipe: impl Read, into: &Mutex<Vec<u8>>) {
    let mut buffer = [0; 8 * 1024];
    while let Ok(count @ 1..) = pipe.read(&mut buffer) {
        into.lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(&buffer[..count]);
    }
}

fn read_lines(pipe: impl Read, lines: usize, into: &Mutex<Vec<u8>>) {
    let mut pipe = BufReader::new(pipe);
    for _ in 0..lines {
        let mut line = Vec::new();
        if !matches!(pipe.read_until(b'\n', &mut line), Ok(1..)) {
            return;
        }
        into.lock().unwrap_or_else(PoisonError::into_inner).extend(line);
    }
}
