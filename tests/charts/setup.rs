//! Helm, the charts, and a cluster that knows our custom resource.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

use asya_tests::kube::{Cluster, Tools};
use serde_json::Value;

/// All charts.
pub(crate) const CHARTS: [&str; 4] = ["asya-operator", "asya-gateway", "asya-crew", "asya-actor"];

/// What a helm that was built without a version would otherwise take for the cluster's.
const KUBE_VERSION: &str = "--kube-version=1.34.0";

/// The root of the repository.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("..")
        .canonicalize()
        .unwrap()
}

/// The folder of a chart.
pub(crate) fn chart(name: &str) -> String {
    root().join("charts").join(name).to_string_lossy().into_owned()
}

/// A file of values beside these tests, with its word `NAMESPACE` replaced.
pub(crate) struct Values(tempfile::NamedTempFile);

impl Values {
    pub(crate) fn read(name: &str, namespace: &str) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("charts/values/{name}.yaml"));
        Self::of(
            &std::fs::read_to_string(path)
                .unwrap()
                .replace("NAMESPACE", namespace),
        )
    }

    pub(crate) fn of(text: &str) -> Self {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        Self(file)
    }

    pub(crate) fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

/// What a command printed.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) success: bool,
    pub(crate) out: String,
    pub(crate) error: String,
}

impl From<Output> for Said {
    fn from(output: Output) -> Self {
        Self {
            success: output.status.success(),
            out: String::from_utf8_lossy(&output.stdout).into_owned(),
            error: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

impl Said {
    /// What it printed; fails the test unless it succeeded.
    pub(crate) fn unwrap(self) -> String {
        assert!(self.success, "{}", self.error);
        self.out
    }
}

/// Runs helm without a cluster; `None` where there is no helm.
pub(crate) fn helm(arguments: &[&str]) -> Option<Said> {
    let helm = Tools::get().need("helm")?;
    let home = tempfile::tempdir().unwrap();
    let output = Command::new(helm)
        .args(arguments)
        .env("HOME", home.path())
        .env("KUBECONFIG", home.path().join("none"))
        .output()
        .unwrap();
    Some(output.into())
}

/// `helm template` of a chart, in the namespace `asya-system`.
pub(crate) fn template(name: &str, arguments: &[&str]) -> Option<Said> {
    let folder = chart(name);
    let mut all = vec!["template", name, &folder, "--namespace=asya-system", KUBE_VERSION];
    all.extend(arguments);
    helm(&all)
}

/// A cluster with the custom resource definition of the operator's chart, shared by all tests that share well.
pub(crate) fn prepared() -> Option<&'static Cluster> {
    static PREPARED: OnceLock<()> = OnceLock::new();
    Tools::get().need("helm")?;
    let cluster = Cluster::shared()?;
    PREPARED.get_or_init(|| {
        let definition = format!("{}/crds/asya.sh_asyncactors.yaml", chart("asya-operator"));
        cluster.kubectl(&["apply", "--server-side", "--filename", &definition]);
        cluster.kubectl(&[
            "wait",
            "--for=condition=Established",
            "crd/asyncactors.asya.sh",
            "--timeout=60s",
        ]);
    });
    Some(cluster)
}

/// Runs helm as the administrator of a cluster.
pub(crate) fn helm_in(cluster: &Cluster, arguments: &[&str]) -> Said {
    cluster.run_tool("helm", arguments, "").into()
}

/// Installs a chart, or upgrades its release, without hooks; gives the notes.
pub(crate) fn install(
    cluster: &Cluster,
    release: &str,
    name: &str,
    namespace: &str,
    arguments: &[&str],
) -> String {
    let folder = chart(name);
    let mut all = vec![
        "upgrade",
        "--install",
        "--no-hooks",
        "--namespace",
        namespace,
        release,
        &folder,
    ];
    all.extend(arguments);
    helm_in(cluster, &all).unwrap()
}

/// An object of the cluster.
pub(crate) fn get(cluster: &Cluster, namespace: &str, what: &str) -> Value {
    let text = cluster.kubectl(&["get", "--namespace", namespace, what, "--output=json"]);
    serde_json::from_str(&text).unwrap()
}

/// The objects of one template as the API server would store them.
pub(crate) fn stored(cluster: &Cluster, manifest: &str) -> Vec<Value> {
    let text = cluster.kubectl_with(
        &["apply", "--dry-run=server", "--output=json", "--filename=-"],
        manifest,
    );
    let value: Value = serde_json::from_str(&text).unwrap();
    match value["items"].as_array() {
        Some(items) => items.clone(),
        None => vec![value],
    }
}
