//! How it ends.

use rustix::process::Signal;

use crate::setup::{Place, Stream, call, texts};

const LOCAL: (&str, &str) = ("ASYA_TRANSPORT", "local");

#[tokio::test(flavor = "multi_thread")]
async fn asked_to_end_it_tells_open_streams_to_reconnect_and_waits_for_none() {
    let place = Place::new();
    place.declare_local("first").await;
    for signal in [Signal::TERM, Signal::INT] {
        let mut gateway = place.start(&[LOCAL]);
        let url = gateway.url().await;
        let id = call(&url, "slow").await;
        let mut stream = Stream::open(&url, &id).await;
        stream.until("event: update").await;
        gateway.signal(signal);
        let text = stream.rest().await;
        assert!(text.contains("retry:"), "{text}");
        assert_eq!(gateway.ended().await, Some(0), "{}", gateway.log());
        let log = gateway.log();
        assert_eq!(
            texts(&log, "INFO").last().map(String::as_str),
            Some("drained"),
            "{log}"
        );
        // A grace that had to be used up would be told.
        assert_eq!(texts(&log, "WARN"), Vec::<String>::new(), "{log}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_it_ends_at_once_and_starts_again_on_the_same_state() {
    let place = Place::new();
    place.declare_local("first").await;
    let mut ids: Vec<String> = Vec::new();
    for _ in 0..2 {
        let mut gateway = place.start(&[LOCAL]);
        let url = gateway.url().await;
        for id in &ids {
            let envelope: serde_json::Value = crate::setup::envelope(&url, id).await;
            assert_eq!(envelope["status"], "running", "{envelope}");
        }
        ids.push(call(&url, "slow").await);
        gateway.signal(Signal::TERM);
        assert_eq!(gateway.ended().await, Some(0));
    }
}
