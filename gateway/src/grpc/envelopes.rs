//! The service `EnvelopeStatus`.

use std::sync::Arc;

use asya_gateway_store::{Filter, Key, Page, Status as Standing, View};
use asya_proto::status::v1::envelope_status_server::EnvelopeStatus;
use asya_proto::status::v1::{
    CancelEnvelopeRequest, CancelEnvelopeResponse, Envelope, EnvelopeFilter, GetEnvelopeRequest,
    GetEnvelopeResponse, ListEnvelopesRequest, ListEnvelopesResponse, ReportEnvelopesRequest,
    ReportEnvelopesResponse, WatchEnvelopesRequest, WatchEnvelopesResponse, watch_envelopes_request,
};
use futures::stream::{BoxStream, StreamExt as _};
use prost::Message as _;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::access::caller;
use super::convert::{self, is_full};
use super::deadline::Deadline;
use super::report::Session;
use super::seats::Seats;
use super::token::{self, Question};
use super::{GrpcOptions, errors, watch};
use crate::auth::{Caller, Role};
use crate::core::{Gateway, LookupError};

/// A page ends before it has more bytes than this, unless one envelope alone has more: clients take 4 MiB by default.
const PAGE_BYTES: usize = 3 * 1024 * 1024;
/// Envelopes with their payloads that are read from the store at once.
const WHOLE_ENVELOPES: u32 = 4;
/// Ids of one watch that count as much as one watch more.
const IDS_PER_ROOM: usize = 16;
/// Messages that wait for a sidecar to read them.
const OUTBOUND: usize = 16;

pub(super) struct Envelopes {
    gateway: Gateway,
    options: GrpcOptions,
    seats: Arc<Seats>,
    watches: Arc<Semaphore>,
}

impl Envelopes {
    pub(super) fn new(gateway: Gateway, options: GrpcOptions) -> Self {
        let watches = options.max_streams.min(Semaphore::MAX_PERMITS);
        Self {
            gateway,
            options,
            seats: Arc::default(),
            watches: Arc::new(Semaphore::new(watches)),
        }
    }

    /// Room for a watch, as long as the permit lives.
    fn room(&self, request: &WatchEnvelopesRequest) -> Result<OwnedSemaphorePermit, Status> {
        let ids = match &request.target {
            Some(watch_envelopes_request::Target::Ids(ids)) => ids.ids.len().min(watch::MOST_IDS),
            _ => 0,
        };
        let room = u32::try_from(ids / IDS_PER_ROOM).map_or(u32::MAX, |more| more + 1);
        let permit = Arc::clone(&self.watches).try_acquire_many_owned(room);
        permit.map_err(|_| {
            let most = self.options.max_streams;
            Status::resource_exhausted(format!(
                "{most} watches are open, which is the limit; try again later, or on another replica"
            ))
        })
    }

    async fn look_up(&self, caller: &Caller, request: GetEnvelopeRequest) -> Result<Envelope, LookupError> {
        let full = is_full(request.view());
        let view = if full { View::Full } else { View::Basic };
        let mut record = self.gateway.get(caller, &request.id, view).await?;
        if record.status == Standing::Failed && !full {
            // The details of a failure are kept with the result.
            record = self.gateway.get(caller, &request.id, View::Full).await?;
        }
        let children = self.gateway.children(caller, &request.id).await?;
        Ok(convert::envelope(record, Some(children), full))
    }
}

