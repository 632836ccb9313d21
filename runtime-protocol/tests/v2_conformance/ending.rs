//! How requests, workers, connections and servers end.

use std::time::Duration;

use asya_runtime_protocol::v2::{
    CancelReason, Control, ControlEvent, LinkError, LinkEvent, WorkerId, WorkerLink, WorkerState,
};

use crate::support::bounded;
use crate::support::servers::{Kind, Server, Settings, ready, until};
use crate::{code, hold, is_output, reply, request, serves, started};

cases! {
    a_request_that_waits_is_cancelled
    a_request_is_withdrawn_unless_it_was_started
    a_request_that_runs_is_asked_to_end
    cancelling_what_has_ended_changes_nothing
    a_killed_worker_is_replaced
    a_newer_worker_connection_is_welcomed_when_the_older_has_ended
    a_newer_control_connection_replaces_the_older
    without_a_client_running_requests_are_asked_to_end
    it_serves_on_until_the_client_says_goodbye
    it_serves_on_until_the_sidecar_has_drained
}

/// Cancels one request, and gives the answer that comes.
async fn cancel(
    control: &mut Control,
    link: &mut WorkerLink,
    id: WorkerId,
    tag: u32,
    reason: CancelReason,
) -> (u32, String) {
    control.cancel(id, tag, reason);
    let (of, items) = tokio::select! {
        answer = reply(link) => answer,
        event = control.next() => panic!("{event:?}"),
    };
    (of, code(items))
}

