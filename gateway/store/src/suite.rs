//! The test suite that every store passes, against its real database.
//!
//! What it is: one function per promise of [`Store`], grouped as [`creating`], [`applying`], [`crowds`], [`listing`],
//! [`history`], [`outbox`], [`keeping`] and [`exact`]. What it is not: a test of how a database fails; those belong to
//! the tests of each store.
//!
//! A store implements [`Harness`] over a database of its own, empty and migrated, and calls
//! [`suite_tests!`](crate::suite_tests) in an integration test, which makes one test of each case:
//!
//! ```text
//! asya_gateway_store::suite_tests!(MyHarness::new().await);
//! ```
//!
//! Nothing sleeps to let something happen: what must happen is awaited, with [`PATIENCE`] as the limit.
#![expect(
    clippy::unwrap_used,
    clippy::missing_panics_doc,
    reason = "this module is test code that is compiled for several test crates: a panic is how a case fails"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_runtime_protocol::RawJson;
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use futures::future::BoxFuture;

use crate::state::microseconds;
use crate::{
    Applied, Created, Final, FinalSuccess, NewEnvelope, OutboxMessage, Phase, Progress, Record, Report,
    ReportEvent, Status, Store, Update, View,
};

pub mod applying;
pub mod creating;
pub mod crowds;
pub mod exact;
pub mod history;
pub mod keeping;
pub mod listing;
pub mod outbox;

/// How long a case waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Longer than any case.
const LONG: Duration = Duration::from_hours(1);

/// Gives a case a store to try.
pub trait Harness: Send + Sync {
    /// The store under test, over an empty database that no other case uses.
    fn store(&self) -> Arc<dyn Store>;

    /// Opens the same database once more, as a second process would.
    fn replica(&self) -> BoxFuture<'_, Arc<dyn Store>>;
}

/// Makes one `#[tokio::test]` of every case. The argument is an expression that makes a new
/// [`Harness`](crate::suite::Harness) and may use `.await`.
#[macro_export]
macro_rules! suite_tests {
    ($harness:expr) => {
        $crate::suite_tests!(@ $harness;
            creating: what_is_created_can_be_read, a_repeat_finds_what_is_there,
                the_same_id_for_something_else_is_a_conflict, a_child_that_moved_on_is_still_the_same,
                a_child_takes_after_its_parent, a_parent_may_come_last, an_unknown_parent_is_no_obstacle,
                an_idempotency_key_is_for_one_request_of_one_tenant, one_key_makes_one_envelope_in_a_crowd,
                odd_ids_are_ids, what_cannot_be_stored_is_refused, a_dropped_call_is_done_all_the_same;
            applying: answers_come_in_order, what_is_answered_is_what_is_stored,
                the_first_final_wins, repeats_within_a_batch_are_seen, other_attempts_change_nothing,
                a_result_stays_when_the_last_word_has_none, no_reports_no_answers, progress_is_kept_unrounded;
            crowds: many_writers_lose_nothing, one_final_wins_in_a_crowd, writers_on_two_replicas_lose_nothing;
            listing: pages_are_the_whole_in_order, each_filter_filters, filters_add_up,
                final_rows_match_by_outcome, children_are_counted_to_the_bottom, circles_of_parents_end,
                unfinished_ones_below_are_found, basic_views_leave_the_bulk;
            history: updates_resume_after_an_id, the_feed_is_the_history_of_all,
                the_feed_has_no_gaps_while_many_write, changes_are_told, replicas_hear_of_changes;
            outbox: what_is_created_waits_for_its_creator, a_lease_that_ran_out_is_anybodys,
                no_message_is_claimed_twice, a_confirmed_message_leaves, a_refused_message_fails_its_envelope,
                a_postponed_message_comes_later, what_is_final_is_not_published, depth_counts_what_waits,
                the_oldest_comes_first;
            keeping: what_has_expired_is_found, a_cancellation_is_found_from_below, cancellations_are_kept_until_the_deadline,
                history_is_cleaned_after_its_time, envelopes_are_cleaned_after_their_time,
                what_is_not_final_is_never_cleaned, one_leads, actors_are_kept_by_time, actors_are_retained,
                it_answers;
            exact: json_keeps_its_bytes, large_json_is_kept, texts_are_kept, long_routes_are_kept,
                bodies_are_bytes;
        );
    };
    (@ $harness:expr; $($module:ident : $($case:ident),+ ;)+) => {
        $(mod $module {
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $case() {
                    let harness = $harness;
                    $crate::suite::bounded($crate::suite::$module::$case(&harness)).await;
                }
            )+
        })+
    };
}

