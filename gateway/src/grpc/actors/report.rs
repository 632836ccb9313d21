//! One stream of one operator: what it sees is stored, then acknowledged.

use std::collections::BTreeSet;
use std::time::Duration;

use asya_gateway_store::{ActorRow, StoreError};
use asya_proto::status::v1::{
    OperatorHello, ReportActorsRequest, ReportActorsResponse, report_actors_request::Kind,
};
use chrono::Utc;
use futures::stream::{self, Stream};
use tonic::{Status, Streaming};

use super::convert;
use crate::core::Gateway;
use crate::grpc::errors;
use crate::grpc::inbox::{Batch, batch};

struct Session {
    gateway: Gateway,
    inbound: Streaming<ReportActorsRequest>,
    hello: Duration,
    /// Set by the first message.
    cluster: Option<String>,
    /// The last sequence number that came.
    last: u64,
    /// Namespace and name of what the operator says is there.
    present: BTreeSet<(String, String)>,
    /// Read and not yet stored.
    waiting: Vec<ActorRow>,
    /// What comes after the next answer, if that is the end.
    end: Option<Result<(), Status>>,
}

/// Answers a stream.
pub(super) fn serve(
    gateway: Gateway,
    hello: Duration,
    inbound: Streaming<ReportActorsRequest>,
) -> impl Stream<Item = Result<ReportActorsResponse, Status>> + Send {
    let session = Session {
        gateway,
        inbound,
        hello,
        cluster: None,
        last: 0,
        present: BTreeSet::new(),
        waiting: Vec::new(),
        end: None,
    };
    stream::try_unfold(session, |mut session| async {
        let answer = session.answer().await?;
        Ok(answer.map(|answer| (answer, session)))
    })
}

impl Session {
    /// The acknowledgement of the next batch; `None` when the operator has said all.
    async fn answer(&mut self) -> Result<Option<ReportActorsResponse>, Status> {
        if let Some(end) = self.end.take() {
            return end.map(|()| None);
        }
        let arrived = self.arrived().await?;
        self.end = arrived.end;
        let before = self.last;
        for message in arrived.messages {
            match self.read(message).await {
                Ok(()) => {}
                Err(Trouble::Mistake(text)) => {
                    self.end = Some(Err(Status::invalid_argument(text)));
                    break;
                }
                Err(Trouble::Store(error)) => return Err(errors::report(&error)),
            }
        }
        self.store().await.map_err(|error| errors::report(&error))?;
        if self.last == before {
            return self.end.take().unwrap_or(Ok(())).map(|()| None);
        }
        Ok(Some(ReportActorsResponse {
            acknowledged: self.last,
        }))
    }

    async fn arrived(&mut self) -> Result<Batch<ReportActorsRequest>, Status> {
        let draining = self.gateway.draining();
        let silence = async {
            if self.cluster.is_some() {
                std::future::pending::<()>().await;
            }
            tokio::time::sleep(self.hello).await;
        };
        tokio::select! {
            arrived = batch(&mut self.inbound) => Ok(arrived),
            () = draining.cancelled() => Err(errors::closing()),
            () = silence => Err(Status::invalid_argument("hello: it did not come; it is the first message of a stream")),
        }
    }

    /// Takes in one message.
    async fn read(&mut self, message: ReportActorsRequest) -> Result<(), Trouble> {
        let due = self.last.saturating_add(1);
        if message.sequence != due {
            return Err(Trouble::Mistake(format!(
                "sequence: {}, but {due} comes next",
                message.sequence
            )));
        }
        let cluster = match (&self.cluster, message.kind) {
            (None, Some(Kind::Hello(hello))) => {
                self.greet(hello)?;
                self.last = due;
                return Ok(());
            }
            (None, _) => return Err(mistake("hello: the first message of a stream is something else")),
            (Some(_), Some(Kind::Hello(_))) => {
                return Err(mistake("hello: only the first message of a stream may be one"));
            }
            (Some(_), None) => return Err(mistake("kind: missing, or one that this gateway does not know")),
            (Some(cluster), Some(kind)) => (cluster.clone(), kind),
        };
        self.note(cluster).await?;
        self.last = due;
        Ok(())
    }

    fn greet(&mut self, hello: OperatorHello) -> Result<(), Trouble> {
        convert::check_name("hello.cluster", &hello.cluster).map_err(Trouble::Mistake)?;
        tracing::info!(
            cluster = hello.cluster,
            version = hello.version,
            "an operator reports"
        );
        self.cluster = Some(hello.cluster);
        Ok(())
    }

    async fn note(&mut self, (cluster, kind): (String, Kind)) -> Result<(), Trouble> {
        match kind {
            Kind::Hello(_) => {}
            Kind::Observed(actor) => {
                let row = convert::row(actor, &cluster, Utc::now()).map_err(Trouble::Mistake)?;
                self.present.insert((row.namespace.clone(), row.name.clone()));
                self.waiting.push(row);
            }
            Kind::Deleted(key) => {
                let key = convert::key(Some(key), &cluster, "deleted").map_err(Trouble::Mistake)?;
                self.store().await?;
                self.gateway.actors().delete(&key).await?;
                self.present.remove(&(key.namespace, key.name));
            }
            Kind::Synced(_) => {
                self.store().await?;
                let keep: Vec<_> = self.present.iter().cloned().collect();
                self.gateway.actors().retain(&cluster, &keep).await?;
            }
        }
        Ok(())
    }

    /// Stores what waits.
    async fn store(&mut self) -> Result<(), StoreError> {
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.gateway.actors().put(std::mem::take(&mut self.waiting)).await
    }
}

/// Why a message was not taken in.
enum Trouble {
    /// The operator's.
    Mistake(String),
    /// Ours; it must come again.
    Store(StoreError),
}

fn mistake(text: &str) -> Trouble {
    Trouble::Mistake(text.to_owned())
}

impl From<StoreError> for Trouble {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}
