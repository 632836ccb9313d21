//! Streams for clients: what happened to envelopes, then what happens.
//!
//! A watcher is asked for its next message when the connection has room for it. What it has not read yet lies in the
//! store, not here: a slow watcher holds a few positions and one message, and misses nothing.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use asya_gateway_store::{Filter, Key, StoreError, Update};
use asya_proto::status::v1::{
    CaughtUp, Envelope, EnvelopeIds, WatchEnvelopesRequest, WatchEnvelopesResponse, watch_envelopes_request,
    watch_envelopes_response,
};
use futures::stream::{self, BoxStream, SelectAll, StreamExt as _, TryStreamExt as _};
use tonic::Status;

use super::convert::{self, is_full};
use super::envelopes::{page, question};
use super::errors;
use super::token::{self, Places, Question};
use crate::auth::Caller;
use crate::core::{Feed, Gateway, LookupError};

/// Most envelopes of one watch by ids.
pub(super) const MOST_IDS: usize = 1000;
/// Watches that are opened at the same time.
const OPENED_AT_ONCE: usize = 16;
/// Envelopes of the present state that are read at once.
const SNAPSHOT_PAGE: u32 = 100;

type Answers = BoxStream<'static, Result<WatchEnvelopesResponse, Status>>;
type Event = watch_envelopes_response::Event;

/// Begins a watch.
pub(super) async fn open(
    gateway: Gateway,
    caller: Caller,
    request: WatchEnvelopesRequest,
) -> Result<Answers, Status> {
    let full = is_full(request.view());
    let cursor = request.after_cursor;
    match request.target {
        None => Err(Status::invalid_argument("target: neither ids nor filter")),
        Some(watch_envelopes_request::Target::Ids(ids)) => by_ids(gateway, caller, ids, &cursor, full).await,
        Some(watch_envelopes_request::Target::Filter(asked)) => {
            let question = question(&asked);
            let after = token::read_feed_cursor(question, &cursor)
                .map_err(|error| errors::token("after_cursor", error))?;
            let filter = convert::filter(asked).map_err(Status::invalid_argument)?;
            let feed = gateway.feed(&caller, filter.clone(), after).await;
            let feed = feed.map_err(|error| errors::lookup(&error))?;
            let snapshot = after.is_none().then(|| Snapshot {
                caller,
                filter,
                after: None,
                ready: VecDeque::new(),
                is_read: false,
            });
            let watch = ByFilter {
                gateway,
                question,
                full,
                snapshot,
                feed,
            };
            Ok(stream::try_unfold(watch, |mut watch| async {
                let message = watch.next().await?;
                Ok(Some((message, watch)))
            })
            .boxed())
        }
    }
}

// ---- by ids ----

/// Which envelope, and its next update; `None` for the end of its history.
type Tagged = (usize, Option<Result<Arc<Update>, StoreError>>);

struct ByIds {
    gateway: Gateway,
    question: Question,
    full: bool,
    watches: SelectAll<BoxStream<'static, Tagged>>,
    places: Places,
}

async fn by_ids(
    gateway: Gateway,
    caller: Caller,
    asked: EnvelopeIds,
    cursor: &str,
    full: bool,
) -> Result<Answers, Status> {
    let ids = distinct(asked.ids)?;
    let question = Question::of(&EnvelopeIds { ids: ids.clone() });
    let places = token::read_ids_cursor(question, ids.len(), cursor)
        .map_err(|error| errors::token("after_cursor", error))?;
    let places = places.unwrap_or_else(|| Places {
        seen: vec![0; ids.len()],
        ended: Vec::new(),
    });
    let watches = stream::iter(still_open(ids, &places))
        .map(|(position, id, after)| {
            let (gateway, caller) = (&gateway, &caller);
            async move {
                let watch = gateway.watch(caller, &id, after).await.map_err(|error| {
                    let status = errors::lookup(&error);
                    Status::new(status.code(), format!("{}: {id:?}", status.message()))
                })?;
                let updates = watch.into_stream().map(Some).chain(stream::iter([None]));
                Ok::<_, Status>(updates.map(move |update| (position, update)).boxed())
            }
        })
        .buffer_unordered(OPENED_AT_ONCE)
        .try_collect::<SelectAll<_>>()
        .await?;
    let watch = ByIds {
        gateway,
        question,
        full,
        watches,
        places,
    };
    Ok(stream::try_unfold(watch, |mut watch| async {
        let message = watch.next().await?;
        Ok(message.map(|message| (message, watch)))
    })
    .boxed())
}

/// The ids, each once.
fn distinct(ids: Vec<String>) -> Result<Vec<String>, Status> {
    if ids.is_empty() || ids.len() > MOST_IDS {
        let problem = format!(
            "ids.ids: {} of them, but 1 to {MOST_IDS} can be watched",
            ids.len()
        );
        return Err(Status::invalid_argument(problem));
    }
    if ids.iter().any(String::is_empty) {
        return Err(Status::invalid_argument("ids.ids: an empty id"));
    }
    let mut known = HashSet::new();
    Ok(ids.into_iter().filter(|id| known.insert(id.clone())).collect())
}