/// Runs a case for at most six times [`PATIENCE`].
pub async fn bounded(case: impl Future<Output = ()>) {
    tokio::time::timeout(6 * PATIENCE, case).await.unwrap();
}

/// Asks again until the answer is there.
async fn eventually<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let limit = Instant::now() + PATIENCE;
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(Instant::now() < limit, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// An instant that is the same in every run.
fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 123_456_000).unwrap()
}

fn now() -> DateTime<Utc> {
    microseconds(Utc::now())
}

fn raw(text: &str) -> RawJson {
    RawJson::parse(text.as_bytes().to_vec()).unwrap()
}

/// A call of a tool, with its message in the outbox.
fn call(id: &str) -> NewEnvelope {
    NewEnvelope {
        id: id.to_owned(),
        parent_id: None,
        tenant: None,
        tool: Some("tool".to_owned()),
        status: Status::Pending,
        actors: ["one", "two", "three"].map(String::from).to_vec(),
        route_current: 0,
        route_metadata: Some(raw(r#"{"job_id":1}"#)),
        headers: Some(raw(r#"{"traceparent":"00-1"}"#)),
        payload: Some(raw(r#"{"n":1}"#)),
        timeout: Some(Duration::from_mins(5)),
        deadline: Some(at(300)),
        created_at: at(0),
        idempotency: None,
        outbox: Some(OutboxMessage {
            actor: "one".to_owned(),
            message_id: format!("{id}/0/1/0"),
            body: Bytes::from(format!("body of {id}")),
        }),
    }
}

/// A child that a sidecar registers.
fn child(id: &str, parent: &str) -> NewEnvelope {
    NewEnvelope {
        id: id.to_owned(),
        parent_id: Some(parent.to_owned()),
        tenant: None,
        tool: None,
        status: Status::Running,
        actors: ["one", "two", "three"].map(String::from).to_vec(),
        route_current: 1,
        route_metadata: None,
        headers: None,
        payload: None,
        timeout: None,
        deadline: None,
        created_at: at(1),
        idempotency: None,
        outbox: None,
    }
}

fn report(id: &str, event: ReportEvent) -> Report {
    Report {
        envelope_id: id.to_owned(),
        attempt: 1,
        at: at(5),
        event,
    }
}

fn progress(id: &str, index: i64, phase: Phase) -> Report {
    let said = Progress {
        phase: Some(phase),
        actors: Vec::new(),
        actor_index: index,
        message: Some(format!("{} {index}", phase.as_str())),
        exact: true,
    };
    report(id, ReportEvent::Progress(said))
}

fn success(id: &str, result: &str) -> Report {
    let said = FinalSuccess {
        result: Some(raw(result)),
        ..FinalSuccess::default()
    };
    report(id, ReportEvent::Final(Final::Succeeded(said)))
}

fn cancelled(id: &str, reason: &str) -> Report {
    let reason = reason.to_owned();
    report(id, ReportEvent::Cancelled { reason })
}

async fn create(store: &dyn Store, new: NewEnvelope) -> Record {
    match store.create(new, LONG).await.unwrap() {
        Created::New(record) => *record,
        other => panic!("it is not new: {other:?}"),
    }
}

async fn apply_one(store: &dyn Store, report: Report) -> Applied {
    let mut answers = store.apply(vec![report]).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// Applies a report that must change something.
async fn change(store: &dyn Store, report: Report) -> (Record, Arc<Update>) {
    match apply_one(store, report).await {
        Applied::Changed { record, update } => (*record, update),
        other => panic!("it changed nothing: {other:?}"),
    }
}

async fn get(store: &dyn Store, id: &str) -> Record {
    store.get(id, View::Full).await.unwrap().unwrap()
}

/// The whole history of an envelope, in pages of three.
async fn updates(store: &dyn Store, id: &str) -> Vec<Update> {
    let mut all: Vec<Update> = Vec::new();
    loop {
        let after = all.last().map_or(0, |update| update.id);
        let page = store.updates(id, after, 3).await.unwrap();
        assert!(page.len() <= 3);
        if page.is_empty() {
            return all;
        }
        all.extend(page);
    }
}

/// A chain of numbers without apparent order, the same in every run.
struct Chance(u64);

impl Chance {
    /// A number below `limit`.
    fn below(&mut self, limit: usize) -> usize {
        // SplitMix64.
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^= mixed >> 31;
        usize::try_from(mixed % u64::try_from(limit).unwrap()).unwrap()
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for last in (1..items.len()).rev() {
            items.swap(last, self.below(last + 1));
        }
    }
}

/// Later than `at` by seconds.
fn after(at: DateTime<Utc>, seconds: i64) -> DateTime<Utc> {
    at + TimeDelta::seconds(seconds)
}
