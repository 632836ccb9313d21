//! The service `ActorStatus`: what operators see, over the core's board of actors.

mod convert;
mod report;
mod watch;

use asya_proto::status::v1::actor_status_server::ActorStatus;
use asya_proto::status::v1::{
    Actor, ActorFilter, ListActorsRequest, ListActorsResponse, ReportActorsRequest, ReportActorsResponse,
    WatchActorsRequest, WatchActorsResponse,
};
use futures::stream::BoxStream;
use prost::Message as _;
use tonic::{Request, Response, Status, Streaming};

use super::access::caller;
use super::deadline::Deadline;
use super::envelopes::page_size;
use super::token::{self, Question};
use super::{GrpcOptions, errors};
use crate::auth::Role;
use crate::core::Gateway;

/// A page ends before it has more bytes than this, unless one actor alone has more: clients take 4 MiB by default.
const PAGE_BYTES: usize = 3 * 1024 * 1024;

pub(super) struct Actors {
    gateway: Gateway,
    options: GrpcOptions,
}

impl Actors {
    pub(super) fn new(gateway: Gateway, options: GrpcOptions) -> Self {
        Self { gateway, options }
    }

    async fn present(&self) -> Result<Vec<Actor>, Status> {
        let rows = self
            .gateway
            .actors()
            .list()
            .await
            .map_err(|error| errors::store(&error))?;
        Ok(rows.iter().filter_map(convert::actor).collect())
    }
}

#[tonic::async_trait]
impl ActorStatus for Actors {
    type ReportStream = BoxStream<'static, Result<ReportActorsResponse, Status>>;

    async fn report(
        &self,
        request: Request<Streaming<ReportActorsRequest>>,
    ) -> Result<Response<Self::ReportStream>, Status> {
        caller(&request, Role::Operator)?;
        let deadline = Deadline::of(&request);
        let answers = report::serve(self.gateway.clone(), self.options.hello, request.into_inner());
        Ok(Response::new(deadline.bound(answers)))
    }

    async fn list(
        &self,
        request: Request<ListActorsRequest>,
    ) -> Result<Response<ListActorsResponse>, Status> {
        caller(&request, Role::Client)?;
        let deadline = Deadline::of(&request);
        let request = request.into_inner();
        let filter = request.filter.unwrap_or_default();
        convert::check(&filter).map_err(Status::invalid_argument)?;
        let question = question(&filter);
        let after = token::read_actor_token(question, &request.page_token)
            .map_err(|error| errors::token("page_token", error))?;
        let after = after.as_ref().map(convert::order);
        let mut actors = deadline.within(self.present()).await?;
        actors.retain(|actor| convert::matches(&filter, actor));
        actors.sort_by_key(convert::key_order);
        let rest = actors.into_iter().filter(|actor| {
            after
                .as_ref()
                .is_none_or(|after| convert::key_order(actor) > *after)
        });
        let (actors, next) = first_page(rest, page_size(request.page_size));
        Ok(Response::new(ListActorsResponse {
            next_page_token: next
                .map(|key| token::actor_token(question, &key))
                .unwrap_or_default(),
            actors,
        }))
    }

    type WatchStream = BoxStream<'static, Result<WatchActorsResponse, Status>>;

    async fn watch(
        &self,
        request: Request<WatchActorsRequest>,
    ) -> Result<Response<Self::WatchStream>, Status> {
        caller(&request, Role::Client)?;
        let deadline = Deadline::of(&request);
        let filter = request.into_inner().filter.unwrap_or_default();
        convert::check(&filter).map_err(Status::invalid_argument)?;
        Ok(Response::new(
            deadline.bound(watch::open(self.gateway.clone(), filter)),
        ))
    }
}

/// The question that a filter asks, whatever the order of its parts.
fn question(filter: &ActorFilter) -> Question {
    let mut filter = filter.clone();
    filter.states.sort_unstable();
    filter.states.dedup();
    Question::of(&filter)
}

/// As many as a page may hold, in number and in bytes; and the last of them, if there are more.
fn first_page(
    actors: impl Iterator<Item = Actor>,
    size: u32,
) -> (Vec<Actor>, Option<asya_proto::status::v1::ActorKey>) {
    let mut page: Vec<Actor> = Vec::new();
    let mut bytes = 0;
    for actor in actors {
        bytes += actor.encoded_len();
        if page.len() >= size as usize || (bytes > PAGE_BYTES && !page.is_empty()) {
            let last = page.last().and_then(|actor| actor.key.clone());
            return (page, last);
        }
        page.push(actor);
    }
    (page, None)
}

#[cfg(test)]
mod tests {
    use asya_proto::status::v1::ActorKey;

    use super::*;

    fn actors(count: usize, message: &str) -> Vec<Actor> {
        let named = |n: usize| Actor {
            key: Some(ActorKey {
                name: n.to_string(),
                ..ActorKey::default()
            }),
            message: message.to_owned(),
            ..Actor::default()
        };
        (0..count).map(named).collect()
    }

    #[test]
    fn a_page_is_bounded_in_number_and_in_bytes() {
        let (page, next) = first_page(actors(5, "").into_iter(), 2);
        assert_eq!((page.len(), next.unwrap().name.as_str()), (2, "1"));
        let (page, next) = first_page(actors(2, "").into_iter(), 2);
        assert_eq!((page.len(), next), (2, None));
        let (page, next) = first_page(actors(9, &"x".repeat(1024 * 1024)).into_iter(), 1000);
        assert_eq!((page.len(), next.unwrap().name.as_str()), (2, "1"));
        let (page, next) = first_page(actors(1, &"x".repeat(5 * 1024 * 1024)).into_iter(), 1000);
        assert_eq!((page.len(), next), (1, None));
    }
}
