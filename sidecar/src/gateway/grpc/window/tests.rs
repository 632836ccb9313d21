use std::time::Duration;

use bytes::Bytes;
use futures::FutureExt as _;
use proptest::prelude::*;

use asya_proto::status::v1::ReportRefusalReason;
use asya_runtime_protocol::RawJson;
use tokio::sync::oneshot;

use super::*;
use crate::gateway::bodies::Detail;
use crate::gateway::note::Fact;
use crate::report::FinalReport;
use crate::report::FinalStatus;

fn window() -> Window {
    Window::new(CancellationToken::new())
}

fn soon() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

fn note(id: &str, fact: Fact) -> Parcel {
    Parcel::Note(Box::new(Note {
        id: id.into(),
        attempt: 1,
        step: 0,
        actors: ["a".to_owned()].into(),
        index: 0,
        at: chrono::DateTime::UNIX_EPOCH,
        fact,
    }))
}

fn received(id: &str) -> Parcel {
    note(id, Fact::Received { bytes: 1 })
}

fn child(id: &str) -> Parcel {
    let parent_id = "p".into();
    note(id, Fact::Child { parent_id })
}

fn last(id: &str, result: &str) -> (Parcel, oneshot::Receiver<Fate>) {
    let (heard, fate) = oneshot::channel();
    let report = FinalReport {
        actor: "happy-end".into(),
        id: id.into(),
        status: FinalStatus::Succeeded,
        result: RawJson::parse(Bytes::copy_from_slice(result.as_bytes())).ok(),
        error: None,
        error_details: None,
        message: Bytes::new(),
    };
    let parcel = Parcel::Final {
        report: Box::new(report),
        detail: Detail::Full,
        heard,
    };
    (parcel, fate)
}

/// Puts it in, where that needs no waiting.
fn put(window: &Window, parcel: Parcel) -> Result<(), Why> {
    window
        .place(parcel, soon())
        .now_or_never()
        .expect("no waiting")
        .map_err(|refused| refused.why)
}

/// What a stream can take now.
fn taken(window: &Window, stream: u64) -> Vec<(u64, String)> {
    std::iter::from_fn(|| window.next(stream).now_or_never().flatten())
        .map(|report| (report.sequence, report.envelope_id))
        .collect()
}

fn ack(sequence: u64) -> ReportAck {
    ReportAck {
        sequence,
        refusals: Vec::new(),
    }
}

fn numbered(reports: &[(u64, &str)]) -> Vec<(u64, String)> {
    reports.iter().map(|(at, id)| (*at, (*id).to_owned())).collect()
}

#[tokio::test]
async fn what_is_not_acknowledged_goes_again_in_its_order_under_its_number() {
    let window = window();
    assert_eq!(put(&window, received("x")), Err(Why::Off));
    let stream = window.open(100, 0);
    for id in ["a", "b", "c", "d"] {
        put(&window, received(id)).expect("room");
    }
    let all = numbered(&[(1, "a"), (2, "b"), (3, "c"), (4, "d")]);
    assert_eq!(taken(&window, stream), all);
    let told = window.acknowledge(ack(2));
    assert!(told.iter().all(|(_, fate)| *fate == Fate::Stored));
    assert_eq!(told.len(), 2);
    window.down();
    assert!(taken(&window, stream).is_empty(), "that stream is over");
    let next = window.open(100, 0);
    put(&window, received("e")).expect("room");
    assert_eq!(taken(&window, next), numbered(&[(3, "c"), (4, "d"), (5, "e")]));
    assert_eq!(window.acknowledge(ack(5)).len(), 3);
    assert!(window.is_empty());
}

#[tokio::test]
async fn progress_leaves_room_for_what_must_not_wait_and_nothing_exceeds_the_window() {
    let window = window();
    let stream = window.open(8, 0);
    for n in 0..6 {
        put(&window, received(&n.to_string())).expect("room");
    }
    let waits = window.place(received("late"), soon());
    tokio::pin!(waits);
    assert!(futures::poll!(&mut waits).is_pending());
    put(&window, child("c")).expect("room for a child");
    let (parcel, _fate) = last("f", "1");
    put(&window, parcel).expect("room for a final");
    let (parcel, _other) = last("g", "1");
    let full = window.place(parcel, soon());
    tokio::pin!(full);
    assert!(futures::poll!(&mut full).is_pending());
    assert_eq!(window.len(), 8);
    taken(&window, stream);
    window.acknowledge(ack(3));
    waits.await.expect("room now");
    full.await.expect("room now");
}

