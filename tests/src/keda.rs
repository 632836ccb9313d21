//! KEDA's own custom resource definitions, for API servers of tests ([`crate::kube`]). There is no KEDA behind them:
//! what it would write is played.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::kube::Cluster;

/// The folder with the definitions, for `kubectl apply --server-side --filename`; `None` after saying on standard error
/// that a test is skipped. (By the server, because the largest is too large for an annotation of the client.)
///
/// # Panics
/// If they are missing and `ASYA_KUBE_REQUIRED` is `1`.
pub fn definitions() -> Option<&'static Path> {
    static SKIPPED: AtomicU32 = AtomicU32::new(0);
    match find() {
        Ok(folder) => Some(folder),
        Err(reason) => {
            let required = std::env::var("ASYA_KUBE_REQUIRED").is_ok_and(|value| value == "1");
            assert!(!required, "KEDA's definitions are needed and missing: {reason}");
            let count = SKIPPED.fetch_add(1, Ordering::Relaxed) + 1;
            // Not by a macro: what those write in a test that passes is shown to nobody.
            let said =
                format!("SKIPPED (test {count} of this binary): KEDA's definitions are missing: {reason}\n");
            std::io::stderr()
                .write_all(said.as_bytes())
                .expect("standard error takes a line");
            None
        }
    }
}

fn find() -> &'static Result<PathBuf, String> {
    static FOLDER: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("kube/keda/crds.sh");
        let output = Command::new(script)
            .stderr(Stdio::inherit())
            .output()
            .expect("tests/kube/keda/crds.sh can be run");
        assert!(output.status.success(), "tests/kube/keda/crds.sh failed");
        let line = String::from_utf8_lossy(&output.stdout).trim_end().to_owned();
        match line.strip_prefix("missing ") {
            Some(reason) => Err(reason.to_owned()),
            None => Ok(line.into()),
        }
    })
}

/// Installs the definitions and waits until they are served; `false` after saying that a test is skipped.
pub fn install(cluster: &Cluster) -> bool {
    let Some(folder) = definitions() else { return false };
    cluster.define(&folder.to_string_lossy());
    true
}
