//! A gateway as tests need it: a plain HTTP server that writes down what it is told and answers as it is told to, well
//! or badly.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use asya_sidecar::gateway::{GatewayAddress, GatewayOptions, GatewayProtocol};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use crate::common::wait_for;

/// One request as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Method and target, as in the request line.
    pub line: String,
    pub content_type: String,
    pub authorization: String,
    /// Whether its index is said to be exact.
    pub index: String,
    pub body: String,
}

/// How a request is answered.
#[derive(Debug, Clone, Copy)]
pub enum Reply {
    /// With this status and the body of a gateway.
    Status(u16),
    /// Well, and that the envelope was cancelled.
    Cancelled,
    /// Well, but only after this time.
    After(Duration),
    /// Well, with a body that comes in two parts.
    InParts,
    /// Never.
    Never,
    /// One byte at a time, without end.
    ByteByByte,
    /// With something that is no HTTP.
    Garbage,
    /// With a promise of more bytes than come, and then the end of the connection.
    TooShort,
    /// With a body without end.
    Endless,
    /// By ending the connection.
    HangUp,
    /// With another place to ask: this very one.
    Elsewhere,
}

type Behaviour = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

#[derive(Default)]
struct Book {
    requests: Mutex<Vec<Request>>,
    connections: AtomicUsize,
}

pub struct Gateway {
    pub port: u16,
    book: Arc<Book>,
    server: Option<JoinHandle<()>>,
}

impl Gateway {
    pub async fn start(behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let mut gateway = Self::absent().await;
        gateway.appear(behaviour).await;
        gateway
    }

    /// A gateway that takes every report.
    pub async fn friendly() -> Self {
        Self::start(|_| Reply::Status(200)).await
    }

    /// A port where nobody listens, yet.
    pub async fn absent() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        Self {
            port: listener.local_addr().expect("an address").port(),
            book: Arc::default(),
            server: None,
        }
    }

    pub async fn appear(&mut self, behaviour: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        let listener = TcpListener::bind(("127.0.0.1", self.port)).await.expect("binds");
        let (book, behaviour) = (Arc::clone(&self.book), Arc::new(behaviour) as Behaviour);
        self.server = Some(tokio::spawn(async move {
            let mut connections = tokio::task::JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.expect("accepts");
                book.connections.fetch_add(1, Ordering::Relaxed);
                connections.spawn(talk(stream, Arc::clone(&book), Arc::clone(&behaviour)));
            }
        }));
    }

    pub fn options(&self) -> GatewayOptions {
        self.options_with("")
    }

    /// `user` is what stands before the host.
    pub fn options_with(&self, user: &str) -> GatewayOptions {
        let address = format!("http://{user}127.0.0.1:{}/", self.port);
        let mut options = GatewayOptions::new(GatewayAddress::parse(&address).expect("a URL"));
        options.protocol = GatewayProtocol::Http;
        options.progress_rate = None;
        // Nothing may be too old because this machine is busy.
        options.progress_age = Duration::from_mins(10);
        options
    }

    /// All requests so far but the ones for its health.
    pub fn told(&self) -> Vec<Request> {
        let requests = self.book.requests.lock().expect("nobody panicked");
        let about = |request: &&Request| !request.line.contains("/health");
        requests.iter().filter(about).cloned().collect()
    }

    /// The bodies of requests with this request line.
    pub fn told_at(&self, line: &str) -> Vec<String> {
        let told = self.told().into_iter();
        told.filter(|request| request.line == line)
            .map(|request| request.body)
            .collect()
    }

    /// Waits for `count` requests and returns them.
    pub async fn wait_told(&self, count: usize) -> Vec<Request> {
        wait_for(&format!("{count} requests"), async || self.told().len() >= count).await;
        self.told()
    }

    pub fn health_checks(&self) -> usize {
        let requests = self.book.requests.lock().expect("nobody panicked");
        let is_check = |request: &&Request| request.line == "GET /health";
        requests.iter().filter(is_check).count()
    }

    pub fn connections(&self) -> usize {
        self.book.connections.load(Ordering::Relaxed)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        if let Some(server) = &self.server {
            server.abort();
        }
    }
}

async fn talk(stream: TcpStream, book: Arc<Book>, behaviour: Behaviour) {
    let mut stream = BufReader::new(stream);
    while let Some(request) = read_request(&mut stream).await {
        let reply = behaviour(&request);
        book.requests.lock().expect("nobody panicked").push(request);
        if answer(stream.get_mut(), reply).await.is_err() {
            return;
        }
    }
}

async fn read_request(stream: &mut BufReader<TcpStream>) -> Option<Request> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).expect("an HTTP head");
    let field = |name: &str| {
        let of = |line: &str| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim().to_owned())
        };
        head.lines().skip(1).find_map(of).unwrap_or_default()
    };
    let mut body = vec![0; field("content-length").parse().unwrap_or(0)];
    stream.read_exact(&mut body).await.ok()?;
    let line = head.lines().next()?.strip_suffix(" HTTP/1.1")?;
    Some(Request {
        line: line.to_owned(),
        content_type: field("content-type"),
        authorization: field("authorization"),
        index: field("x-asya-index"),
        body: String::from_utf8(body).expect("UTF-8"),
    })
}

async fn answer(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    let end = || Err(std::io::ErrorKind::ConnectionAborted.into());
    match reply {
        Reply::Status(status) => write_ok(stream, status).await,
        Reply::After(time) => {
            tokio::time::sleep(time).await;
            write_ok(stream, 200).await
        }
        Reply::Cancelled => {
            let body = r#"{"progress_percent":100,"status":"ok","cancelled":true}"#;
            let length = body.len();
            let text = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n{body}");
            stream.write_all(text.as_bytes()).await
        }
        Reply::InParts => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 8192\r\n\r\n";
            stream.write_all(head).await?;
            for _ in 0..2 {
                stream.write_all(&[b' '; 4096]).await?;
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
            Ok(())
        }
        Reply::Never => std::future::pending().await,
        Reply::ByteByByte => {
            for byte in b"HTTP/1.1 200 OK\r\nX: ".iter().chain(std::iter::repeat(&b'x')) {
                stream.write_u8(*byte).await?;
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            Ok(())
        }
        Reply::Garbage => {
            stream.write_all(b"220 mail.example ESMTP\r\n\r\n").await?;
            end()
        }
        Reply::TooShort => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n{";
            stream.write_all(head).await?;
            end()
        }
        Reply::Endless => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n";
            stream.write_all(head).await?;
            loop {
                stream.write_all(&[b'x'; 4096]).await?;
            }
        }
        Reply::HangUp => end(),
        Reply::Elsewhere => {
            let head =
                b"HTTP/1.1 307 Temporary Redirect\r\nLocation: /elsewhere\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(head).await
        }
    }
}

async fn write_ok(stream: &mut TcpStream, status: u16) -> std::io::Result<()> {
    let body = r#"{"status":"ok"}"#;
    let text = format!(
        "HTTP/1.1 {status} Whatever\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(text.as_bytes()).await
}
