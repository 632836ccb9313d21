//! What sidecars and end actors say, read from their bodies: pure functions (contract gateway §4.2 to §4.4).

use asya_gateway_store::{Final, FinalFailure, FinalSuccess, NewEnvelope, Phase, Progress, Status};
use asya_runtime_protocol::RawJson;
use axum::http::{HeaderMap, HeaderName};
use bytes::Bytes;
use chrono::{DateTime, Utc};

use super::fields::{Fields, as_words, invalid};
use super::path::is_possible;
use super::refusal::Refusal;

/// With the value `exact` the index in the body is the actor that did the work, also in `completed`. Without it that
/// may be the next one: original sidecars count on first (contract gateway §4.2).
pub(super) const INDEX: HeaderName = HeaderName::from_static("x-asya-index");

/// A body of `POST /envelopes/{id}/progress`.
pub(super) fn progress(headers: &HeaderMap, body: &Bytes) -> Result<(u32, Progress), Refusal> {
    let fields = Fields::read(body)?;
    let progress = Progress {
        // A word that is not known weighs nothing, as in the original.
        phase: fields.name("status")?.and_then(|word| Phase::parse(&word)),
        actors: fields.actors("actors")?.unwrap_or_default(),
        actor_index: fields.integer("current_actor_idx")?.unwrap_or_default(),
        message: fields.words("message")?.filter(|message| !message.is_empty()),
        exact: headers
            .get(INDEX)
            .is_some_and(|value| value.as_bytes() == b"exact"),
    };
    Ok((attempt(&fields)?, progress))
}

/// A body of `POST /envelopes/{id}/final`. The id in the body is ignored: the path's counts.
pub(super) fn finished(body: &Bytes) -> Result<(u32, Final), Refusal> {
    let fields = Fields::read(body)?;
    let status = fields
        .name("status")?
        .and_then(|word| Status::parse_exactly(&word));
    let finished = match status {
        Some(Status::Succeeded) => Final::Succeeded(FinalSuccess {
            result: fields.raw("result"),
            stored_at: stored_at(&fields),
            actors: fields.actors("actors")?.unwrap_or_default(),
            actor_index: fields.integer("current_actor_idx")?,
            actor: actor(&fields)?,
        }),
        Some(Status::Failed) => Final::Failed(FinalFailure {
            error: fields.words("error")?.filter(|error| !error.is_empty()),
            details: fields.raw("error_details"),
            result: fields.raw("result"),
            stored_at: stored_at(&fields),
            actors: fields.actors("actors")?.unwrap_or_default(),
            actor_index: fields.integer("current_actor_idx")?,
            actor: actor(&fields)?,
        }),
        _ => return Err(Refusal::bad("Invalid status: must be 'succeeded' or 'failed'")),
    };
    Ok((attempt(&fields)?, finished))
}

/// A body of `POST /envelopes`: a child of a fan-out, which is recorded and never published (contract gateway §4.4).
pub(super) fn child(body: &Bytes, now: DateTime<Utc>) -> Result<NewEnvelope, Refusal> {
    let fields = Fields::read(body)?;
    let missing = |name: &str| Refusal::bad(format!("Missing required field: {name}"));
    let id = fields
        .name("id")?
        .filter(|id| !id.is_empty())
        .ok_or_else(|| missing("id"))?;
    if !is_possible(&id) {
        return Err(invalid("id", "expected at most 1024 bytes without a slash"));
    }
    let parent_id = fields.name("parent_id")?.filter(|parent| !parent.is_empty());
    if parent_id.as_deref().is_some_and(|parent| !is_possible(parent)) {
        return Err(invalid(
            "parent_id",
            "expected at most 1024 bytes without a slash",
        ));
    }
    if parent_id.as_deref() == Some(id.as_str()) {
        return Err(invalid("parent_id", "an envelope is not its own child"));
    }
    Ok(NewEnvelope {
        id,
        parent_id,
        tenant: None,
        tool: None,
        status: Status::Running,
        actors: fields.actors("actors")?.ok_or_else(|| missing("actors"))?,
        route_current: fields.integer("current")?.unwrap_or_default(),
        route_metadata: None,
        headers: None,
        payload: None,
        timeout: None,
        deadline: None,
        created_at: now,
        idempotency: None,
        outbox: None,
    })
}

/// Which attempt at the envelope is meant; the original knows none.
fn attempt(fields: &Fields) -> Result<u32, Refusal> {
    let attempt = fields.integer("attempt")?.unwrap_or_default();
    u32::try_from(attempt).map_err(|_| invalid("attempt", "expected a number from 0 to 2^32-1"))
}

fn actor(fields: &Fields) -> Result<Option<String>, Refusal> {
    Ok(fields.name("current_actor_name")?.filter(|name| !name.is_empty()))
}

/// `metadata.s3_uri`, if it is a string; anything else there is the end actor's own.
fn stored_at(fields: &Fields) -> Option<String> {
    let metadata = fields.object("metadata").ok().flatten()?;
    let uri: RawJson = metadata.get("s3_uri")?;
    as_words(&uri).filter(|uri| !uri.is_empty())
}

/// Words of a status that a final report may have: unlike in databases, their letter case counts.
trait ParseExactly: Sized {
    fn parse_exactly(word: &str) -> Option<Self>;
}

