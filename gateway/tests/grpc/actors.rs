//! What operators say, and what clients see of it.

use asya_gateway::auth::{Caller, Role};
use asya_proto::status::v1::actor_status_client::ActorStatusClient;
use asya_proto::status::v1::{
    Actor, ActorFilter, ActorKey, ActorState, ActorsSynced, ListActorsRequest, OperatorHello,
    ReportActorsRequest, ReportActorsResponse, WatchActorsRequest, WatchActorsResponse,
    report_actors_request::Kind, watch_actors_response::Event,
};
use prost_types::Timestamp;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::Channel;
use tonic::{Code, Status, Streaming};

use super::harness::{Plan, Server, soon};

async fn client(server: &Server) -> ActorStatusClient<Channel> {
    ActorStatusClient::new(server.channel().await)
}

struct Operator {
    outbound: mpsc::Sender<ReportActorsRequest>,
    inbound: Streaming<ReportActorsResponse>,
    sequence: u64,
}

impl Operator {
    async fn connect(server: &Server, cluster: &str) -> Self {
        let mut operator = Self::silent(server).await;
        operator
            .say(Kind::Hello(OperatorHello {
                cluster: cluster.to_owned(),
                ..OperatorHello::default()
            }))
            .await;
        operator
    }

    async fn silent(server: &Server) -> Self {
        let (outbound, requests) = mpsc::channel(2000);
        let inbound = client(server)
            .await
            .report(ReceiverStream::new(requests))
            .await
            .unwrap()
            .into_inner();
        Self {
            outbound,
            inbound,
            sequence: 0,
        }
    }

    async fn say(&mut self, kind: Kind) {
        self.sequence += 1;
        self.send(self.sequence, Some(kind)).await;
    }

    async fn send(&mut self, sequence: u64, kind: Option<Kind>) {
        self.outbound
            .send(ReportActorsRequest { sequence, kind })
            .await
            .unwrap();
    }

    async fn acked(&mut self) {
        let mut last = 0;
        while last < self.sequence {
            let ack = soon("an acknowledgement", self.inbound.message())
                .await
                .unwrap()
                .unwrap();
            assert!(ack.acknowledged > last, "acknowledgements rise");
            last = ack.acknowledged;
        }
        assert_eq!(last, self.sequence);
    }

    async fn end(&mut self) -> Status {
        loop {
            if let Err(status) = soon("the end", self.inbound.message())
                .await
                .map(|message| message.expect("an error"))
            {
                return status;
            }
        }
    }
}

fn key(name: &str) -> ActorKey {
    ActorKey {
        cluster: "c".to_owned(),
        namespace: "n".to_owned(),
        name: name.to_owned(),
    }
}

fn seen(name: &str, state: ActorState, at: i64) -> Kind {
    Kind::Observed(Actor {
        key: Some(key(name)),
        state: state.into(),
        transport: "rabbitmq".to_owned(),
        observed_at: Some(Timestamp {
            seconds: at,
            nanos: 0,
        }),
        ..Actor::default()
    })
}

async fn names(server: &Server, filter: ActorFilter) -> Vec<String> {
    let mut request = ListActorsRequest {
        filter: Some(filter),
        page_size: 2,
        page_token: String::new(),
    };
    let mut names = Vec::new();
    loop {
        let page = client(server)
            .await
            .list(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(page.actors.len() <= 2);
        names.extend(page.actors.into_iter().map(|actor| actor.key.unwrap().name));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return names;
        }
    }
}

#[tokio::test]
async fn a_sync_forgets_what_was_not_told_and_only_in_its_cluster() {
    let server = Server::start().await;
    let mut other = Operator::connect(&server, "d").await;
    other
        .say(Kind::Observed(Actor {
            key: Some(ActorKey {
                cluster: String::new(),
                ..key("far")
            }),
            ..Actor::default()
        }))
        .await;
    other.say(Kind::Synced(ActorsSynced {})).await;
    other.acked().await;
    let mut operator = Operator::connect(&server, "c").await;
    for name in ["c", "a", "b", "old"] {
        operator.say(seen(name, ActorState::Running, 1)).await;
    }
    operator.acked().await;
    assert_eq!(
        names(&server, ActorFilter::default()).await,
        ["a", "b", "c", "old", "far"]
    );
    drop(operator);
    // It comes back, and one has gone meanwhile; another goes before the end of the sync.
    let mut operator = Operator::connect(&server, "c").await;
    for name in ["a", "b", "c"] {
        operator.say(seen(name, ActorState::Napping, 2)).await;
    }
    operator.say(Kind::Deleted(key("c"))).await;
    operator.acked().await;
    assert_eq!(
        names(&server, ActorFilter::default()).await,
        ["a", "b", "old", "far"]
    );
    operator.say(Kind::Synced(ActorsSynced {})).await;
    operator.acked().await;
    assert_eq!(names(&server, ActorFilter::default()).await, ["a", "b", "far"]);
    operator.say(seen("late", ActorState::Running, 3)).await;
    operator.acked().await;
    let running = ActorFilter {
        states: vec![ActorState::Running.into()],
        ..ActorFilter::default()
    };
    assert_eq!(names(&server, running).await, ["late"]);
    let cluster = ActorFilter {
        cluster: "d".to_owned(),
        ..ActorFilter::default()
    };
    assert_eq!(names(&server, cluster).await, ["far"]);
}

