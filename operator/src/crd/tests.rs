//! The definition and what is committed of it.

use std::path::{Path, PathBuf};

use super::*;

fn committed(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(file)
}

/// Compares a committed file with what is generated; writes it anew when `ASYA_UPDATE` is set.
fn is_current(file: &str, generated: &str) {
    let path = committed(file);
    if std::env::var_os("ASYA_UPDATE").is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, generated).unwrap();
    }
    let written = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        written == generated,
        "{file} is out of date: run `ASYA_UPDATE=1 cargo test -p asya-operator --lib crd`"
    );
}

#[test]
fn the_committed_definition_is_the_generated_one() {
    is_current(
        "charts/asya-operator/crds/asya.sh_asyncactors.yaml",
        &crate::yaml::document(&definition()).unwrap(),
    );
}
