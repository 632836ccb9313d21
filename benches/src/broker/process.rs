//! What a process uses, as the kernel counts it.

use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result};

/// Resident memory in KiB.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    /// Now.
    pub now: u64,
    /// The most since the process began.
    pub peak: u64,
}

impl Usage {
    /// Of process `id`.
    pub fn of(id: u32) -> Result<Self> {
        let status = fs::read_to_string(format!("/proc/{id}/status"))?;
        Ok(Self {
            now: field(&status, "VmRSS:")?,
            peak: field(&status, "VmHWM:")?,
        })
    }
}

/// What the threads of a process have done so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Processor {
    /// Time on a core.
    pub time: Duration,
    /// Times that a thread went to sleep, which is how often one was woken.
    pub sleeps: u64,
}

impl Processor {
    /// Of process `id`, without threads that have ended.
    pub fn of(id: u32) -> Result<Self> {
        let mut all = Self::default();
        for thread in fs::read_dir(format!("/proc/{id}/task"))? {
            let thread = thread?.path();
            // A thread may end between the two looks.
            let (Ok(schedule), Ok(status)) = (
                fs::read_to_string(thread.join("schedstat")),
                fs::read_to_string(thread.join("status")),
            ) else {
                continue;
            };
            let time = schedule.split(' ').next().unwrap_or_default();
            all.time += Duration::from_nanos(time.parse().context("no time in schedstat")?);
            all.sleeps += field(&status, "voluntary_ctxt_switches:")?;
        }
        Ok(all)
    }

    /// What was added since `earlier`.
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self {
            time: self.time.saturating_sub(earlier.time),
            sleeps: self.sleeps.saturating_sub(earlier.sleeps),
        }
    }
}

/// A number in the text of `/proc/<id>/status`.
fn field(status: &str, name: &str) -> Result<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name));
    let value = line.with_context(|| format!("no {name} in the status of a process"))?;
    Ok(value.trim().trim_end_matches(" kB").parse()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_very_process_uses_memory_and_time() {
        let id = std::process::id();
        let usage = Usage::of(id).unwrap();
        assert!(usage.now > 0 && usage.peak >= usage.now, "{usage:?}");
        let before = Processor::of(id).unwrap();
        let mut sum = 0_u64;
        for number in 0..3_000_000_u64 {
            sum = std::hint::black_box(sum.wrapping_add(number));
        }
        assert!(Processor::of(id).unwrap().since(before).time > Duration::ZERO);
    }
}
