//! One actor as a pod runs it: a sidecar and a runtime that share a directory with a socket.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use super::program::{Program, Recipe};
use crate::binary::{native_echo, real_python, sidecar};

/// The runtime of Python handlers.
const RUNTIME: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../runtime-protocol/python/asya_runtime.py"
);

/// What runs in a pod.
#[derive(Debug, Clone)]
pub struct Spec {
    actor: String,
    handler: Handler,
    sidecar: Vec<(String, OsString)>,
    runtime: Vec<(String, OsString)>,
}

#[derive(Debug, Clone)]
enum Handler {
    /// Answers each payload with itself.
    Native,
    /// The function `run` of this module.
    Python(String),
}

impl Spec {
    /// An actor written in Rust that answers each payload with itself.
    pub fn native(actor: &str) -> Self {
        Self::new(actor, Handler::Native)
    }

    /// An actor whose handler is the function `run(payload)` of the given Python module. It works in the directory of
    /// the pod.
    pub fn python(actor: &str, module: &str) -> Self {
        Self::new(actor, Handler::Python(module.into()))
    }

    fn new(actor: &str, handler: Handler) -> Self {
        Self {
            actor: actor.into(),
            handler,
            sidecar: Vec::new(),
            runtime: Vec::new(),
        }
    }

    /// A variable for the sidecar.
    pub fn sidecar_env(mut self, name: &str, value: &str) -> Self {
        self.sidecar.push((name.into(), value.into()));
        self
    }

    /// A variable for the runtime.
    pub fn runtime_env(mut self, name: &str, value: &str) -> Self {
        self.runtime.push((name.into(), value.into()));
        self
    }
}

/// A sidecar and a runtime at work.
#[derive(Debug)]
pub struct Pod {
    /// The actor's name.
    pub actor: String,
    /// Its sidecar.
    pub sidecar: Program,
    /// Its runtime.
    pub runtime: Program,
    directory: PathBuf,
}

impl Pod {
    /// Starts both programs in the new directory `directory`; `common` is the environment of all sidecars.
    pub(super) fn start(spec: &Spec, directory: &Path, common: &[(String, OsString)]) -> Self {
        fs::create_dir(directory).unwrap();
        let socket_dir = || ("ASYA_SOCKET_DIR".to_owned(), directory.as_os_str().to_owned());
        let mut environment = common.to_vec();
        environment.push(("ASYA_ACTOR_NAME".into(), spec.actor.as_str().into()));
        environment.push(socket_dir());
        // Later ones win: what the test asks for.
        environment.extend(spec.sidecar.iter().cloned());
        let sidecar = Recipe {
            name: format!("sidecar-{}", spec.actor),
            executable: sidecar().to_owned(),
            arguments: Vec::new(),
            environment,
            directory: directory.to_owned(),
        };
        let mut runtime = Recipe {
            name: format!("runtime-{}", spec.actor),
            executable: native_echo().to_owned(),
            arguments: Vec::new(),
            environment: vec![socket_dir()],
            directory: directory.to_owned(),
        };
        if let Handler::Python(module) = &spec.handler {
            fs::write(directory.join("handler.py"), module).unwrap();
            runtime.executable = real_python().into();
            runtime.arguments = vec![RUNTIME.into()];
            let set = [
                ("ASYA_HANDLER", "handler.run"),
                ("PYTHONPATH", &directory.to_string_lossy()),
                ("PYTHONDONTWRITEBYTECODE", "1"),
                ("ASYA_LOG_LEVEL", "WARNING"),
            ];
            let set = set.map(|(name, value)| (name.to_owned(), OsString::from(value)));
            runtime.environment.extend(set);
        }
        runtime.environment.extend(spec.runtime.iter().cloned());
        Self {
            actor: spec.actor.clone(),
            runtime: Program::start(runtime),
            sidecar: Program::start(sidecar),
            directory: directory.to_owned(),
        }
    }

    /// A file in its directory.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.join(name)
    }

    /// The lines that a handler has written to the file `name`; none when there is no such file.
    pub fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.path(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }
}
