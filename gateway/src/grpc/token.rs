//! Page tokens and cursors: opaque texts that say where to go on, bound to what was asked for.
//!
//! They are no secrets and no rights: whoever makes one up gets nothing that the same question without it would not
//! give.

use asya_gateway_store::{FeedCursor, Key};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use prost::Message;
use sha2::{Digest as _, Sha256};

/// What a token is for; a token of one kind is none of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub(super) enum Purpose {
    EnvelopePage = 1,
    ActorPage = 2,
    IdsCursor = 3,
    FilterCursor = 4,
}

/// Which question a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Question([u8; 8]);

impl Question {
    /// The question that a message asks.
    pub(super) fn of(message: &impl Message) -> Self {
        let digest = Sha256::digest(message.encode_to_vec());
        let mut short = [0; 8];
        short.copy_from_slice(&digest[..8]);
        Self(short)
    }
}

/// Why a token leads nowhere.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum TokenError {
    #[error("not one that this gateway made")]
    Malformed,
    #[error("made for another question: send it with the same filter or ids as before")]
    OtherQuestion,
}

/// Writes a token.
fn seal(purpose: Purpose, question: Question, place: &[u8]) -> String {
    let mut bytes = Vec::with_capacity(9 + place.len());
    bytes.push(purpose as u8);
    bytes.extend(question.0);
    bytes.extend(place);
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Reads a token.
fn open(purpose: Purpose, question: Question, token: &str) -> Result<Vec<u8>, TokenError> {
    let mut bytes = URL_SAFE_NO_PAD.decode(token).map_err(|_| TokenError::Malformed)?;
    if bytes.len() < 9 || bytes[0] != purpose as u8 {
        return Err(TokenError::Malformed);
    }
    if bytes[1..9] != question.0 {
        return Err(TokenError::OtherQuestion);
    }
    bytes.drain(..9);
    Ok(bytes)
}

/// Where the next page of envelopes begins.
#[derive(Clone, PartialEq, Message)]
struct EnvelopePlace {
    #[prost(sint64, tag = "1")]
    created_us: i64,
    #[prost(string, tag = "2")]
    id: String,
}

/// The token of the page after `key`.
pub(super) fn page_token(question: Question, key: &Key) -> String {
    let place = EnvelopePlace {
        created_us: key.created_us,
        id: key.id.clone(),
    };
    seal(Purpose::EnvelopePage, question, &place.encode_to_vec())
}

/// Where a page begins; `None` for the first one.
pub(super) fn read_page_token(question: Question, token: &str) -> Result<Option<Key>, TokenError> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = open(Purpose::EnvelopePage, question, token)?;
    let place = EnvelopePlace::decode(place.as_slice()).map_err(|_| TokenError::Malformed)?;
    if place.id.contains('\0') {
        return Err(TokenError::Malformed);
    }
    Ok(Some(Key {
        created_us: place.created_us,
        id: place.id,
    }))
}

/// The token of the page of actors after this one.
pub(super) fn actor_token(question: Question, key: &asya_proto::status::v1::ActorKey) -> String {
    seal(Purpose::ActorPage, question, &key.encode_to_vec())
}

/// After which actor a page begins; `None` for the first one.
pub(super) fn read_actor_token(
    question: Question,
    token: &str,
) -> Result<Option<asya_proto::status::v1::ActorKey>, TokenError> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = open(Purpose::ActorPage, question, token)?;
    Message::decode(place.as_slice())
        .map(Some)
        .map_err(|_| TokenError::Malformed)
}

#[derive(Clone, PartialEq, Message)]
struct FeedPlace {
    #[prost(sint64, tag = "1")]
    transaction: i64,
    #[prost(sint64, tag = "2")]
    update: i64,
}

/// The cursor of a watch by filter.
pub(super) fn feed_cursor(question: Question, at: FeedCursor) -> String {
    let place = FeedPlace {
        transaction: at.transaction,
        update: at.update,
    };
    seal(Purpose::FilterCursor, question, &place.encode_to_vec())
}

/// Reads the cursor of a watch by filter.
pub(super) fn read_feed_cursor(question: Question, token: &str) -> Result<Option<FeedCursor>, TokenError> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = open(Purpose::FilterCursor, question, token)?;
    let place = FeedPlace::decode(place.as_slice()).map_err(|_| TokenError::Malformed)?;
    if place.transaction < 0 || place.update < 0 {
        return Err(TokenError::Malformed);
    }
    Ok(Some(FeedCursor {
        transaction: place.transaction,
        update: place.update,
    }))
}

