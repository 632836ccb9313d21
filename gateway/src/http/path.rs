//! The id of an envelope in a path.

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams};
use axum::http::request::Parts;

use super::refusal::Refusal;

/// Longest id, in bytes.
const LONGEST: usize = 1024;

/// Whether an envelope can have this id at all. Others are not looked for: PostgreSQL, for one, takes no NUL.
pub(super) fn is_possible(id: &str) -> bool {
    !id.is_empty() && id.len() <= LONGEST && !id.contains(['/', '\0'])
}

/// The id in a path, percent-decoded: any run of characters without a slash (contract gateway §4). One that no
/// envelope can have is answered like one that none has.
pub(super) struct EnvelopeId(pub(super) String);

impl<S: Send + Sync> FromRequestParts<S> for EnvelopeId {
    type Rejection = Refusal;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Refusal> {
        let params = RawPathParams::from_request_parts(parts, state).await;
        let id = params.ok().and_then(|params| {
            let mut values = params.iter().filter(|(name, _)| *name == "id");
            values.next().map(|(_, id)| id.to_owned())
        });
        // Empty, not UTF-8, or with an escaped slash, where the original would have found several segments.
        let Some(id) = id.filter(|id| !id.is_empty() && !id.contains('/')) else {
            let matched = parts.extensions.get::<MatchedPath>();
            return Err(malformed(matched.map_or("", MatchedPath::as_str)));
        };
        if !is_possible(&id) {
            return Err(Refusal::unknown_envelope());
        }
        Ok(Self(id))
    }
}

/// The refusal of a path below `/envelopes/` that names no envelope; it names what its last segment asks for.
pub(super) fn malformed(path: &str) -> Refusal {
    let last = path.rsplit('/').next().unwrap_or_default();
    Refusal::bad(match last {
        "stream" => "Invalid envelope stream path",
        "active" => "Invalid envelope active path",
        "progress" => "Invalid envelope progress path",
        "final" => "Invalid envelope final path",
        _ => "Invalid envelope path",
    })
    .because("expected /envelopes/{id}, /envelopes/{id}/stream, …, with an id without slashes, percent-encoded as UTF-8")
}