/// Also one that comes after it was withdrawn.
async fn a_request_is_withdrawn_unless_it_was_started(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (mut control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    link.tags_after(40);
    let running = link.send(hold("a"));
    let waiting = link.send(request("1"));
    assert_eq!((running, waiting, link.last_tag()), (41, 42, 42));
    started(&server, &mut link, "a").await;
    control.cancel(id, running, CancelReason::Withdrawn);
    control.cancel(id, waiting + 1, CancelReason::Withdrawn);
    let answer = cancel(&mut control, &mut link, id, waiting, CancelReason::Withdrawn).await;
    assert_eq!(answer, (waiting, "cancelled".to_owned()));
    let early = link.send(request("2"));
    let (of, items) = reply(&mut link).await;
    assert_eq!((of, code(items)), (early, "cancelled".to_owned()));
    server.release("a");
    let (of, items) = reply(&mut link).await;
    assert!(of == running && is_output(items), "it was left alone");
}

/// With an `async` handler, whose worker looks at once.
async fn a_request_that_waits_is_cancelled(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (mut control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let running = link.send(hold("a"));
    let late = link.send(request("1"));
    let unwanted = link.send(request("2"));
    let last = link.send(request("3"));
    started(&server, &mut link, "a").await;
    for (tag, reason, expected) in [
        (late, CancelReason::Deadline, "timeout"),
        (unwanted, CancelReason::Asked, "cancelled"),
    ] {
        let answer = cancel(&mut control, &mut link, id, tag, reason).await;
        assert_eq!(answer, (tag, expected.to_owned()));
    }
    server.release("a");
    for tag in [running, last] {
        let (of, items) = reply(&mut link).await;
        assert_eq!(of, tag);
        assert!(is_output(items));
    }
}

async fn a_request_that_runs_is_asked_to_end(kind: Kind) {
    let settings = Settings {
        concurrency: 3,
        ..Settings::default()
    };
    let server = Server::start(kind, settings).await;
    let (mut control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let (first, second, third) = (link.send(hold("a")), link.send(hold("b")), link.send(hold("c")));
    for name in ["a", "b", "c"] {
        started(&server, &mut link, name).await;
    }
    for (tag, reason, expected) in [
        (first, CancelReason::Deadline, "timeout"),
        (second, CancelReason::Asked, "cancelled"),
    ] {
        let answer = cancel(&mut control, &mut link, id, tag, reason).await;
        assert_eq!(answer, (tag, expected.to_owned()));
    }
    assert!(server.file("a", "cancelled").exists() && server.file("b", "cancelled").exists());
    server.release("c");
    let (of, items) = reply(&mut link).await;
    assert_eq!(of, third);
    assert!(is_output(items));
    assert!(!server.file("c", "cancelled").exists());
}

async fn cancelling_what_has_ended_changes_nothing(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (mut control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let ended = link.send(request("1"));
    reply(&mut link).await;
    let old = WorkerId {
        incarnation: id.incarnation + 7,
        ..id
    };
    control.cancel(id, ended, CancelReason::Asked);
    control.cancel(id, 4_000_000_000, CancelReason::Asked);
    control.cancel(old, ended, CancelReason::Asked);
    control.kill(old, ended);
    control.ping(1);
    assert_eq!(bounded(control.next()).await.unwrap(), ControlEvent::Pong(1));
    let tag = link.send(request("2"));
    let (of, items) = reply(&mut link).await;
    assert_eq!(of, tag);
    assert!(is_output(items));
}

async fn a_killed_worker_is_replaced(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (mut control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let held = link.send(hold("a"));
    let waiting = link.send(request("1"));
    started(&server, &mut link, "a").await;
    control.kill(id, held);
    match bounded(control.next()).await.unwrap() {
        ControlEvent::Worker(of, WorkerState::Gone(gone)) => {
            assert_eq!(of, id);
            assert!(gone.killed && !gone.oom && !gone.reason.is_empty(), "{gone:?}");
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(bounded(link.next()).await, Err(LinkError::Closed)));
    assert_eq!(link.unanswered().collect::<Vec<_>>(), [held, waiting]);
    let next = ready(&mut control).await;
    let expected = WorkerId {
        incarnation: id.incarnation + 1,
        ..id
    };
    assert_eq!(next, expected);
    let mut link = server.link(next).await;
    link.send(request("1"));
    assert!(is_output(reply(&mut link).await.1));
}

async fn a_newer_worker_connection_is_welcomed_when_the_older_has_ended(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (_control, _, id) = server.control().await;
    let mut old = server.link(id).await;
    old.send(hold("a"));
    started(&server, &mut old, "a").await;
    let mut new = server.link(id).await;
    // Whoever is welcomed finds nothing running.
    assert!(server.file("a", "cancelled").exists());
    let ended = bounded(old.next()).await;
    assert!(
        matches!(ended, Err(_) | Ok(LinkEvent::Reply { .. } | LinkEvent::Goodbye)),
        "{ended:?}"
    );
    new.send(request("1"));
    assert!(is_output(reply(&mut new).await.1));
}

async fn a_newer_control_connection_replaces_the_older(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (mut old, _, id) = server.control().await;
    let mut link = server.link(id).await;
    let tag = link.send(hold("a"));
    started(&server, &mut link, "a").await;
    let (mut new, _, same) = server.control().await;
    assert_eq!(same, id);
    let ended = bounded(old.next()).await;
    assert!(matches!(ended, Err(_) | Ok(ControlEvent::Goodbye)), "{ended:?}");
    // What runs is not touched.
    server.release("a");
    let (of, items) = reply(&mut link).await;
    assert_eq!(of, tag);
    assert!(is_output(items));
    new.ping(3);
    assert_eq!(bounded(new.next()).await.unwrap(), ControlEvent::Pong(3));
}

async fn without_a_client_running_requests_are_asked_to_end(kind: Kind) {
    let server = Server::start(kind, Settings::default()).await;
    let (control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    link.send(hold("a"));
    started(&server, &mut link, "a").await;
    drop(control);
    let cancelled = server.file("a", "cancelled");
    until("the request is cancelled", || cancelled.exists()).await;
    serves(&server).await;
}

fn patient() -> Settings {
    Settings {
        shutdown_grace: Duration::from_mins(2),
        ..Settings::default()
    }
}

async fn it_serves_on_until_the_client_says_goodbye(kind: Kind) {
    let mut server = Server::start(kind, patient()).await;
    let (mut control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    server.ask_to_end();
    assert_eq!(bounded(control.next()).await.unwrap(), ControlEvent::Stopping);
    link.send(request("1"));
    assert!(is_output(reply(&mut link).await.1));
    let running = link.send(hold("a"));
    let waiting = link.send(request("2"));
    started(&server, &mut link, "a").await;
    control.goodbye();
    // What is queued leaves with the next look.
    let said = async { while let Ok(ControlEvent::Goodbye) = control.next().await {} };
    let released = async {
        tokio::task::yield_now().await;
        server.release("a");
        reply(&mut link).await
    };
    // What runs is answered; what waits is not started, or answered as well.
    let ((), (of, items)) = bounded(async { tokio::join!(said, released) }).await;
    assert_eq!(of, running);
    assert!(is_output(items));
    match bounded(link.next()).await.unwrap() {
        LinkEvent::Goodbye => assert_eq!(link.unanswered().collect::<Vec<_>>(), [waiting]),
        LinkEvent::Reply { tag, .. } => {
            assert_eq!(tag, waiting);
            assert_eq!(bounded(link.next()).await.unwrap(), LinkEvent::Goodbye);
        }
        other => panic!("{other:?}"),
    }
    assert!(matches!(bounded(link.next()).await, Err(LinkError::Closed)));
    server.ended().await;
}

async fn it_serves_on_until_the_sidecar_has_drained(kind: Kind) {
    let mut server = Server::start(kind, patient()).await;
    let (mut control, _, id) = server.control().await;
    let mut link = server.link(id).await;
    server.ask_to_end();
    assert_eq!(bounded(control.next()).await.unwrap(), ControlEvent::Stopping);
    link.send(request("1"));
    assert!(is_output(reply(&mut link).await.1));
    std::fs::write(server.dir.path().join("sidecar-drained"), "").unwrap();
    assert_eq!(bounded(link.next()).await.unwrap(), LinkEvent::Goodbye);
    server.ended().await;
}
