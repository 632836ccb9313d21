//! Which sidecar processes have a stream: the newest one of each counts, and what it said before is remembered.
//!
//! The memory belongs to this replica and may be lost: it only saves repeats of what the store cannot recognise as
//! repeats (items, retries). Finals are never judged by it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedMutexGuard, watch};
use tonic::Status;

/// Processes to remember. Those without a stream are forgotten when there are more.
const MOST: usize = 10_000;

/// All seats of this replica.
#[derive(Debug, Default)]
pub(super) struct Seats {
    seats: Mutex<HashMap<String, Seat>>,
}

#[derive(Debug, Clone)]
struct Seat {
    /// Which of the streams of this process is the newest.
    newest: Arc<watch::Sender<u64>>,
    /// Held by the stream that is served; inside, the last sequence number that is stored.
    stored: Arc<tokio::sync::Mutex<u64>>,
}

/// The right of one stream to be served.
#[derive(Debug)]
pub(super) struct Sitting {
    /// The last sequence number of this process that is stored, as far as this replica knows.
    pub(super) stored: OwnedMutexGuard<u64>,
    newest: watch::Receiver<u64>,
    own: u64,
}

impl Seats {
    /// Takes the seat of a process. The stream that has it is told to go, and what it began is waited for, so that its
    /// reports are stored before those of this one.
    pub(super) async fn take(&self, instance: &str, patience: Duration) -> Result<Sitting, Status> {
        let (seat, newest) = self.seat(instance);
        let mut own = 0;
        seat.newest.send_modify(|newest| {
            *newest += 1;
            own = *newest;
        });
        let Ok(stored) = tokio::time::timeout(patience, seat.stored.lock_owned()).await else {
            return Err(Status::unavailable(
                "an earlier stream of this process has not ended yet; try again",
            ));
        };
        Ok(Sitting { stored, newest, own })
    }

    /// The seat of a process. It is not forgotten as long as the receiver lives.
    fn seat(&self, instance: &str) -> (Seat, watch::Receiver<u64>) {
        let mut seats = self.seats.lock().unwrap_or_else(PoisonError::into_inner);
        if seats.len() >= MOST {
            seats.retain(|name, seat| name == instance || seat.newest.receiver_count() > 0);
        }
        let seat = seats.entry(instance.to_owned()).or_insert_with(|| Seat {
            newest: Arc::new(watch::Sender::new(0)),
            stored: Arc::default(),
        });
        (seat.clone(), seat.newest.subscribe())
    }
}

impl Sitting {
    /// Resolves when a newer stream of the same process has come.
    pub(super) async fn displaced(&mut self) -> Status {
        let own = self.own;
        if self.newest.wait_for(|newest| *newest != own).await.is_err() {
            // The seat is forgotten only when nobody has it.
            std::future::pending::<()>().await;
        }
        Status::aborted("a newer stream of the same instance_id has taken over")
    }
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    const SOON: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(30);

    #[tokio::test]
    async fn the_newest_wins_and_begins_when_the_older_has_ended() {
        let seats = Arc::new(Seats::default());
        let mut old = seats.take("a", LONG).await.unwrap();
        let newer = tokio::spawn({
            let seats = Arc::clone(&seats);
            async move { seats.take("a", LONG).await }
        });
        assert_eq!(old.displaced().await.code(), Code::Aborted);
        assert!(!newer.is_finished());
        *old.stored = 7;
        drop(old);
        let mut newer = newer.await.unwrap().unwrap();
        assert_eq!(*newer.stored, 7, "what was stored is remembered");
        assert!(tokio::time::timeout(SOON, newer.displaced()).await.is_err());
    }

    #[tokio::test]
    async fn processes_do_not_disturb_each_other() {
        let seats = Seats::default();
        let mut a = seats.take("a", LONG).await.unwrap();
        let _b = seats.take("b", LONG).await.unwrap();
        assert!(tokio::time::timeout(SOON, a.displaced()).await.is_err());
    }

    #[tokio::test]
    async fn a_stream_that_hangs_does_not_hold_the_newer_one_for_ever() {
        let seats = Seats::default();
        let _old = seats.take("a", LONG).await.unwrap();
        assert_eq!(seats.take("a", SOON).await.unwrap_err().code(), Code::Unavailable);
    }

    #[tokio::test]
    async fn only_so_many_processes_are_remembered() {
        let seats = Seats::default();
        let held = seats.take("held", LONG).await.unwrap();
        for n in 0..MOST + 10 {
            drop(seats.take(&n.to_string(), LONG).await.unwrap());
        }
        let count = seats.seats.lock().unwrap().len();
        assert!(count <= MOST, "{count}");
        assert!(seats.seats.lock().unwrap().contains_key("held"));
        drop(held);
    }
}
