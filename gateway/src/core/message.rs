//! From a checked call to the new envelope and the message that starts it. Pure.

use std::time::Duration;

use asya_gateway_store::{Idempotency, NewEnvelope, OutboxEntry, OutboxMessage, Status};
use asya_manifest::Tool;
use asya_runtime_protocol::{Envelope, RawJson, RawObject, Route, message_id};
use chrono::{DateTime, SecondsFormat, SubsecRound as _, TimeDelta, Utc};
use sha2::{Digest as _, Sha256};

/// Beyond this a limit is none: deadlines must stay writable as RFC 3339.
const LONGEST: Duration = Duration::from_hours(24 * 365 * 100);

/// What a call is made into.
pub(super) struct Order<'a> {
    pub(super) id: String,
    pub(super) tenant: Option<String>,
    pub(super) tool: &'a Tool,
    pub(super) payload: RawJson,
    pub(super) headers: Option<RawObject>,
    pub(super) idempotency: Option<Idempotency>,
    pub(super) now: DateTime<Utc>,
}

impl Order<'_> {
    /// The envelope, pending, with its first message in the outbox.
    pub(super) fn envelope(self) -> NewEnvelope {
        // Both stores keep microseconds.
        let created_at = self.now.trunc_subsecs(6);
        let timeout = self.tool.timeout.filter(|timeout| *timeout <= LONGEST);
        let deadline = timeout
            .and_then(|timeout| TimeDelta::from_std(timeout).ok())
            .and_then(|timeout| created_at.checked_add_signed(timeout));
        let headers = self.headers.filter(|headers| !headers.is_empty());
        let mut route = Route::new(self.tool.route().iter().cloned());
        route.metadata.insert("job_id", &RawJson::from_text(&self.id));
        let metadata = route.metadata.clone().into_raw();
        let message = Envelope {
            id: self.id.clone(),
            route,
            headers: headers.clone(),
            payload: Some(self.payload.clone()),
            deadline: deadline.map(|deadline| deadline.to_rfc3339_opts(SecondsFormat::Secs, true)),
            ..Envelope::default()
        };
        let outbox = OutboxMessage {
            actor: self.tool.route().first().cloned().unwrap_or_default(),
            message_id: message_id(&self.id, 0, 1, 0),
            body: message.to_bytes(),
        };
        NewEnvelope {
            id: self.id,
            parent_id: None,
            tenant: self.tenant,
            tool: Some(self.tool.name.clone()),
            status: Status::Pending,
            actors: self.tool.route().to_vec(),
            route_current: 0,
            route_metadata: Some(metadata),
            headers: headers.map(RawObject::into_raw),
            payload: Some(self.payload),
            timeout,
            deadline,
            created_at,
            idempotency: self.idempotency,
            outbox: Some(outbox),
        }
    }
}

/// The entry of the outbox that a new envelope has, as a claim would return it.
pub(super) fn entry(new: &NewEnvelope) -> Option<OutboxEntry> {
    Some(OutboxEntry {
        envelope_id: new.id.clone(),
        attempt: 1,
        message: new.outbox.clone()?,
        tries: 0,
        created_at: new.created_at,
        deadline: new.deadline,
    })
}

