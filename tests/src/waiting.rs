//! Waiting for conditions.

use std::time::{Duration, Instant};

/// Longest time for anything that these tests wait for. Far above what is needed, since machines may be busy.
pub const LIMIT: Duration = Duration::from_secs(90);

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(20);

/// Waits until `look` gives something; fails the test after [`LIMIT`], naming `what` was waited for.
pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < LIMIT, "waited in vain for {what}");
        std::thread::sleep(INTERVAL);
    }
}