#[tokio::test]
async fn many_bytes_are_a_full_window_and_one_large_report_may_be_alone() {
    let window = window();
    let stream = window.open(100, 0);
    let text = format!("\"{}\"", "x".repeat(MOST_BYTES));
    let (large, fate) = last("large", &text);
    put(&window, large).expect("alone");
    let (small, _fate) = last("small", "1");
    let waits = window.place(small, soon());
    tokio::pin!(waits);
    assert!(futures::poll!(&mut waits).is_pending());
    taken(&window, stream);
    window.acknowledge(ack(1));
    assert_eq!(fate.await, Ok(Fate::Stored));
    waits.await.expect("room now");
}

#[tokio::test]
async fn what_the_gateway_takes_in_no_stream_is_told_before_it_is_sent() {
    let window = window();
    window.open(100, 1000);
    let (parcel, _fate) = last("x", &format!("\"{}\"", "x".repeat(1000)));
    assert_eq!(put(&window, parcel), Err(Why::TooLarge));
    let (parcel, _fate) = last("x", &format!("\"{}\"", "x".repeat(700)));
    put(&window, parcel).expect("fits");
}

#[tokio::test]
async fn refusals_are_heard_with_their_acknowledgement_whenever_they_were_listed() {
    let window = window();
    let stream = window.open(100, 0);
    put(&window, received("a")).expect("room");
    let (parcel, mut fate) = last("x", "1");
    put(&window, parcel).expect("room");
    taken(&window, stream);
    let refusal = ReportRefusal {
        sequence: 2,
        reason: ReportRefusalReason::UnknownEnvelope.into(),
        message: "who?".into(),
    };
    let early = ReportAck {
        sequence: 1,
        refusals: vec![refusal],
    };
    assert_eq!(window.acknowledge(early).len(), 1);
    assert!(fate.try_recv().is_err(), "not yet acknowledged");
    window.acknowledge(ack(2));
    let refused = Fate::Refused(ReportRefusalReason::UnknownEnvelope, "who?".into());
    assert_eq!(fate.await, Ok(refused));
}

#[tokio::test]
async fn without_a_stream_reports_wait_and_who_is_in_a_hurry_does_not() {
    let hurry = CancellationToken::new();
    let window = Window::new(hurry.clone());
    window.open(100, 0);
    window.down();
    let late = window.place(received("a"), Instant::now()).await;
    assert_eq!(late.expect_err("no stream").why, Why::Late);
    let waits = window.place(received("b"), soon());
    tokio::pin!(waits);
    assert!(futures::poll!(&mut waits).is_pending());
    hurry.cancel();
    assert_eq!(waits.await.expect_err("a hurry").why, Why::Late);
    let stream = window.open(100, 0);
    put(&window, received("c")).expect("there is a stream");
    assert_eq!(taken(&window, stream), numbered(&[(1, "c")]));
}

#[tokio::test]
async fn going_over_to_http_loses_no_final_and_gives_the_notes_back() {
    let window = window();
    let stream = window.open(100, 0);
    put(&window, child("c")).expect("room");
    let (parcel, fate) = last("x", "1");
    put(&window, parcel).expect("room");
    taken(&window, stream);
    let left = window.off();
    assert_eq!(left.len(), 1);
    assert_eq!(fate.await, Ok(Fate::Lost));
    assert!(!window.is_on() && window.is_empty());
    assert!(window.acknowledge(ack(9)).is_empty(), "an answer of before");
    let stream = window.open(100, 0);
    put(&window, received("d")).expect("room");
    assert_eq!(taken(&window, stream), numbered(&[(3, "d")]), "numbers go on");
}