/// Checks an idempotency key and notes what it stands for: the tool and the arguments as they were sent, so that
/// changed defaults do not turn a repeat into another request.
pub(super) fn idempotency(key: String, tool: &str, arguments: &str) -> Result<Idempotency, &'static str> {
    match key.len() {
        0 => return Err("is empty; send a text that is unique for the request, or none"),
        1..=255 => {}
        _ => return Err("is longer than 255 bytes"),
    }
    if key.chars().any(char::is_control) {
        return Err("has control characters");
    }
    let mut hash = Sha256::new();
    hash.update(tool.len().to_le_bytes());
    hash.update(tool);
    hash.update(arguments);
    let fingerprint = hash.finalize().into();
    Ok(Idempotency { key, fingerprint })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use asya_manifest::Tools;

    use super::*;

    fn tool(yaml: &str) -> Tool {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("tools.yaml");
        fs::write(
            &file,
            format!("tools:\n- {{name: t, route: [ocr, 'a\"b'], {yaml}}}\n"),
        )
        .unwrap();
        Tools::load(&file).unwrap().tools.remove(0)
    }

    fn order(tool: &Tool, payload: &'static str) -> NewEnvelope {
        Order {
            id: "e1".to_owned(),
            tenant: Some("acme".to_owned()),
            tool,
            payload: RawJson::parse(payload).unwrap(),
            headers: None,
            idempotency: None,
            now: DateTime::from_timestamp(1_790_000_000, 123_456_789).unwrap(),
        }
        .envelope()
    }

    fn body(new: &NewEnvelope) -> &str {
        std::str::from_utf8(&new.outbox.as_ref().unwrap().body).unwrap()
    }

    #[test]
    fn the_message_has_the_members_of_the_contract_in_their_order() {
        let new = order(
            &tool("timeout: 60"),
            r#"{"n" : 12345678901234567890,"x":1.0,"z":"\u0000\ud800"}"#,
        );
        assert_eq!(
            body(&new),
            r#"{"id":"e1","route":{"actors":["ocr","a\"b"],"current":0,"metadata":{"job_id":"e1"}},"#
                .to_owned()
                + r#""payload":{"n" : 12345678901234567890,"x":1.0,"z":"\u0000\ud800"},"deadline":"2026-09-21T14:14:20Z"}"#
        );
        let outbox = new.outbox.as_ref().unwrap();
        assert_eq!(
            (outbox.actor.as_str(), outbox.message_id.as_str()),
            ("ocr", "e1/0/1/0")
        );
        assert_eq!(new.deadline.unwrap() - new.created_at, TimeDelta::seconds(60));
        assert_eq!(new.created_at.timestamp_subsec_nanos(), 123_456_000);
        assert_eq!(new.route_metadata.unwrap().as_str(), r#"{"job_id":"e1"}"#);
        assert_eq!(
            (new.status, new.tenant.as_deref()),
            (Status::Pending, Some("acme"))
        );
    }

    #[test]
    fn a_tool_without_a_limit_makes_envelopes_without_a_deadline() {
        for yaml in ["timeout: 0", "timeout: 4000000000"] {
            let new = order(&tool(yaml), "null");
            assert_eq!((new.timeout, new.deadline), (None, None), "{yaml}");
            assert!(!body(&new).contains("deadline"), "{}", body(&new));
            assert!(body(&new).contains(r#""payload":null"#));
        }
    }

    #[test]
    fn headers_travel_between_route_and_payload_and_empty_ones_do_not() {
        let tool = tool("timeout: 0");
        let with = |headers: &'static str| {
            Order {
                id: "e1".to_owned(),
                tenant: None,
                tool: &tool,
                payload: RawJson::null(),
                headers: Some(RawObject::try_from(RawJson::parse(headers).unwrap()).unwrap()),
                idempotency: None,
                now: Utc::now(),
            }
            .envelope()
        };
        let new = with(r#"{"traceparent":"00-1-2-01"}"#);
        assert!(
            body(&new).contains(r#"}},"headers":{"traceparent":"00-1-2-01"},"payload":null}"#),
            "{}",
            body(&new)
        );
        assert_eq!(new.headers.unwrap().as_str(), r#"{"traceparent":"00-1-2-01"}"#);
        assert_eq!(with("{ }").headers, None);
    }

    #[test]
    fn an_idempotency_key_stands_for_tool_and_arguments() {
        let print = |tool, arguments| idempotency("k".to_owned(), tool, arguments).unwrap().fingerprint;
        assert_eq!(print("a", "{}"), print("a", "{}"));
        assert_ne!(print("a", "{}"), print("a", "{ }"));
        assert_ne!(print("ab", "c"), print("a", "bc"));
        for bad in [
            String::new(),
            "x".repeat(256),
            "a\nb".to_owned(),
            "a\0".to_owned(),
        ] {
            assert!(idempotency(bad.clone(), "a", "{}").is_err(), "{bad:?}");
        }
    }
}
