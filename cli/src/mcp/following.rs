//! Following an envelope by its events, over broken connections, until its last one.

use std::time::Duration;

use futures::StreamExt as _;
use serde::Deserialize;

use super::client::Client;
use super::exit::McpError;

/// Attempts to connect again without an event in between; then the envelope itself is asked for.
const ATTEMPTS: u32 = 6;

/// Pause before the first further attempt; each is twice the one before.
const FIRST_PAUSE: Duration = Duration::from_millis(200);

/// What an event says, as far as it is shown.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Event {
    pub(super) status: String,
    pub(super) progress_percent: Option<f64>,
    pub(super) actor: Option<String>,
    pub(super) actors: Option<Vec<String>>,
    pub(super) current_actor_idx: Option<usize>,
    pub(super) envelope_state: Option<String>,
    pub(super) message: Option<String>,
}

impl Event {
    /// The actor, also where only its index is told (original gateways).
    pub(super) fn actor(&self) -> Option<&str> {
        let by_index = || {
            self.actors
                .as_ref()?
                .get(self.current_actor_idx?)
                .map(String::as_str)
        };
        self.actor.as_deref().or_else(by_index)
    }

    fn is_final(&self) -> bool {
        matches!(self.status.as_str(), "succeeded" | "failed")
    }
}

/// The last event.
#[derive(Debug, PartialEq)]
pub(super) struct Last {
    /// JSON text: the event, or the envelope where the event never came.
    pub(super) text: String,
    /// Whether it ended well.
    pub(super) succeeded: bool,
}

/// What is met while an envelope is followed.
pub(super) enum Seen<'a> {
    /// An event, and its JSON text.
    Event(&'a Event, &'a str),
    /// Nobody answers; it is tried again.
    Lost,
}

/// Calls `seen` with what is met, until the envelope is final.
pub(super) async fn follow(
    client: &Client,
    id: &str,
    mut seen: impl FnMut(Seen<'_>),
) -> Result<Last, McpError> {
    let mut last_id: Option<String> = None;
    let mut failures = 0;
    loop {
        let progress_before = last_id.clone();
        match listen(client, id, &mut last_id, &mut seen).await {
            Ok(Some(last)) => return Ok(last),
            // What the gateway refuses it will refuse again; who is away may come back.
            Err(error @ McpError::Request { answer: Some(_), .. }) => return Err(error),
            Err(error) if failures >= ATTEMPTS => return Err(error),
            // A first one may be a restart, which is over at once.
            Err(_) if failures == 1 => seen(Seen::Lost),
            Ok(None) | Err(_) => {}
        }
        if last_id != progress_before {
            failures = 0;
        }
        // The stream may have ended because there was nothing more to tell.
        if let Ok(text) = client.envelope(id).await {
            let envelope: Event = parse(&text)?;
            if envelope.is_final() {
                let succeeded = envelope.status == "succeeded";
                return Ok(Last { text, succeeded });
            }
        }
        tokio::time::sleep(FIRST_PAUSE * 2_u32.pow(failures.min(ATTEMPTS))).await;
        failures += 1;
    }
}

/// One connection: the last event, or `None` when the stream ended before it.
async fn listen(
    client: &Client,
    id: &str,
    last_id: &mut Option<String>,
    seen: &mut impl FnMut(Seen<'_>),
) -> Result<Option<Last>, McpError> {
    let mut events = client.stream(id, last_id.as_deref()).await?;
    while let Some(event) = events.next().await {
        // A cut connection, most likely: what follows is asked for again.
        let Ok(event) = event else { return Ok(None) };
        if event.id.is_some() {
            *last_id = event.id;
        }
        let Some(text) = event.data else { continue };
        let told: Event = parse(&text)?;
        seen(Seen::Event(&told, &text));
        if told.is_final() && event.event.as_deref() != Some("partial") {
            let succeeded = told.status == "succeeded";
            return Ok(Some(Last { text, succeeded }));
        }
    }
    Ok(None)
}

fn parse(text: &str) -> Result<Event, McpError> {
    serde_json::from_str(text).map_err(|error| McpError::NotUnderstood(format!("{error} in {text}")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_gateway_that_is_away_is_told_while_it_is_tried_again() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let url = format!("http://{}", listener.local_addr().expect("its address"));
        drop(listener);
        let client = Client::new(&url, None).expect("an address");
        let (told, mut lost) = tokio::sync::mpsc::unbounded_channel();
        let following = follow(&client, "e", |seen| {
            assert!(matches!(seen, Seen::Lost));
            told.send(()).expect("somebody listens");
        });
        tokio::select! {
            ended = following => panic!("it ended before it was told: {ended:?}"),
            lost = lost.recv() => assert_eq!(lost, Some(())),
        }
    }
}
