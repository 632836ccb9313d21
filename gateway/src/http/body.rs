//! Reading a request's body: whole, within a size and a time.

use std::time::Duration;

use axum::body::Body;
use axum::http::StatusCode;
use bytes::{Bytes, BytesMut};
use futures::StreamExt as _;
use hyper::body::Body as _;

use super::refusal::Refusal;

/// Reads a body of at most `limit` bytes that comes within `time`. One that ends early is refused like any that cannot
/// be read: nothing of it counts.
pub(super) async fn read(body: Body, limit: usize, time: Duration) -> Result<Bytes, Refusal> {
    let announced = body.size_hint().lower();
    if announced > limit as u64 {
        return Err(too_large(limit));
    }
    tokio::time::timeout(time, collect(body, limit))
        .await
        .unwrap_or_else(|_| {
            let seconds = time.as_secs_f64();
            Err(Refusal::new(
                StatusCode::REQUEST_TIMEOUT,
                format!("Request body not received within {seconds} seconds"),
            ))
        })
}

async fn collect(body: Body, limit: usize) -> Result<Bytes, Refusal> {
    let mut chunks = body.into_data_stream();
    let mut whole = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|error| Refusal::bad("Invalid request body").because(error.to_string()))?;
        if whole.len() + chunk.len() > limit {
            return Err(too_large(limit));
        }
        whole.extend_from_slice(&chunk);
    }
    Ok(whole.freeze())
}

fn too_large(limit: usize) -> Refusal {
    Refusal::new(
        StatusCode::PAYLOAD_TOO_LARGE,
        format!("Request body too large: at most {limit} bytes"),
    )
}
