//! A TCP proxy that misbehaves on demand, in front of a real server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What happens to bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    /// They are passed on.
    Pass,
    /// They are swallowed in both directions, and connections stay open: a half-open network.
    Swallow,
}

/// Listens on loopback for as long as it lives.
#[derive(Debug)]
pub struct Proxy {
    /// Where it listens.
    pub port: u16,
    mode: watch::Sender<Mode>,
    cuts: Arc<watch::Sender<u64>>,
    accepted: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Proxy {
    /// Starts in front of the server on `port`.
    pub async fn before(port: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let own_port = listener.local_addr().unwrap().port();
        let (mode, modes) = watch::channel(Mode::Pass);
        let cuts = Arc::new(watch::channel(0).0);
        let cut = Arc::clone(&cuts);
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&accepted);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let server = SocketAddr::from(([127, 0, 0, 1], port));
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(connection(client, server, modes.clone(), cut.subscribe()));
            }
        });
        Self {
            port: own_port,
            mode,
            cuts,
            accepted,
            _tasks: tasks,
        }
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Ends all connections; new ones are accepted.
    pub fn cut(&self) {
        self.cuts.send_modify(|cuts| *cuts += 1);
    }

    /// Swallows everything from now on, also on new connections.
    pub fn swallow(&self) {
        self.mode.send_replace(Mode::Swallow);
    }

    /// Passes on what comes from now on. What was swallowed stays so: connections of that time are cut.
    pub fn heal(&self) {
        self.mode.send_replace(Mode::Pass);
        self.cut();
    }
}

async fn connection(
    client: TcpStream,
    server: SocketAddr,
    modes: watch::Receiver<Mode>,
    mut cuts: watch::Receiver<u64>,
) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    // It must not add delays of its own. A socket that cannot be told so is broken, which shows when it is used.
    let _told = (client.set_nodelay(true), server.set_nodelay(true));
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    tokio::select! {
        () = copy(from_client, to_server, modes.clone()) => {}
        () = copy(from_server, to_client, modes) => {}
        _ = cuts.changed() => {}
    }
}

async fn copy(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, modes: watch::Receiver<Mode>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count @ 1..) = from.read(&mut buffer).await {
        if *modes.borrow() == Mode::Pass && to.write_all(&buffer[..count]).await.is_err() {
            return;
        }
    }
}