impl ParseExactly for Status {
    fn parse_exactly(word: &str) -> Option<Self> {
        Self::parse(word).filter(|status| status.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn progress_of_an_original_sidecar() {
        let body = bytes(
            r#"{"id":"ignored","actors":["a","b"],"current_actor_idx":1,"status":"completed","message":"Completed processing in 5ms","duration_ms":5,"message_size_kb":0.5}"#,
        );
        let (attempt, read) = progress(&HeaderMap::new(), &body).unwrap();
        let expected = Progress {
            phase: Some(Phase::Completed),
            actors: vec!["a".into(), "b".into()],
            actor_index: 1,
            message: Some("Completed processing in 5ms".into()),
            exact: false,
        };
        assert_eq!((attempt, read), (0, expected));
    }

    #[test]
    fn progress_may_lack_everything_and_say_unknown_words() {
        let exact = HeaderMap::from_iter([(INDEX, "exact".parse().unwrap())]);
        let (_, read) = progress(&exact, &bytes(r#"{"status":"weird","message":""}"#)).unwrap();
        let expected = Progress {
            exact: true,
            ..Progress::default()
        };
        assert_eq!(read, expected);
    }

    #[test]
    fn progress_of_wrong_types_is_refused() {
        for body in [
            r#"{"current_actor_idx":9223372036854775808}"#,
            r#"{"current_actor_idx":-9223372036854775809}"#,
            r#"{"current_actor_idx":1e3}"#,
            r#"{"current_actor_idx":"1"}"#,
            r#"{"actors":"a"}"#,
            r#"{"actors":[1]}"#,
            r#"{"actors":["\u0000"]}"#,
            r#"{"status":5}"#,
            r#"{"message":{}}"#,
            r#"{"attempt":-1}"#,
        ] {
            let text = progress(&HeaderMap::new(), &bytes(body)).unwrap_err().text();
            assert!(text.starts_with("Invalid request body\n"), "{body}: {text}");
        }
        let far = bytes(r#"{"current_actor_idx":-9223372036854775808}"#);
        assert_eq!(progress(&HeaderMap::new(), &far).unwrap().1.actor_index, i64::MIN);
    }

    #[test]
    fn a_success_keeps_its_result_and_says_where_it_is_stored() {
        let body = bytes(
            r#"{"id":"x","status":"succeeded","progress":1.0,"result":{"n":12345678901234567890,"z":"\u0000"},"metadata":{"s3_uri":"s3://b/k"},"timestamp":"2026"}"#,
        );
        let (_, Final::Succeeded(read)) = finished(&body).unwrap() else {
            panic!("a success");
        };
        assert_eq!(
            read.result.unwrap().as_str(),
            r#"{"n":12345678901234567890,"z":"\u0000"}"#
        );
        assert_eq!(read.stored_at.as_deref(), Some("s3://b/k"));
        let odd = bytes(r#"{"status":"succeeded","metadata":{"s3_uri":5},"result":null}"#);
        assert_eq!(
            finished(&odd).unwrap().1,
            Final::Succeeded(FinalSuccess::default())
        );
    }

    #[test]
    fn a_failure_keeps_its_details() {
        let body = bytes(
            r#"{"status":"failed","error":"boom \ud800","error_details":{"code": 1.0},"actors":["a"],"current_actor_idx":0,"current_actor_name":"a"}"#,
        );
        let (_, Final::Failed(read)) = finished(&body).unwrap() else {
            panic!("a failure");
        };
        assert_eq!(read.error.as_deref(), Some("boom \u{fffd}"));
        assert_eq!(read.details.unwrap().as_str(), r#"{"code": 1.0}"#);
        assert_eq!((read.actor_index, read.actor.as_deref()), (Some(0), Some("a")));
    }

    #[test]
    fn only_two_words_are_final() {
        for body in [
            r#"{"status":"running"}"#,
            r#"{"status":"Succeeded"}"#,
            "{}",
            r#"{"status":""}"#,
        ] {
            let text = finished(&bytes(body)).unwrap_err().text();
            assert_eq!(
                text, "Invalid status: must be 'succeeded' or 'failed'\n",
                "{body}"
            );
        }
    }

    #[test]
    fn a_child_is_running_and_without_a_message_to_publish() {
        let now = Utc::now();
        let read = child(
            &bytes(r#"{"id":"e-1","parent_id":"e","actors":["a"],"current":1}"#),
            now,
        )
        .unwrap();
        assert_eq!((read.id.as_str(), read.parent_id.as_deref()), ("e-1", Some("e")));
        assert_eq!(
            (read.status, read.route_current, read.outbox),
            (Status::Running, 1, None)
        );
        let orphan = child(&bytes(r#"{"id":"e","parent_id":"","actors":[]}"#), now).unwrap();
        assert_eq!((orphan.parent_id, orphan.actors), (None, vec![]));
    }

    #[test]
    fn a_child_without_an_id_that_can_be_one_is_refused() {
        for (body, expected) in [
            ("{}", "Missing required field: id\n"),
            (r#"{"id":"","actors":[]}"#, "Missing required field: id\n"),
            (r#"{"id":"x"}"#, "Missing required field: actors\n"),
            (r#"{"id":"a/b","actors":[]}"#, "Invalid request body\nid: "),
            (r#"{"id":"a\u0000","actors":[]}"#, "Invalid request body\nid: "),
            (
                r#"{"id":"a","parent_id":"/","actors":[]}"#,
                "Invalid request body\nparent_id: ",
            ),
            (
                r#"{"id":"a","parent_id":"a","actors":[]}"#,
                "Invalid request body\nparent_id: an envelope is not its own child",
            ),
            (r#"{"id":7,"actors":[]}"#, "Invalid request body\nid: "),
        ] {
            let text = child(&bytes(body), Utc::now()).unwrap_err().text();
            assert!(text.starts_with(expected), "{body}: {text}");
        }
    }
}
