//! Failures: as a sidecar tells them, as the store keeps them (contract gateway §4.3), as a client reads them.

use asya_proto::status::v1::Failure;
use asya_runtime_protocol::{RawJson, RawObject};
use serde::Serialize;

use super::{clean, index, non_empty};

/// What the store keeps as details of a failure.
#[derive(Serialize)]
struct Details<'a> {
    #[serde(skip_serializing_if = "str::is_empty")]
    message: &'a str,
    #[serde(skip_serializing_if = "str::is_empty", rename = "type")]
    exception_type: &'a str,
    #[serde(skip_serializing_if = "str::is_empty")]
    traceback: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    original_payload: Option<&'a RawJson>,
}

/// Details as JSON: the text that came along, else the single fields; `None` if nothing is known.
pub(super) fn details(
    failure: &Failure,
    original_payload: Option<&RawJson>,
) -> Result<Option<RawJson>, serde_json::Error> {
    if let Some(text) = &failure.details_json {
        return RawJson::parse(text.clone()).map(Some);
    }
    let details = Details {
        message: &failure.message,
        exception_type: &failure.exception_type,
        traceback: &failure.traceback,
        original_payload,
    };
    let text = RawJson::from_value(&details)?;
    Ok((text.as_str() != "{}").then_some(text))
}

/// One line that says what went wrong.
pub(super) fn words(failure: &Failure) -> String {
    let said = [&failure.message, &failure.error];
    let said = said.into_iter().find(|text| !text.is_empty());
    clean(said.cloned().unwrap_or_else(|| "failed".to_owned()))
}

/// A failure that is retried, as the store keeps it.
#[derive(Serialize)]
struct Retried<'a> {
    error: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    details: Option<RawJson>,
    #[serde(skip_serializing_if = "str::is_empty")]
    failed_actor: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    failed_actor_idx: Option<u32>,
}

/// The structure of a failure that is retried; reads back with [`read`].
pub(super) fn retried(failure: &Failure) -> Result<RawJson, serde_json::Error> {
    RawJson::from_value(&Retried {
        error: &failure.error,
        details: details(failure, None)?,
        failed_actor: &failure.actor,
        failed_actor_idx: failure.actor_index,
    })
}

/// What is kept of a failure, for clients. `kept` is the object of contract gateway §4.3, or any other JSON.
pub(super) fn read(error: Option<&str>, kept: Option<&RawJson>) -> Failure {
    let mut failure = Failure {
        error: error.unwrap_or_default().to_owned(),
        ..Failure::default()
    };
    let Some(object) = kept.cloned().and_then(|raw| RawObject::try_from(raw).ok()) else {
        return failure;
    };
    // A result of the user's own may look like anything; the object of the contract repeats the error.
    let Some(told) = object.get("error").and_then(|raw| raw.to_text()) else {
        return failure;
    };
    if error.is_some_and(|error| error != told) {
        return failure;
    }
    failure.error = told;
    failure.actor = text_of(&object, "failed_actor");
    failure.actor_index = object
        .get("failed_actor_idx")
        .and_then(|raw| raw.to::<i64>().ok())
        .map(index);
    if let Some(details) = object.get("details") {
        if let Ok(details) = RawObject::try_from(details.clone()) {
            failure.message = text_of(&details, "message");
            failure.exception_type = text_of(&details, "type");
            failure.traceback = text_of(&details, "traceback");
        }
        failure.details_json = Some(details.as_str().to_owned());
    }
    failure
}

/// Like [`read`], for a failure that is retried: its words are not its code.
pub(super) fn read_retried(words: Option<&str>, kept: Option<&RawJson>) -> Failure {
    let mut failure = read(None, kept);
    if failure.error.is_empty() && failure.message.is_empty() {
        words.unwrap_or_default().clone_into(&mut failure.message);
    }
    failure
}