#[tonic::async_trait]
impl EnvelopeStatus for Envelopes {
    type ReportStream = ReceiverStream<Result<ReportEnvelopesResponse, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportEnvelopesRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        caller(&request, Role::Sidecar)?;
        let deadline = Deadline::of(&request);
        let (outbound, answers) = mpsc::channel(OUTBOUND);
        let session = Session {
            gateway: self.gateway.clone(),
            options: self.options.clone(),
            seats: Arc::clone(&self.seats),
            inbound: request.into_inner(),
            outbound: outbound.clone(),
        };
        tokio::spawn(async move {
            let served = async {
                session.run().await;
                Ok(())
            };
            if let Err(over) = deadline.within(served).await {
                let _ = outbound.try_send(Err(over));
            }
        });
        Ok(Response::new(ReceiverStream::new(answers)))
    }

    async fn get(
        &self,
        request: Request<GetEnvelopeRequest>,
    ) -> Result<Response<GetEnvelopeResponse>, Status> {
        let caller = caller(&request, Role::Client)?;
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        named(&request.id)?;
        let found = async {
            self.look_up(&caller, request)
                .await
                .map_err(|error| errors::lookup(&error))
        };
        let envelope = deadline.within(found).await?;
        Ok(Response::new(GetEnvelopeResponse {
            envelope: Some(envelope),
        }))
    }

    async fn list(
        &self,
        request: Request<ListEnvelopesRequest>,
    ) -> Result<Response<ListEnvelopesResponse>, Status> {
        let caller = caller(&request, Role::Client)?;
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        let full = is_full(request.view());
        let asked = request.filter.unwrap_or_default();
        let question = question(&asked);
        let after = token::read_page_token(question, &request.page_token)
            .map_err(|error| errors::token("page_token", error))?;
        let filter = convert::filter(asked).map_err(Status::invalid_argument)?;
        let size = page_size(request.page_size);
        let page = async {
            page(&self.gateway, &caller, &filter, size, after, full)
                .await
                .map_err(|error| errors::lookup(&error))
        };
        let (envelopes, next) = deadline.within(page).await?;
        Ok(Response::new(ListEnvelopesResponse {
            envelopes,
            next_page_token: next
                .map(|key| token::page_token(question, &key))
                .unwrap_or_default(),
        }))
    }

    type WatchStream = BoxStream<'static, Result<WatchEnvelopesResponse, Status>>;

    async fn watch(
        &self,
        request: Request<WatchEnvelopesRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        let caller = caller(&request, Role::Client)?;
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        let room = self.room(&request)?;
        let opened = watch::open(self.gateway.clone(), caller, request);
        let stream = deadline.within(opened).await?;
        let stream = stream.inspect(move |_| {
            // It is held until the stream is gone.
            let _held = &room;
        });
        Ok(Response::new(deadline.bound(stream.boxed())))
    }

    async fn cancel(
        &self,
        request: Request<CancelEnvelopeRequest>,
    ) -> Result<Response<CancelEnvelopeResponse>, Status> {
        let caller = caller(&request, Role::Client)?;
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        named(&request.id)?;
        let reason = request.reason.replace('\0', "\u{fffd}");
        let cancelled = async {
            let cancelled = self.gateway.cancel(&caller, &request.id, &reason).await;
            cancelled.map_err(|error| errors::lookup(&error))
        };
        let cancelled = deadline.within(cancelled).await?;
        Ok(Response::new(CancelEnvelopeResponse {
            envelope: Some(convert::envelope(cancelled.record, None, false)),
            cancelled: cancelled.cancelled,
        }))
    }
}

fn named(id: &str) -> Result<(), Status> {
    if id.is_empty() {
        return Err(Status::invalid_argument("id: empty"));
    }
    Ok(())
}

/// How many a page may hold, as the request says it.
pub(super) fn page_size(asked: u32) -> u32 {
    match asked {
        0 => 100,
        asked => asked.min(1000),
    }
}

/// The question that a filter asks, whatever the order of its parts.
pub(super) fn question(filter: &EnvelopeFilter) -> Question {
    let mut filter = filter.clone();
    for values in [&mut filter.states, &mut filter.outcomes] {
        values.sort_unstable();
        values.dedup();
    }
    Question::of(&filter)
}

/// One page of envelopes, bounded in number and bytes, and where the next one begins.
pub(super) async fn page(
    gateway: &Gateway,
    caller: &Caller,
    filter: &Filter,
    size: u32,
    mut after: Option<Key>,
    full: bool,
) -> Result<(Vec<Envelope>, Option<Key>), LookupError> {
    let (view, most_at_once) = if full {
        (View::Full, WHOLE_ENVELOPES)
    } else {
        (View::Basic, size)
    };
    let mut envelopes = Vec::new();
    let mut bytes = 0;
    let mut left = size;
    loop {
        let part = Page {
            size: left.min(most_at_once),
            after: after.take(),
            view,
        };
        let part = gateway.list(caller, filter.clone(), part).await?;
        for record in part.records {
            let key = Key {
                created_us: record.created_at.timestamp_micros(),
                id: record.id.clone(),
            };
            let envelope = convert::envelope(record, None, full);
            bytes += envelope.encoded_len();
            if bytes > PAGE_BYTES && !envelopes.is_empty() {
                return Ok((envelopes, after));
            }
            envelopes.push(envelope);
            left -= 1;
            after = Some(key);
        }
        if part.next.is_none() || left == 0 {
            return Ok((envelopes, part.next));
        }
        after = part.next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_those_of_the_interface() {
        assert_eq!(
            [0, 1, 1000, 1001, u32::MAX].map(page_size),
            [100, 1, 1000, 1000, 1000]
        );
    }

    #[test]
    fn the_order_of_a_filter_is_no_other_question() {
        let filter = |states: &[i32]| EnvelopeFilter {
            states: states.to_vec(),
            ..EnvelopeFilter::default()
        };
        assert_eq!(question(&filter(&[1, 2])), question(&filter(&[2, 1, 2])));
        assert_ne!(question(&filter(&[1, 2])), question(&filter(&[2])));
    }
}
