//! The programs under test.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The `asya` of this source tree, in the profile of these tests. Built at the first call; nothing to do when fresh.
pub fn asya() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("asya", "asya"))
}

/// The `asya-sidecar` of this source tree, built like [`asya`].
pub fn sidecar() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("asya-sidecar", "asya-sidecar"))
}

/// The `asya-operator` of this source tree, built like [`asya`].
pub fn operator() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("asya-operator", "asya-operator"))
}

/// The runtime `native-echo` of this crate, built like [`asya`].
pub fn native_echo() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| built("asya-tests", "native-echo"))
}

/// The program `name` of `package`.
fn built(package: &str, name: &str) -> PathBuf {
    // target/<profile>/deps/e2e-<hash>
    let test = std::env::current_exe().expect("a test has a path");
    let profile = test
        .ancestors()
        .find(|directory| directory.ends_with("debug") || directory.ends_with("release"))
        .expect("tests lie below target/<profile>");
    let target = profile.parent().expect("profiles lie in the target directory");
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo
        .args(["build", "--quiet", "--bin", name, "--target-dir"])
        .arg(target)
        .current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/.."));
    if profile.ends_with("release") {
        // As it is shipped: nothing but what the package itself asks of its dependencies.
        cargo.args(["--package", package, "--release"]);
    } else {
        // The same selection of features as `make test` builds with, or every dependency is built once more.
        cargo.args(["--workspace", "--exclude", "asya-benches"]);
        if let Some(test) = integration_test(&test) {
            cargo.args(["--test", test]);
        }
    }
    let status = cargo.status().expect("cargo can be started");
    assert!(status.success(), "{name} can be built, see above");
    profile.join(name)
}

/// The name of the test target behind an executable; `None` for a library's own tests.
fn integration_test(executable: &Path) -> Option<&str> {
    let (name, _hash) = executable.file_stem()?.to_str()?.rsplit_once('-')?;
    (!name.starts_with("asya")).then_some(name)
}

/// The Python behind `python3`. A version manager's shim costs more time than most handlers here.
pub fn real_python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let output = Command::new("python3")
            .args(["-c", "import sys; print(sys.executable)"])
            .output()
            .expect("python3 is installed");
        String::from_utf8(output.stdout)
            .expect("its path is text")
            .trim()
            .to_owned()
    })
}
