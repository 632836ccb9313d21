//! What a gateway that is dead, slow or lying costs a hop, beside the same sidecar without a gateway.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Result;

use super::ENOUGH;
use super::field::{Field, Runtime, Shape};
use crate::broker::Kind;
use crate::figures::Row;

/// The name of this section.
pub const SECTION: &str = "gateway";

/// How a gateway misbehaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Gateway {
    /// Nobody listens.
    Dead,
    /// Takes every request, and answers none.
    Slow,
    /// Answers at once: success, with a body that is none, and now and then something that is not even HTTP.
    Lying,
}

const ALL: [(Gateway, &str); 3] = [
    (Gateway::Dead, "native echo, gateway dead"),
    (Gateway::Slow, "native echo, gateway slow"),
    (Gateway::Lying, "native echo, gateway lying"),
];

/// The rows of this section.
pub async fn measure(field: &Field<'_>) -> Result<Vec<Row>> {
    let (kind, prefetch) = (Kind::Classic, ENOUGH);
    let stretch = field.stretch(Shape { kind, prefetch }).await?;
    let urls = [
        Gateway::Dead.start()?,
        Gateway::Slow.start()?,
        Gateway::Lying.start()?,
    ];
    let mut without = Vec::new();
    let mut with = [Vec::new(), Vec::new(), Vec::new()];
    for round in 0..field.rounds() {
        field.say(&format!("gateway: round {}", round + 1));
        let mut turns: Vec<_> = urls.iter().zip(&mut with).collect();
        if round % 2 == 1 {
            turns.reverse();
        }
        // In the middle of the others, so that a drift of the machine weighs on all alike.
        for (number, (url, rates)) in turns.into_iter().enumerate() {
            if number == 1 {
                without.push(field.sidecar(kind, None, Runtime::Native, &[], stretch).await?);
            }
            let settings = [("ASYA_GATEWAY_URL", url.as_str())];
            rates.push(
                field
                    .sidecar(kind, None, Runtime::Native, &settings, stretch)
                    .await?,
            );
        }
    }
    let row = |(rates, (_, name)): (&Vec<f64>, &(Gateway, &str))| {
        Row::rates(SECTION, *name, rates, ("the same without a gateway", &without)).aim(0.97)
    };
    Ok(with.iter().zip(&ALL).map(row).collect())
}

impl Gateway {
    /// Starts one that lasts as long as this process; returns its address.
    fn start(self) -> Result<String> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let url = format!("http://{}", listener.local_addr()?);
        if self == Self::Dead {
            // The port is free again, and refuses connections.
            return Ok(url);
        }
        std::thread::spawn(move || {
            let mut open = Vec::new();
            for (number, stream) in listener.incoming().enumerate() {
                match (stream, self) {
                    (Ok(stream), Self::Slow) => open.push(stream),
                    (Ok(stream), _) => drop(std::thread::spawn(move || lie(stream, number))),
                    (Err(_), _) => std::thread::sleep(Duration::from_millis(10)),
                }
            }
        });
        Ok(url)
    }
}

/// Answers each request of a connection until the peer closes it.
fn lie(mut stream: TcpStream, number: usize) {
    let answer: &[u8] = match number % 4 {
        0 => b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 9\r\n\r\n{\"ok\": no",
        1 => b"HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n<html>",
        2 => b"HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n",
        _ => b"220 mail.example ESMTP\r\n",
    };
    let mut request = vec![0; 64 * 1024];
    // Whether the peer is content is its affair.
    while matches!(stream.read(&mut request), Ok(1..)) && stream.write_all(answer).is_ok() {}
}
