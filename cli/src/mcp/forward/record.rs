//! What was started for whom: a small file that outlives the command.

use std::path::PathBuf;
use std::process::Child;

use rustix::process::{Pid, Signal, kill_process};

use super::McpError;

/// A forwarding that goes on in the background.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Record {
    /// Its process.
    pub(super) pid: i32,
    /// When that was started, in clock ticks since the machine's start: tells it from a later one of the same number.
    started: u64,
    /// The port on this machine.
    pub(super) port: u16,
}

impl Record {
    /// The record of a process that was just started.
    pub(super) fn of(child: &Child, port: u16) -> Self {
        let pid = i32::try_from(child.id()).unwrap_or_default();
        Self {
            pid,
            started: started(pid).unwrap_or_default(),
            port,
        }
    }

    /// The forwarding of this Deployment, if it still goes on.
    pub(super) fn find(namespace: &str, deployment: &str) -> Option<Self> {
        let text = std::fs::read_to_string(path(namespace, deployment)).ok()?;
        let mut words = text.split_whitespace();
        let record = Self {
            pid: words.next()?.parse().ok()?,
            started: words.next()?.parse().ok()?,
            port: words.next()?.parse().ok()?,
        };
        (started(record.pid) == Some(record.started)).then_some(record)
    }

    /// Writes it down.
    pub(super) fn write(&self, namespace: &str, deployment: &str) -> Result<(), McpError> {
        let path = path(namespace, deployment);
        let text = format!("{} {} {}\n", self.pid, self.started, self.port);
        std::fs::write(&path, text)
            .map_err(|error| McpError::Local(format!("cannot write {}: {error}", path.display())))
    }

    /// Ends it.
    pub(super) fn stop(&self) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            // It may just have ended by itself.
            let _gone = kill_process(pid, Signal::TERM);
        }
    }
}

/// In the user's run-time directory, which is emptied with the machine's end, as processes are.
fn path(namespace: &str, deployment: &str) -> PathBuf {
    let safe = |name: &str| name.replace(|c: char| !c.is_ascii_alphanumeric() && c != '-', "_");
    let dir = std::env::var_os("XDG_RUNTIME_DIR").map_or_else(std::env::temp_dir, PathBuf::from);
    let user = rustix::process::getuid().as_raw();
    dir.join(format!(
        "asya-mcp-forward-{user}-{}-{}",
        safe(namespace),
        safe(deployment)
    ))
}

/// Field 22 of `/proc/PID/stat`; the name before it may hold anything, spaces and brackets too.
fn started(pid: i32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_a_start_time_that_stays() {
        let pid = i32::try_from(std::process::id()).expect("a pid");
        assert!(started(pid).is_some_and(|ticks| ticks > 0));
        assert_eq!(started(pid), started(pid));
    }
}
