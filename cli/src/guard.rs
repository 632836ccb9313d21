//! A small process between `asya` and a runtime, so that no process is ever left behind.
//!
//! The guard becomes the reaper of everything below it and holds a pipe from `asya` as its standard input. When that
//! pipe ends, because `asya` closed it or was killed, the guard kills every process below it, forks of handlers
//! included, and ends. A line on the pipe asks the runtime to end by itself (SIGTERM).
//!
//! It runs before anything else in `main`: no threads of a runtime, no terminal, a few hundred kilobytes.

use std::io::Read as _;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitCode, Stdio};

use rustix::process::{Pid, Signal, WaitOptions, getpid, kill_process, set_child_subreaper, wait};

/// First argument that makes this binary a guard: `asya __guard COMMAND ARGUMENT…`.
pub(crate) const ARGUMENT: &str = "__guard";

/// Variable that tells a runtime which process it must not outlive, should even the guard be killed.
pub(crate) const PARENT_VARIABLE: &str = "ASYA_PARENT_PID";

/// Exit code when the command could not be started, as shells have it.
pub(crate) const NOT_STARTED: u8 = 127;

/// Runs the command and guards it; returns its exit code (128 + signal if a signal ended it).
pub(crate) fn run(command: &[std::ffi::OsString]) -> ExitCode {
    let Some((program, arguments)) = command.split_first() else {
        return ExitCode::from(NOT_STARTED);
    };
    if let Err(error) = set_child_subreaper(Some(getpid())) {
        report(&format!(
            "cannot become the reaper of the runtime's processes: {error}"
        ));
    }
    let spawned = Command::new(program)
        .args(arguments)
        .env(PARENT_VARIABLE, getpid().as_raw_nonzero().to_string())
        .stdin(Stdio::null())
        .spawn();
    let child = match spawned {
        Ok(child) => Pid::from_child(&child),
        Err(error) => {
            report(&format!("cannot start {}: {error}", program.display()));
            return ExitCode::from(NOT_STARTED);
        }
    };
    std::thread::spawn(move || obey(child));
    let code = wait_for(child);
    kill_descendants();
    ExitCode::from(code)
}

/// Follows the pipe from `asya` until it ends, then kills everything below.
fn obey(child: Pid) {
    let mut input = std::io::stdin().lock();
    let mut byte = [0];
    while matches!(input.read(&mut byte), Ok(1)) {
        if byte[0] == b'\n' {
            // It may have ended already; then there is nothing to ask.
            let _asked = kill_process(child, Signal::TERM);
        }
    }
    kill_descendants();
}

/// Reaps whatever ends below until `child` has.
fn wait_for(child: Pid) -> u8 {
    loop {
        match wait(WaitOptions::empty()) {
            Ok(Some((pid, status))) if pid == child => {
                let status = std::process::ExitStatus::from_raw(status.as_raw());
                let code = status
                    .code()
                    .or_else(|| status.signal().map(|signal| 128 + signal));
                return code.and_then(|code| u8::try_from(code).ok()).unwrap_or(u8::MAX);
            }
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(_) => return u8::MAX,
        }
    }
}

/// Kills every process below this one until there is none. A process whose parent dies becomes our child, so
/// repeating this reaches also those that were forked meanwhile.
fn kill_descendants() {
    let me = getpid().as_raw_nonzero().get();
    loop {
        let below = descendants(me);
        if below.is_empty() {
            return;
        }
        for pid in below {
            if let Some(pid) = Pid::from_raw(pid) {
                let _killed = kill_process(pid, Signal::KILL);
            }
        }
        // Reap, so that the dead do not count as below; the other thread may have been faster.
        while matches!(wait(WaitOptions::NOHANG), Ok(Some(_))) {}
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
}

/// Living processes below `root`, by the kernel's process table.
fn descendants(root: i32) -> Vec<i32> {
    let Ok(processes) = std::fs::read_dir("/proc") else {
        return Vec::new();
    };
    let parents: Vec<(i32, i32)> = processes
        .filter_map(|entry| {
            let pid: i32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
            // `pid (name) state parent …`; the name may hold anything, also parentheses.
            let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
            let state = fields.next()?;
            let parent = fields.next()?.parse().ok()?;
            (state != "Z" && state != "X").then_some((pid, parent))
        })
        .collect();
    let mut below = vec![root];
    let mut next = 0;
    while let Some(&parent) = below.get(next) {
        below.extend(
            parents
                .iter()
                .filter(|(_, its)| *its == parent)
                .map(|(pid, _)| *pid),
        );
        next += 1;
    }
    below.split_off(1)
}

#[expect(
    clippy::print_stderr,
    reason = "the guard has no logger; what it says goes into the runtime's log"
)]
fn report(text: &str) {
    eprintln!("asya guard: {text}");
}