/// How far a watch by ids is with each of its envelopes, in the order of the ids.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Places {
    /// The last update that was sent; 0 for none.
    #[prost(int64, repeated, tag = "1")]
    pub(super) seen: Vec<i64>,
    /// Positions in `seen` whose final update was sent.
    #[prost(uint32, repeated, tag = "2")]
    pub(super) ended: Vec<u32>,
}

impl Places {
    /// Whether the final update of the envelope at a position was sent.
    pub(super) fn has_ended(&self, position: usize) -> bool {
        self.ended.iter().any(|ended| *ended as usize == position)
    }
}

/// The cursor of a watch by ids.
pub(super) fn ids_cursor(question: Question, places: &Places) -> String {
    seal(Purpose::IdsCursor, question, &places.encode_to_vec())
}

/// Reads the cursor of a watch of `count` ids.
pub(super) fn read_ids_cursor(
    question: Question,
    count: usize,
    token: &str,
) -> Result<Option<Places>, TokenError> {
    if token.is_empty() {
        return Ok(None);
    }
    let place = open(Purpose::IdsCursor, question, token)?;
    let places = Places::decode(place.as_slice()).map_err(|_| TokenError::Malformed)?;
    let is_whole = places.seen.len() == count
        && places.seen.iter().all(|seen| *seen >= 0)
        && places.ended.iter().all(|position| (*position as usize) < count);
    if is_whole {
        Ok(Some(places))
    } else {
        Err(TokenError::Malformed)
    }
}

#[cfg(test)]
mod tests {
    use asya_proto::status::v1::{EnvelopeFilter, EnvelopeIds};

    use super::*;

    fn question(tool: &str) -> Question {
        Question::of(&EnvelopeFilter {
            tool: tool.to_owned(),
            ..Default::default()
        })
    }

    #[test]
    fn a_page_token_leads_back_and_belongs_to_its_filter() {
        let key = Key {
            created_us: -5,
            id: "x/ü".to_owned(),
        };
        let token = page_token(question("a"), &key);
        assert_eq!(read_page_token(question("a"), &token), Ok(Some(key)));
        assert_eq!(
            read_page_token(question("b"), &token),
            Err(TokenError::OtherQuestion)
        );
        assert_eq!(read_page_token(question("a"), ""), Ok(None));
    }

    #[test]
    fn one_kind_is_not_taken_for_another_and_garbage_for_none() {
        let asked = question("a");
        let cursor = feed_cursor(
            asked,
            FeedCursor {
                transaction: 3,
                update: 9,
            },
        );
        assert_eq!(read_page_token(asked, &cursor), Err(TokenError::Malformed));
        let read = read_feed_cursor(asked, &cursor).unwrap().unwrap();
        assert_eq!((read.transaction, read.update), (3, 9));
        for garbage in ["x", "%%%", "AQ", &cursor[..cursor.len() / 2], &"A".repeat(5000)] {
            assert!(read_feed_cursor(asked, garbage).is_err(), "{garbage}");
            assert!(read_page_token(asked, garbage).is_err(), "{garbage}");
            assert!(read_ids_cursor(asked, 1, garbage).is_err(), "{garbage}");
        }
        let negative = feed_cursor(
            asked,
            FeedCursor {
                transaction: -1,
                update: 9,
            },
        );
        assert_eq!(read_feed_cursor(asked, &negative), Err(TokenError::Malformed));
    }

    #[test]
    fn a_cursor_of_ids_fits_only_as_many_ids() {
        let asked = Question::of(&EnvelopeIds {
            ids: vec!["a".to_owned(), "b".to_owned()],
        });
        let places = Places {
            seen: vec![7, 0],
            ended: vec![0],
        };
        let token = ids_cursor(asked, &places);
        assert_eq!(read_ids_cursor(asked, 2, &token), Ok(Some(places)));
        assert_eq!(read_ids_cursor(asked, 3, &token), Err(TokenError::Malformed));
        let forged = ids_cursor(
            asked,
            &Places {
                seen: vec![1, 1],
                ended: vec![2],
            },
        );
        assert_eq!(read_ids_cursor(asked, 2, &forged), Err(TokenError::Malformed));
    }
}
