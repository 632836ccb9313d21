//! The servers of protocol v2 that must behave alike, with the same handlers in both languages.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_runtime_protocol::v2::{Advert, Control, ControlEvent, Welcome, WorkerId, WorkerLink, WorkerState};
use asya_runtime_protocol::{
    HandlerError, HandlerItem, RequestEnvelope, RuntimeClient, ServerOptions, read_ready, serve, wait_ready,
};
use tempfile::TempDir;
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use super::{LIMIT, bounded};

const HANDLERS: &str = r#"
import asyncio, os

async def work(payload):
    what = payload.get("do") if isinstance(payload, dict) else None
    if what == "fail":
        raise LookupError("missing thing")
    if what == "many":
        return [payload, payload]
    if what == "hold":
        name = os.path.join(os.environ["TEST_DIR"], payload["name"])
        open(name + ".started", "w").close()
        try:
            while not os.path.exists(name + ".release"):
                await asyncio.sleep(0.005)
        except asyncio.CancelledError:
            open(name + ".cancelled", "w").close()
            raise
    return payload
"#;

/// What the tests ask of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Native,
    Python,
}

/// Settings that both understand.
#[derive(Clone, Copy)]
pub(crate) struct Settings {
    pub(crate) concurrency: usize,
    pub(crate) max_message_size: usize,
    pub(crate) shutdown_grace: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            concurrency: 1,
            max_message_size: 16 * 1024 * 1024,
            shutdown_grace: Duration::ZERO,
        }
    }
}

/// A server with the handler `work`; it ends with the value.
pub(crate) struct Server {
    pub(crate) dir: TempDir,
    pub(crate) advert: Advert,
    end: End,
}

enum End {
    Native(Arc<Notify>, JoinHandle<()>),
    Python(Child),
}

impl Drop for Server {
    fn drop(&mut self) {
        match &mut self.end {
            End::Native(_, task) => task.abort(),
            // It may have ended by itself; what counts is that it is gone.
            End::Python(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
        }
    }
}

impl Server {
    pub(crate) async fn start(kind: Kind, settings: Settings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let end = match kind {
            Kind::Native => native(dir.path(), settings),
            Kind::Python => python(dir.path(), settings),
        };
        let socket = dir.path().join("asya-runtime.sock");
        wait_ready(dir.path(), &socket, LIMIT).await.unwrap();
        let ready = read_ready(dir.path()).unwrap().unwrap();
        let advert = ready.v2.expect("the server offers v2");
        Self { dir, advert, end }
    }

    /// Asks it to end.
    pub(crate) fn ask_to_end(&self) {
        match &self.end {
            End::Native(stop, _) => stop.notify_one(),
            End::Python(child) => {
                let pid = i32::try_from(child.id()).unwrap();
                let killed = Command::new("kill").args(["-TERM", &pid.to_string()]).status();
                assert!(killed.unwrap().success());
            }
        }
    }

    /// Waits until it has ended.
    pub(crate) async fn ended(&mut self) {
        match &mut self.end {
            End::Native(_, task) => bounded(task).await.unwrap(),
            End::Python(child) => {
                until("the runtime ends", || child.try_wait().unwrap().is_some()).await;
                assert!(child.wait().unwrap().success());
            }
        }
    }

    pub(crate) fn v1(&self) -> RuntimeClient {
        RuntimeClient::new(self.dir.path().join("asya-runtime.sock"), 64 * 1024 * 1024)
    }

    /// A control connection, and the worker that is ready.
    pub(crate) async fn control(&self) -> (Control, Welcome, WorkerId) {
        let (mut control, welcome) = bounded(Control::connect(&self.advert, LIMIT)).await.unwrap();
        let id = ready(&mut control).await;
        (control, welcome, id)
    }

    pub(crate) async fn link(&self, id: WorkerId) -> WorkerLink {
        let link = WorkerLink::connect(&self.advert, id, 64 * 1024 * 1024, LIMIT);
        bounded(link).await.unwrap()
    }

    /// Waits until the held request `name` has been started.
    pub(crate) async fn started(&self, name: &str) {
        let file = self.file(name, "started");
        until("the request is started", || file.exists()).await;
    }

    pub(crate) fn release(&self, name: &str) {
        std::fs::write(self.file(name, "release"), "").unwrap();
    }

    pub(crate) fn file(&self, name: &str, what: &str) -> PathBuf {
        self.dir.path().join(format!("{name}.{what}"))
    }
}

/// The next worker that is ready.
pub(crate) async fn ready(control: &mut Control) -> WorkerId {
    loop {
        if let ControlEvent::Worker(id, WorkerState::Ready { .. }) = bounded(control.next()).await.unwrap() {
            return id;
        }
    }
}

/// Waits until `condition` holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < end, "waited too long until {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn native(dir: &Path, settings: Settings) -> End {
    let options = ServerOptions {
        concurrency: settings.concurrency.try_into().unwrap(),
        max_frame: settings.max_message_size,
        shutdown_grace: settings.shutdown_grace,
        ..ServerOptions::new(dir)
    };
    let files = dir.to_owned();
    let handler = move |request: RequestEnvelope| work(files.clone(), request);
    let stop = Arc::new(Notify::new());
    let stopped = Arc::clone(&stop);
    let server = serve(options, handler, async move { stopped.notified().await });
    End::Native(stop, tokio::spawn(async { server.await.unwrap() }))
}

async fn work(dir: PathBuf, request: RequestEnvelope) -> Result<Vec<HandlerItem>, HandlerError> {
    struct Cancelled(Option<PathBuf>);
    impl Drop for Cancelled {
        fn drop(&mut self) {
            if let Some(file) = self.0.take() {
                std::fs::write(file, "").unwrap();
            }
        }
    }
    let payload: serde_json::Value = serde_json::from_slice(request.payload().as_bytes()).unwrap();
    let item = HandlerItem::Payload(request.payload());
    match payload["do"].as_str() {
        Some("fail") => Err(HandlerError::new("missing thing").exception("LookupError")),
        Some("many") => Ok(vec![item.clone(), item]),
        Some("hold") => {
            let name = dir.join(payload["name"].as_str().unwrap());
            std::fs::write(name.with_extension("started"), "").unwrap();
            let mut cancelled = Cancelled(Some(name.with_extension("cancelled")));
            until("the request is released", || {
                name.with_extension("release").exists()
            })
            .await;
            cancelled.0 = None;
            Ok(vec![item])
        }
        _ => Ok(vec![item]),
    }
}

fn python(dir: &Path, settings: Settings) -> End {
    let runtime = Path::new(env!("CARGO_MANIFEST_DIR")).join("python/asya_runtime.py");
    let handlers = dir.join("code");
    std::fs::create_dir(&handlers).unwrap();
    std::fs::write(handlers.join("handlers.py"), HANDLERS).unwrap();
    let child = Command::new(std::env::var_os("PYTHON").unwrap_or_else(|| "python3".into()))
        .arg(runtime)
        .env("ASYA_HANDLER", "handlers.work")
        .env("ASYA_SOCKET_DIR", dir)
        .env("ASYA_CONCURRENCY", settings.concurrency.to_string())
        .env("ASYA_MAX_MESSAGE_SIZE", settings.max_message_size.to_string())
        .env(
            "ASYA_SHUTDOWN_GRACE",
            format!("{}s", settings.shutdown_grace.as_secs()),
        )
        .env("PYTHONPATH", &handlers)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("TEST_DIR", dir)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    End::Python(child)
}