/// Where it failed: as the failure says, else as the route says.
pub(super) fn place(failure: &Failure, actors: &[String], current: u32) -> (Option<i64>, Option<String>) {
    let position = failure.actor_index.or_else(|| {
        (usize::try_from(current).is_ok_and(|current| current < actors.len())).then_some(current)
    });
    let named = non_empty(clean(failure.actor.clone())).or_else(|| {
        let position = usize::try_from(position?).ok()?;
        actors.get(position).cloned()
    });
    (position.map(i64::from), named)
}

fn text_of(object: &RawObject, key: &str) -> String {
    object.get(key).and_then(|raw| raw.to_text()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawJson {
        RawJson::parse(text.to_owned()).unwrap()
    }

    fn told() -> Failure {
        Failure {
            error: "processing_error".to_owned(),
            message: "no".to_owned(),
            exception_type: "shop.Broke".to_owned(),
            traceback: "line 1".to_owned(),
            actor: "b".to_owned(),
            actor_index: Some(1),
            details_json: None,
        }
    }

    #[test]
    fn details_are_the_text_that_came_or_are_made_of_the_fields() {
        let payload = raw(r#"{"n":1e400}"#);
        assert_eq!(
            details(&told(), Some(&payload)).unwrap().unwrap().as_str(),
            r#"{"message":"no","type":"shop.Broke","traceback":"line 1","original_payload":{"n":1e400}}"#
        );
        let exact = Failure {
            details_json: Some(r#" {"b": 1.0,"a":"\ud800"} "#.to_owned()),
            ..told()
        };
        assert_eq!(
            details(&exact, Some(&payload)).unwrap().unwrap().as_str(),
            r#"{"b": 1.0,"a":"\ud800"}"#
        );
        assert_eq!(details(&Failure::default(), None).unwrap(), None);
        let garbage = Failure {
            details_json: Some("{".to_owned()),
            ..told()
        };
        assert!(details(&garbage, None).is_err());
    }

    #[test]
    fn a_retried_failure_reads_back_as_it_was_told() {
        let read = read_retried(Some("no"), Some(&retried(&told()).unwrap()));
        assert_eq!(
            Failure {
                details_json: None,
                ..read
            },
            told()
        );
    }

    #[test]
    fn a_kept_failure_is_read_and_a_result_that_is_none_is_left_alone() {
        let kept = raw(
            r#"{"details":{"message":"no","type":"E"},"error":"x","failed_actor":"b","failed_actor_idx":1}"#,
        );
        let failure = read(Some("x"), Some(&kept));
        assert_eq!(
            (failure.message.as_str(), failure.exception_type.as_str()),
            ("no", "E")
        );
        assert_eq!((failure.actor.as_str(), failure.actor_index), ("b", Some(1)));
        assert_eq!(
            failure.details_json.as_deref(),
            Some(r#"{"message":"no","type":"E"}"#)
        );
        for other in [
            r#"{"error":"of the user","details":1}"#,
            "[]",
            "7",
            r#"{"error":7}"#,
        ] {
            let failure = read(Some("x"), Some(&raw(other)));
            assert_eq!(
                failure,
                Failure {
                    error: "x".to_owned(),
                    ..Failure::default()
                },
                "{other}"
            );
        }
    }

    #[test]
    fn where_it_failed_comes_from_the_failure_or_from_the_route() {
        let actors = ["a".to_owned(), "b".to_owned()];
        assert_eq!(place(&told(), &actors, 0), (Some(1), Some("b".to_owned())));
        assert_eq!(
            place(&Failure::default(), &actors, 0),
            (Some(0), Some("a".to_owned()))
        );
        assert_eq!(place(&Failure::default(), &actors, 2), (None, None));
        let far = Failure {
            actor_index: Some(u32::MAX),
            ..Failure::default()
        };
        assert_eq!(place(&far, &actors, 0), (Some(i64::from(u32::MAX)), None));
    }
}
