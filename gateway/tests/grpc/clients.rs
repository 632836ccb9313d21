//! Get, List and Cancel; who may see what.

use asya_gateway::auth::{Caller, Role};
use asya_proto::status::v1::{
    CancelEnvelopeRequest, EnvelopeFilter, EnvelopeOutcome, EnvelopeState, EnvelopeView, GetEnvelopeRequest,
    ListEnvelopesRequest, ListEnvelopesResponse,
};
use asya_runtime_protocol::RawJson;
use tonic::Code;

use super::harness::{Plan, Server, progress, report, running, succeeded, watch_ids};
use asya_proto::status::v1::HopPhase;

fn get(id: &str, view: EnvelopeView) -> GetEnvelopeRequest {
    GetEnvelopeRequest {
        id: id.to_owned(),
        view: view.into(),
    }
}

#[tokio::test]
async fn only_the_full_view_has_what_belongs_to_the_user() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut client = server.client().await;
    for (view, expected) in [
        (EnvelopeView::Unspecified, None),
        (EnvelopeView::Basic, None),
        (EnvelopeView::Full, Some(r#"{"n":12345678901234567890,"f":1.0}"#)),
    ] {
        let shown = client
            .get(get("x", view))
            .await
            .unwrap()
            .into_inner()
            .envelope
            .unwrap();
        assert_eq!(shown.payload_json.as_deref(), expected);
        assert_eq!(
            (shown.id.as_str(), shown.state(), shown.attempt),
            ("x", EnvelopeState::Running, 1)
        );
        assert!(shown.created_at.is_some() && shown.updated_at.is_some() && shown.deadline.is_none());
    }
    for (id, code) in [
        ("nobody", Code::NotFound),
        ("", Code::InvalidArgument),
        ("a\0b", Code::NotFound),
    ] {
        let status = client.get(get(id, EnvelopeView::Basic)).await.unwrap_err();
        assert_eq!(status.code(), code, "{id:?}");
    }
}

async fn list(
    server: &Server,
    request: ListEnvelopesRequest,
) -> Result<ListEnvelopesResponse, tonic::Status> {
    server
        .client()
        .await
        .list(request)
        .await
        .map(tonic::Response::into_inner)
}

#[tokio::test]
async fn a_list_comes_newest_first_in_pages_that_belong_to_its_filter() {
    let server = Server::start().await;
    for n in 0..7 {
        let mut new = running(&format!("x{n}"));
        new.created_at += chrono::Duration::milliseconds(n);
        new.tool = Some(if n == 3 { "other" } else { "t" }.to_owned());
        server.create(new).await;
    }
    let filter = EnvelopeFilter {
        tool: "t".to_owned(),
        states: vec![EnvelopeState::Running.into(), EnvelopeState::Pending.into()],
        ..EnvelopeFilter::default()
    };
    let mut request = ListEnvelopesRequest {
        filter: Some(filter.clone()),
        page_size: 2,
        ..ListEnvelopesRequest::default()
    };
    let mut seen = Vec::new();
    loop {
        let page = list(&server, request.clone()).await.unwrap();
        assert!(page.envelopes.len() <= 2);
        assert!(
            page.envelopes
                .iter()
                .all(|envelope| envelope.payload_json.is_none())
        );
        seen.extend(page.envelopes.into_iter().map(|envelope| envelope.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
        let reordered = ListEnvelopesRequest {
            filter: Some(EnvelopeFilter {
                states: filter.states.iter().rev().copied().collect(),
                ..filter.clone()
            }),
            ..request.clone()
        };
        assert!(
            list(&server, reordered).await.is_ok(),
            "the same question in another order"
        );
        let other = ListEnvelopesRequest {
            filter: None,
            ..request.clone()
        };
        assert_eq!(
            list(&server, other).await.unwrap_err().code(),
            Code::InvalidArgument
        );
    }
    assert_eq!(seen, ["x6", "x5", "x4", "x2", "x1", "x0"]);
    let garbage = ListEnvelopesRequest {
        page_token: "AAAA".to_owned(),
        ..ListEnvelopesRequest::default()
    };
    let status = list(&server, garbage).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("page_token"), "{}", status.message());
}

#[tokio::test]
async fn pages_of_large_envelopes_stay_within_what_clients_take() {
    let server = Server::start().await;
    for n in 0..9 {
        let mut new = running(&format!("x{n}"));
        new.payload = Some(RawJson::from_text(&"y".repeat(900_000)));
        server.create(new).await;
    }
    let mut request = ListEnvelopesRequest {
        view: EnvelopeView::Full.into(),
        ..ListEnvelopesRequest::default()
    };
    let mut seen = Vec::new();
    // As any client is made: at most 4 MiB for a message.
    let mut client =
        asya_proto::status::v1::envelope_status_client::EnvelopeStatusClient::new(server.channel().await);
    loop {
        let page = client.list(request.clone()).await.unwrap().into_inner();
        assert!(!page.envelopes.is_empty());
        seen.extend(page.envelopes.into_iter().map(|envelope| envelope.id));
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    seen.sort();
    assert_eq!(seen, (0..9).map(|n| format!("x{n}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn whoever_cancels_ends_the_envelope_and_what_is_below_it_once() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut child = running("x-1");
    child.parent_id = Some("x".to_owned());
    server.create(child).await;
    let mut client = server.client().await;
    let cancel = |id: &str| CancelEnvelopeRequest {
        id: id.to_owned(),
        reason: "not wanted".to_owned(),
    };
    let answer = client.cancel(cancel("x")).await.unwrap().into_inner();
    assert!(answer.cancelled);
    let shown = answer.envelope.unwrap();
    assert_eq!(
        (shown.state(), shown.outcome()),
        (EnvelopeState::Failed, EnvelopeOutcome::Cancelled)
    );
    assert!(shown.message.contains("not wanted"), "{}", shown.message);
    assert_eq!(shown.failure.unwrap().error, "cancelled");
    assert_eq!(server.get("x-1").await.outcome(), EnvelopeOutcome::Cancelled);
    let again = client.cancel(cancel("x")).await.unwrap().into_inner();
    assert!(!again.cancelled);
    assert_eq!(
        client.cancel(cancel("nobody")).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(
        client.cancel(cancel("")).await.unwrap_err().code(),
        Code::InvalidArgument
    );
}

#[tokio::test]
async fn a_tenant_sees_its_own_alone() {
    let caller = Caller {
        tenant: Some("red".to_owned()),
        name: None,
        roles: [Role::Client].into(),
    };
    let server = Server::of(Plan {
        caller: Some(caller),
        ..Plan::default()
    })
    .await;
    for (id, tenant) in [("r", Some("red")), ("b", Some("blue")), ("n", None)] {
        let mut new = running(id);
        new.tenant = tenant.map(str::to_owned);
        server.create(new).await;
    }
    let mut client = server.client().await;
    assert!(client.get(get("r", EnvelopeView::Full)).await.is_ok());
    for foreign in ["b", "n"] {
        assert_eq!(
            client
                .get(get(foreign, EnvelopeView::Full))
                .await
                .unwrap_err()
                .code(),
            Code::NotFound
        );
        let cancel = CancelEnvelopeRequest {
            id: foreign.to_owned(),
            reason: String::new(),
        };
        assert_eq!(client.cancel(cancel).await.unwrap_err().code(), Code::NotFound);
        let status = watch_ids(&mut client, &["r", foreign], "").await.unwrap_err();
        assert_eq!(status.code(), Code::NotFound);
    }
    let page = list(&server, ListEnvelopesRequest::default()).await.unwrap();
    assert_eq!(
        page.envelopes
            .iter()
            .map(|envelope| envelope.id.as_str())
            .collect::<Vec<_>>(),
        ["r"]
    );
}

#[tokio::test]
async fn what_clients_ask_is_for_clients() {
    let caller = Caller {
        roles: [Role::Sidecar].into(),
        ..Caller::anonymous()
    };
    for (caller, code) in [
        (Some(caller), Code::PermissionDenied),
        (None, Code::Unauthenticated),
    ] {
        let server = Server::of(Plan {
            caller,
            ..Plan::default()
        })
        .await;
        server.envelope("x").await;
        let mut client = server.client().await;
        assert_eq!(
            client
                .get(get("x", EnvelopeView::Basic))
                .await
                .unwrap_err()
                .code(),
            code
        );
        assert_eq!(
            client
                .list(ListEnvelopesRequest::default())
                .await
                .unwrap_err()
                .code(),
            code
        );
        assert_eq!(
            client
                .cancel(CancelEnvelopeRequest::default())
                .await
                .unwrap_err()
                .code(),
            code
        );
        assert_eq!(watch_ids(&mut client, &["x"], "").await.unwrap_err().code(), code);
    }
}

#[tokio::test]
async fn the_turn_moves_with_the_reports_and_ends_at_the_end() {
    let server = Server::start().await;
    server.envelope("x").await;
    let mut sidecar = server.sidecar("one").await;
    for (sequence, event, turn) in [
        (1, progress(0, HopPhase::Processing), 0),
        (2, progress(0, HopPhase::Completed), 1),
        (3, progress(1, HopPhase::Received), 1),
        (4, succeeded("1"), 3),
    ] {
        sidecar.send(report(sequence, "x", event)).await;
        sidecar.acked(sequence).await;
        assert_eq!(server.get("x").await.route.unwrap().current, turn, "{sequence}");
    }
}