async fn event(watch: &mut Streaming<WatchActorsResponse>) -> Event {
    soon("an event", watch.message())
        .await
        .unwrap()
        .unwrap()
        .event
        .unwrap()
}

#[tokio::test]
async fn a_watch_tells_the_present_a_mark_and_each_change() {
    let server = Server::start().await;
    let mut operator = Operator::connect(&server, "c").await;
    operator.say(seen("a", ActorState::Running, 1)).await;
    operator.say(seen("b", ActorState::Napping, 1)).await;
    operator.acked().await;
    let filter = ActorFilter {
        states: vec![ActorState::Running.into()],
        ..ActorFilter::default()
    };
    let request = WatchActorsRequest { filter: Some(filter) };
    let mut watch = client(&server).await.watch(request).await.unwrap().into_inner();
    // The board may have been read before or after the first reports: they come before or after the mark.
    let mut marks = 0;
    let mut shown = Vec::new();
    while marks == 0 || shown.is_empty() {
        match event(&mut watch).await {
            Event::Actor(actor) => shown.push(actor.key.unwrap().name),
            Event::Synced(_) => marks += 1,
            Event::Gone(key) => panic!("{key:?}"),
        }
    }
    assert_eq!((shown, marks), (vec!["a".to_owned()], 1));
    operator.say(seen("b", ActorState::Running, 2)).await;
    assert!(matches!(event(&mut watch).await, Event::Actor(actor) if actor.key == Some(key("b"))));
    operator.say(seen("a", ActorState::Degraded, 2)).await;
    assert!(matches!(event(&mut watch).await, Event::Gone(gone) if gone == key("a")));
    operator.say(seen("b", ActorState::Napping, 1)).await;
    operator.say(Kind::Deleted(key("b"))).await;
    assert!(
        matches!(event(&mut watch).await, Event::Gone(gone) if gone == key("b")),
        "older sights change nothing"
    );
    server.gateway.drain();
    assert_eq!(
        soon("the end", watch.message()).await.unwrap_err().code(),
        Code::Unavailable
    );
    assert_eq!(operator.end().await.code(), Code::Unavailable);
}

#[tokio::test]
async fn mistakes_of_an_operator_end_its_stream_and_what_came_before_is_stored() {
    let server = Server::start().await;
    let foreign = Kind::Observed(Actor {
        key: Some(ActorKey {
            cluster: "other".to_owned(),
            ..key("a")
        }),
        ..Actor::default()
    });
    let cases: [(u64, Option<Kind>, &str); 6] = [
        (3, Some(foreign), "observed.key.cluster"),
        (3, Some(Kind::Observed(Actor::default())), "observed.key"),
        (3, Some(Kind::Hello(OperatorHello::default())), "hello"),
        (3, None, "kind"),
        (2, Some(Kind::Synced(ActorsSynced {})), "sequence"),
        (4, Some(Kind::Synced(ActorsSynced {})), "sequence"),
    ];
    for (n, (sequence, kind, field)) in cases.into_iter().enumerate() {
        let name = format!("a{n}");
        let mut operator = Operator::connect(&server, "c").await;
        operator.say(seen(&name, ActorState::Running, 1)).await;
        operator.send(sequence, kind).await;
        let end = operator.end().await;
        assert_eq!(end.code(), Code::InvalidArgument);
        assert!(end.message().starts_with(field), "{}", end.message());
        let named = ActorFilter {
            name: name.clone(),
            ..ActorFilter::default()
        };
        assert_eq!(names(&server, named).await, [name]);
    }
    let mut early = Operator::silent(&server).await;
    early.send(1, Some(Kind::Synced(ActorsSynced {}))).await;
    assert_eq!(early.end().await.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn operators_report_and_clients_read() {
    for (role, reports, reads) in [
        (Role::Client, Some(Code::PermissionDenied), None),
        (
            Role::Sidecar,
            Some(Code::PermissionDenied),
            Some(Code::PermissionDenied),
        ),
        (Role::Operator, None, Some(Code::PermissionDenied)),
    ] {
        let caller = Caller {
            roles: [role].into(),
            ..Caller::anonymous()
        };
        let server = Server::of(Plan {
            caller: Some(caller),
            ..Plan::default()
        })
        .await;
        let mut client = client(&server).await;
        let code = |status: Option<Status>| status.map(|status| status.code());
        assert_eq!(code(client.report(tokio_stream::empty()).await.err()), reports);
        assert_eq!(code(client.list(ListActorsRequest::default()).await.err()), reads);
        assert_eq!(
            code(client.watch(WatchActorsRequest::default()).await.err()),
            reads
        );
    }
}
