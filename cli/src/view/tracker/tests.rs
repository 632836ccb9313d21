//! What the figures make of events in any order.

use super::*;
use bytes::Bytes;
use std::time::Duration;

fn report(id: &str, status: FinalStatus) -> FinalReport {
    FinalReport {
        actor: "happy-end".into(),
        id: id.into(),
        status,
        result: None,
        error: None,
        error_details: None,
        message: Bytes::new(),
    }
}

#[test]
fn a_run_is_over_when_its_envelopes_and_all_their_children_are() {
    let mut tracker = Tracker::of_run();
    tracker.sent("x");
    let child = |id: &str, parent: &str| Event::Child {
        id: id.into(),
        parent_id: parent.into(),
    };
    tracker.progress("split", "x", &child("x-1", "x"));
    tracker.progress("split", "x", &child("x-1", "x"));
    tracker.progress("again", "x-1", &child("x-1-1", "x-1"));
    assert!(tracker.finish(&report("x", FinalStatus::Succeeded)));
    assert!(tracker.finish(&report("x-1", FinalStatus::Failed)));
    assert!(!tracker.is_over());
    assert!(
        !tracker.finish(&report("x", FinalStatus::Failed)),
        "a repeat changes nothing"
    );
    assert!(tracker.finish(&report("x-1-1", FinalStatus::Succeeded)));
    assert!(tracker.is_over());
    assert_eq!((tracker.finished(), tracker.failed()), (3, 1));
}

#[test]
fn envelopes_of_earlier_runs_are_counted_apart() {
    let mut tracker = Tracker::of_run();
    tracker.sent("x");
    assert!(!tracker.finish(&report("old", FinalStatus::Succeeded)));
    assert_eq!((tracker.others(), tracker.open()), (1, 1));
}

#[test]
fn figures_follow_the_events() {
    let mut tracker = Tracker::of_run();
    let took = Duration::from_millis(3);
    for id in ["x", "x", "y"] {
        tracker.progress("a", id, &Event::Processing);
    }
    tracker.progress(
        "a",
        "x",
        &Event::Completed {
            took,
            outputs: 1,
            rerouted: None,
        },
    );
    let figures = &tracker.actors()["a"];
    assert_eq!((figures.running(), figures.done, figures.failed), (1, 1, 0));
    tracker.progress(
        "a",
        "y",
        &Event::Failed {
            took,
            error: String::new(),
        },
    );
    let figures = &tracker.actors()["a"];
    assert_eq!(
        (
            figures.running(),
            figures.done,
            figures.failed,
            figures.times.total()
        ),
        (0, 1, 1, 2 * took)
    );
}

#[test]
fn a_retry_is_the_end_of_a_run_and_of_nothing_else() {
    let mut tracker = Tracker::of_run();
    tracker.sent("x");
    let took = Duration::from_millis(3);
    let retrying = Event::Retrying {
        took,
        attempt: 2,
        after: Duration::from_secs(1),
        error: String::from("no"),
    };
    tracker.progress("a", "x", &Event::Processing);
    tracker.progress("a", "x", &retrying);
    let figures = &tracker.actors()["a"];
    let counts = (figures.running(), figures.done, figures.failed, figures.retried);
    assert_eq!(counts, (0, 0, 0, 1));
    assert_eq!((figures.times.total(), tracker.open()), (took, 1));
    assert!(tracker.finish(&report("x", FinalStatus::Succeeded)));
    assert!(tracker.is_over());
}

#[test]
fn a_tracker_of_everything_keeps_the_last_to_end_and_counts_all() {
    let mut tracker = Tracker::of_everything();
    for n in 0..100 {
        assert!(tracker.finish(&report(&n.to_string(), FinalStatus::Failed)));
        assert!(tracker.finish(&report(&format!("g{n}"), FinalStatus::Succeeded)));
    }
    assert!(!tracker.finish(&report("99", FinalStatus::Failed)), "a repeat");
    assert_eq!(
        (tracker.finished(), tracker.failed(), tracker.open()),
        (200, 100, 0)
    );
    let kept: Vec<_> = tracker.bad().kept().map(|one| one.id.as_str()).collect();
    assert_eq!((kept.len(), kept[0], kept[19]), (20, "80", "99"));
    assert_eq!(tracker.good().kept().len(), 8);
}

#[test]
fn a_tracker_of_a_run_keeps_the_first_to_end() {
    let mut tracker = Tracker::of_run();
    for n in 0..30 {
        tracker.sent(&n.to_string());
        assert!(tracker.finish(&report(&n.to_string(), FinalStatus::Failed)));
    }
    let kept: Vec<_> = tracker.bad().kept().map(|one| one.id.as_str()).collect();
    assert_eq!((tracker.failed(), kept.len(), kept[0]), (30, 20, "0"));
}

#[test]
fn what_a_handler_told_last_is_kept_until_that_call_ends() {
    let mut tracker = Tracker::of_run();
    let note = |text: &str| Event::Noted {
        fraction: Some(0.5),
        message: Some(text.into()),
    };
    let told = |tracker: &Tracker| tracker.actors()["a"].told().map(Told::live);
    let completed = Event::Completed {
        took: Duration::ZERO,
        outputs: 1,
        rerouted: None,
    };
    let partial = Event::Partial {
        seq: 0,
        value: RawJson::from_text("so far"),
    };
    tracker.progress("a", "x", &Event::Processing);
    assert_eq!(told(&tracker), None);
    tracker.progress("a", "x", &note("half"));
    assert_eq!(told(&tracker).as_deref(), Some("50 % half"));
    tracker.progress("a", "y", &partial);
    tracker.progress("a", "x", &completed);
    assert_eq!(told(&tracker).as_deref(), Some("so far"), "another call ended");
    tracker.progress("a", "y", &completed);
    assert_eq!(told(&tracker), None);
}

#[test]
fn a_run_is_not_over_while_a_generator_still_works() {
    let mut tracker = Tracker::of_run();
    tracker.sent("x");
    let child = |id: &str| Event::Child {
        id: id.into(),
        parent_id: "x".into(),
    };
    tracker.progress("a", "x", &Event::Processing);
    tracker.progress("a", "x", &child("x-1"));
    assert!(tracker.finish(&report("x", FinalStatus::Succeeded)));
    assert!(tracker.finish(&report("x-1", FinalStatus::Succeeded)));
    assert!(!tracker.is_over(), "more may come");
    tracker.progress("a", "x", &child("x-2"));
    let failed = Event::Failed {
        took: Duration::ZERO,
        error: String::from("no third"),
    };
    tracker.progress("a", "x", &failed);
    assert!(!tracker.is_over(), "what failed has still to be stored");
    assert!(tracker.finish(&report("x-2", FinalStatus::Failed)));
    assert!(tracker.is_over());
}