/// What is still to be watched: position, id, and after which update.
fn still_open(ids: Vec<String>, places: &Places) -> Vec<(usize, String, Option<i64>)> {
    ids.into_iter()
        .enumerate()
        .filter(|(position, _)| !places.has_ended(*position))
        .map(|(position, id)| {
            let seen = places.seen.get(position).copied().filter(|seen| *seen > 0);
            (position, id, seen)
        })
        .collect()
}

impl ByIds {
    /// The next message; `None` after all are final.
    async fn next(&mut self) -> Result<Option<WatchEnvelopesResponse>, Status> {
        let draining = self.gateway.draining();
        let (position, update) = loop {
            let next = tokio::select! {
                next = self.watches.next() => next,
                () = draining.cancelled() => return Err(errors::closing()),
            };
            match next {
                None => return Ok(None),
                Some((position, Some(update))) => {
                    break (position, update.map_err(|error| errors::store(&error))?);
                }
                Some((position, None)) if self.places.has_ended(position) => {}
                // It ended after the cursor, and what happened then is deleted.
                Some((_, None)) => return Err(errors::lookup(&LookupError::HistoryGone)),
            }
        };
        if let Some(seen) = self.places.seen.get_mut(position) {
            // A watch that does not find its place starts at the beginning, or with the end as the record tells it.
            if *seen > 0 && update.id <= *seen {
                return Err(errors::lookup(&LookupError::HistoryGone));
            }
            *seen = update.id;
        }
        if update.is_final() {
            self.places.ended.extend(u32::try_from(position));
        }
        Ok(Some(WatchEnvelopesResponse {
            cursor: token::ids_cursor(self.question, &self.places),
            event: Some(Event::Update(convert::update(&update, self.full))),
        }))
    }
}

// ---- by filter ----

struct ByFilter {
    gateway: Gateway,
    question: Question,
    full: bool,
    /// `None` once the present state was told.
    snapshot: Option<Snapshot>,
    /// Begins where the present state was not yet read: what is in both comes twice, nothing is missed.
    feed: Feed,
}

/// The present state, on its way.
struct Snapshot {
    caller: Caller,
    filter: Filter,
    after: Option<Key>,
    ready: VecDeque<Envelope>,
    is_read: bool,
}

impl ByFilter {
    async fn next(&mut self) -> Result<WatchEnvelopesResponse, Status> {
        let draining = self.gateway.draining();
        tokio::select! {
            next = Self::step(&self.gateway, self.question, self.full, &mut self.snapshot, &mut self.feed) => next,
            () = draining.cancelled() => Err(errors::closing()),
        }
    }

    async fn step(
        gateway: &Gateway,
        question: Question,
        full: bool,
        snapshot: &mut Option<Snapshot>,
        feed: &mut Feed,
    ) -> Result<WatchEnvelopesResponse, Status> {
        if let Some(present) = snapshot {
            if let Some(envelope) = present.next(gateway, full).await? {
                // Whoever stops in the middle of it must begin anew.
                return Ok(message(String::new(), Event::Snapshot(envelope)));
            }
            *snapshot = None;
            let cursor = token::feed_cursor(question, feed.cursor());
            return Ok(message(cursor, Event::CaughtUp(CaughtUp {})));
        }
        let entry = feed.next().await.map_err(|error| errors::store(&error))?;
        let cursor = token::feed_cursor(question, entry.cursor);
        Ok(message(
            cursor,
            Event::Update(convert::update(&entry.update, full)),
        ))
    }
}

impl Snapshot {
    async fn next(&mut self, gateway: &Gateway, full: bool) -> Result<Option<Envelope>, Status> {
        while self.ready.is_empty() && !self.is_read {
            let read = page(
                gateway,
                &self.caller,
                &self.filter,
                SNAPSHOT_PAGE,
                self.after.clone(),
                full,
            )
            .await;
            let (envelopes, next) = read.map_err(|error| errors::lookup(&error))?;
            self.is_read = next.is_none();
            self.after = next;
            self.ready = envelopes.into();
        }
        Ok(self.ready.pop_front())
    }
}

fn message(cursor: String, event: Event) -> WatchEnvelopesResponse {
    WatchEnvelopesResponse {
        cursor,
        event: Some(event),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ids(count: usize) -> Vec<String> {
        (0..count).map(|n| n.to_string()).collect()
    }

    #[test]
    fn between_one_and_a_thousand_ids_can_be_watched_and_each_counts_once() {
        for wrong in [vec![], ids(1001), vec!["a".to_owned(), String::new()]] {
            assert_eq!(distinct(wrong).unwrap_err().code(), tonic::Code::InvalidArgument);
        }
        assert_eq!(distinct(ids(1000)).unwrap().len(), 1000);
        let doubled = ["b", "a", "b"].map(str::to_owned).to_vec();
        assert_eq!(distinct(doubled).unwrap(), ["b", "a"]);
    }

    #[test]
    fn what_has_ended_is_not_watched_again() {
        let places = Places {
            seen: vec![7, 0, 9],
            ended: vec![0],
        };
        let open = still_open(ids(3), &places);
        assert_eq!(open, [(1, "1".to_owned(), None), (2, "2".to_owned(), Some(9))]);
    }
}
