//! Reports over one gRPC stream for each process (`asya.status.v1.EnvelopeStatus/Report`), where the gateway offers it.
//!
//! What it is: a [window](window) of numbered reports that are not acknowledged, and a [task](link) that keeps a stream
//! over which they go, in their order, and again after it broke. What it is not: it decides nothing about what is worth
//! telling; that stays with the backlogs, whatever the protocol.

mod dial;
pub(super) mod link;
mod parcel;
mod window;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use asya_proto::status::v1::ReportRefusalReason;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;

use super::bodies::Detail;
use super::client::Answer;
use super::note::Note;
use crate::report::FinalReport;
pub(in crate::gateway) use parcel::Fate;
use parcel::Parcel;
use window::{Refused, Why, Window};

/// The way over gRPC, whether it is open or not.
pub(super) struct Grpc {
    window: Arc<Window>,
    /// Chosen by chance for this process; sequence numbers count within it.
    instance: String,
    /// This side ends.
    closed: CancellationToken,
    hurry: CancellationToken,
    /// Longest time for an acknowledgement once there is a hurry.
    patience: Duration,
}

/// What became of an attempt to tell something.
pub(super) enum Told<T> {
    /// It was taken on, or answered.
    Yes(T),
    /// Not in time.
    Late,
    /// The gateway takes no report of that size.
    TooLarge,
    /// Reports go over HTTP.
    Off,
}

impl Grpc {
    pub(super) fn new(hurry: CancellationToken, patience: Duration) -> Self {
        Self {
            window: Arc::new(Window::new(hurry.clone())),
            instance: format!("{:032x}", rand::random::<u128>()),
            closed: CancellationToken::new(),
            hurry,
            patience,
        }
    }

    /// Whether reports are to go this way.
    pub(super) fn is_on(&self) -> bool {
        self.window.is_on()
    }

    /// Reports that are not acknowledged.
    pub(super) fn unacknowledged(&self) -> usize {
        self.window.len()
    }

    /// Waits until reports are to go this way.
    pub(super) async fn on(&self) {
        self.window.on().await;
    }

    /// Hands over a note, at most until `deadline`; what becomes of it is counted later. One that finds no place is
    /// given back.
    pub(super) async fn tell(&self, note: Note, deadline: Instant) -> (Told<()>, Option<Note>) {
        match self.window.place(Parcel::Note(Box::new(note)), deadline).await {
            Ok(()) => (Told::Yes(()), None),
            Err(Refused { parcel, why }) => {
                let note = match parcel {
                    Parcel::Note(note) => Some(*note),
                    Parcel::Final { .. } => None,
                };
                (why.into(), note)
            }
        }
    }

    /// Tells the final word and waits for what the gateway says, at most until `deadline`.
    pub(super) async fn finish(
        &self,
        report: &FinalReport,
        detail: Detail,
        deadline: Instant,
    ) -> Told<Answer> {
        let (heard, fate) = oneshot::channel();
        let parcel = Parcel::Final {
            report: Box::new(report.clone()),
            detail,
            heard,
        };
        if let Err(Refused { why, .. }) = self.window.place(parcel, deadline).await {
            return why.into();
        }
        let hurried = async {
            self.hurry.cancelled().await;
            tokio::time::sleep(self.patience).await;
        };
        tokio::select! {
            fate = fate => match fate {
                Ok(Fate::Stored) => Told::Yes(Answer::Accepted),
                Ok(Fate::Refused(reason, message)) => Told::Yes(meaning(reason, message)),
                Ok(Fate::Lost) | Err(_) => Told::Off,
            },
            () = tokio::time::sleep_until(deadline.into()) => Told::Late,
            () = hurried => Told::Late,
        }
    }

    /// Nothing more comes: the [task](link::keep) ends once what is here is acknowledged.
    pub(super) fn close(&self) {
        self.closed.cancel();
    }

    /// Reports go over HTTP from now on; returns the notes that were not acknowledged.
    pub(super) fn off(&self) -> Vec<Note> {
        self.window.off()
    }
}

impl<T> From<Why> for Told<T> {
    fn from(why: Why) -> Self {
        match why {
            Why::Off => Self::Off,
            Why::Late => Self::Late,
            Why::TooLarge => Self::TooLarge,
        }
    }
}

fn meaning(reason: ReportRefusalReason, message: String) -> Answer {
    match reason {
        ReportRefusalReason::UnknownEnvelope => Answer::Unknown,
        ReportRefusalReason::TooLarge => Answer::TooLarge,
        ReportRefusalReason::Invalid | ReportRefusalReason::Unspecified => Answer::Refused(message),
    }
}