#[tokio::test]
async fn a_stream_that_leaves_gets_nothing_more_and_ends_with_its_last_acknowledgement() {
    let window = window();
    let stream = window.open(100, 0);
    put(&window, received("a")).expect("room");
    taken(&window, stream);
    put(&window, received("b")).expect("room");
    window.leave();
    let end = window.next(stream);
    tokio::pin!(end);
    assert!(futures::poll!(&mut end).is_pending(), "one is not acknowledged");
    window.acknowledge(ack(1));
    assert!(end.await.is_none());
    let next = window.open(100, 0);
    assert_eq!(taken(&window, next), numbered(&[(2, "b")]));
}

#[tokio::test]
async fn a_window_that_closes_sends_what_it_has_and_ends() {
    let window = window();
    let stream = window.open(100, 0);
    put(&window, received("a")).expect("room");
    window.close();
    assert_eq!(put(&window, received("b")), Err(Why::Off));
    assert_eq!(window.next(stream).await.map(|report| report.sequence), Some(1));
    window.acknowledge(ack(1));
    assert!(window.next(stream).await.is_none());
}

#[tokio::test]
async fn finals_that_nobody_waits_for_are_not_told_again() {
    let window = window();
    let stream = window.open(100, 0);
    let (parcel, fate) = last("gone", "1");
    put(&window, parcel).expect("room");
    put(&window, received("a")).expect("room");
    taken(&window, stream);
    drop(fate);
    window.down();
    let next = window.open(100, 0);
    assert_eq!(taken(&window, next), numbered(&[(2, "a")]));
}

/// What may happen to a window.
#[derive(Debug, Clone)]
enum Step {
    Put(bool),
    Take,
    /// Acknowledges up to so many beyond what was acknowledged.
    Ack(u64),
    Cut,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        4 => any::<bool>().prop_map(Step::Put),
        4 => Just(Step::Take),
        3 => (0_u64..6).prop_map(Step::Ack),
        1 => Just(Step::Cut),
    ];
    proptest::collection::vec(step, 1..200)
}

proptest! {
    /// Whatever is cut and acknowledged when: a stream gets rising numbers without holes behind what is acknowledged,
    /// everything is stored at last, each report ends once, and the window never holds more than its measure.
    #[test]
    fn every_report_ends_once_in_order_over_any_cuts(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let window = window();
            let mut stream = window.open(16, 0);
            let (mut placed, mut acknowledged, mut highest) = (0_u64, 0_u64, 0_u64);
            let mut finals = Vec::new();
            let mut ended = 0_usize;
            let mut notes = 0_usize;
            for step in steps {
                match step {
                    Step::Put(is_final) => {
                        let parcel = if is_final {
                            let (parcel, fate) = last("x", "1");
                            finals.push(fate);
                            parcel
                        } else {
                            child("c")
                        };
                        match window.place(parcel, soon()).now_or_never() {
                            Some(Ok(())) => {
                                placed += 1;
                                notes += usize::from(!is_final);
                            }
                            _ if is_final => { finals.pop(); }
                            _ => {}
                        }
                    }
                    Step::Take => {
                        if let Some(Some(report)) = window.next(stream).now_or_never() {
                            assert_eq!(report.sequence, highest + 1);
                            highest += 1;
                        }
                    }
                    Step::Ack(more) => {
                        let upto = (acknowledged + more).min(highest);
                        ended += window.acknowledge(ack(upto)).len();
                        acknowledged = acknowledged.max(upto);
                    }
                    Step::Cut => {
                        window.down();
                        stream = window.open(16, 0);
                        highest = acknowledged;
                    }
                }
                assert!(window.len() <= 16);
                assert_eq!(window.len() as u64, placed - acknowledged);
            }
            while let Some(Some(report)) = window.next(stream).now_or_never() {
                assert_eq!(report.sequence, highest + 1);
                highest += 1;
            }
            assert_eq!(highest, placed);
            ended += window.acknowledge(ack(placed)).len();
            assert_eq!(ended, notes);
            for fate in finals {
                assert_eq!(fate.await, Ok(Fate::Stored));
            }
        });
    }
}
