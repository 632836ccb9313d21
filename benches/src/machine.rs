//! Where a figure was measured, without which it says nothing.

use std::fmt;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::thread;

use serde::Serialize;

/// The machine and the program at the start of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Machine {
    /// Cores that this process may use.
    pub cores: usize,
    /// Name of the processor.
    pub processor: String,
    /// Release of the kernel.
    pub kernel: String,
    /// Load averages over 1, 5 and 15 minutes when the run began. Far above zero means that others were at work.
    pub load: String,
    /// The commit that the sources are at, with `+` when they differ from it.
    pub commit: String,
    /// Whether this program was built with optimisation.
    pub optimised: bool,
}

impl Machine {
    /// Looks around. What cannot be found out is `unknown`.
    #[must_use]
    pub fn look() -> Self {
        Self {
            cores: thread::available_parallelism().map_or(0, usize::from),
            processor: processor().unwrap_or_else(unknown),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_else(unknown),
            load: load().unwrap_or_else(unknown),
            commit: commit().unwrap_or_else(unknown),
            optimised: !cfg!(debug_assertions),
        }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cores,
            processor,
            kernel,
            load,
            commit,
            optimised,
        } = self;
        let build = if *optimised {
            "optimised"
        } else {
            "NOT OPTIMISED: use --release"
        };
        write!(
            formatter,
            "{cores} cores ({processor}), Linux {kernel}, load {load}, commit {commit}, {build}"
        )
    }
}

fn unknown() -> String {
    "unknown".into()
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn load() -> Option<String> {
    let text = read("/proc/loadavg")?;
    Some(text.split(' ').take(3).collect::<Vec<_>>().join(" "))
}

fn processor() -> Option<String> {
    let text = read("/proc/cpuinfo")?;
    let line = text.lines().find(|line| line.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn commit() -> Option<String> {
    let git = |arguments: &[&str]| {
        let directory = env!("CARGO_MANIFEST_DIR");
        let output = Command::new("git")
            .arg("-C")
            .arg(directory)
            .args(arguments)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let commit = git(&["rev-parse", "--short=12", "HEAD"])?;
    let changed = git(&["status", "--porcelain"]).is_some_and(|changes| !changes.is_empty());
    Some(if changed { commit + "+" } else { commit })
}
