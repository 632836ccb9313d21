//! Where the two sides of a comparison run.

use std::fmt;
use std::thread;

use anyhow::{Context as _, Result, anyhow};
use rustix::thread::{CpuSet, sched_setaffinity};

/// A core each, so that the scheduler's choice is out of the picture, or as it is in real life.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Placement {
    /// Client on the first core, server on the second.
    Pinned,
    /// Wherever the scheduler puts them.
    Free,
}

impl Placement {
    /// Those that this machine has cores for.
    pub(super) fn all() -> Result<Vec<Self>> {
        let several = thread::available_parallelism()?.get() > 1;
        Ok(several
            .then_some(Self::Pinned)
            .into_iter()
            .chain([Self::Free])
            .collect())
    }

    /// The core that a server is pinned to.
    pub(super) const fn server(self) -> Option<usize> {
        match self {
            Self::Pinned => Some(1),
            Self::Free => None,
        }
    }

    /// Runs `measure` as the client, on a thread of its own because a pinned thread stays so.
    pub(super) fn run<T: Send>(self, measure: impl AsyncFnOnce() -> Result<T> + Send) -> Result<T> {
        let client = || {
            if self == Self::Pinned {
                let mut first = CpuSet::new();
                first.set(0);
                sched_setaffinity(None, &first).context("cannot pin the client to the first core")?;
            }
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()?;
            runtime.block_on(measure())
        };
        let measured = thread::scope(|scope| scope.spawn(client).join());
        measured.map_err(|_| anyhow!("the measuring thread panicked"))?
    }
}

impl fmt::Display for Placement {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Pinned => "a core each",
            Self::Free => "not pinned",
        })
    }
}
