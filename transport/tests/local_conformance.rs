//! The embedded queue passes the suite of all transports.
#![cfg(feature = "local")]
#![expect(
    clippy::unwrap_used,
    reason = "a panic is how a test fails, also in what tests share"
)]

use asya_transport::Transport;
use asya_transport::conformance::Harness;
use asya_transport::local::{LocalOptions, LocalTransport};
use tempfile::TempDir;

struct Local {
    transport: LocalTransport,
    _directory: TempDir,
}

impl Local {
    fn open() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let transport = LocalTransport::open(directory.path(), &LocalOptions::default()).unwrap();
        Self {
            transport,
            _directory: directory,
        }
    }
}

impl Harness for Local {
    fn transport(&self) -> &dyn Transport {
        &self.transport
    }
}

asya_transport::conformance_tests!(Local::open());
