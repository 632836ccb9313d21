//! The processes that belong to one pipeline, found by a variable that they all inherit.

use std::path::Path;

use rustix::process::{Pid, Signal, kill_process};

/// The variable; its value is unique for each pipeline.
pub(crate) const MARK: &str = "ASYA_TEST_MARK";

/// A living process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// Its id.
    pub pid: i32,
    /// Its command line, words separated by spaces.
    pub command: String,
}

impl Process {
    /// Sends a signal; a process that has ended meanwhile takes none.
    pub fn signal(&self, signal: Signal) {
        if let Some(pid) = Pid::from_raw(self.pid) {
            let _ended_before = kill_process(pid, signal);
        }
    }
}

/// All living processes that inherited `mark`, in the order of their ids. The dead that nobody has reaped yet have no
/// environment any more and do not count.
pub fn processes_under(mark: &str) -> Vec<Process> {
    let wanted = format!("{MARK}={mark}").into_bytes();
    let entries = std::fs::read_dir("/proc").expect("/proc is mounted");
    let mut found: Vec<_> = entries
        .flatten()
        .filter_map(|entry| process(&entry.path(), &wanted))
        .collect();
    found.sort_by_key(|process| process.pid);
    found
}

/// The process of this directory of `/proc`, if it is one and carries the mark.
fn process(directory: &Path, wanted: &[u8]) -> Option<Process> {
    let pid = directory.file_name()?.to_str()?.parse().ok()?;
    let environment = std::fs::read(directory.join("environ")).ok()?;
    environment
        .split(|byte| *byte == 0)
        .find(|variable| *variable == wanted)?;
    let command = std::fs::read(directory.join("cmdline")).ok()?;
    let command = String::from_utf8_lossy(&command)
        .trim_end_matches('\0')
        .replace('\0', " ");
    Some(Process { pid, command })
}
