//! `asya send`: queue input and return.

use std::io::{ErrorKind, Write as _};

use anyhow::Context as _;
use asya_manifest::Directory;
use asya_transport::Transport as _;
use futures::future::join_all;

use crate::arguments::SendOptions;
use crate::exit::{Exit, UsageError};
use crate::local::{State, resolve};

/// Inputs published at once; their confirms are awaited together.
const WINDOW: usize = 500;

/// Queues the inputs; an id is printed once its message is safe.
pub(crate) async fn run(options: SendOptions) -> anyhow::Result<Exit> {
    let dir = &options.place.dir;
    if !dir.is_dir() {
        return Err(UsageError(format!("{} is not a directory", dir.display())).into());
    }
    let directory = Directory::load(dir)?;
    let order = resolve(&directory, &options.job)?;
    let state = State::open(dir, options.place.state_dir.as_deref())?;
    let actors = directory.actors.iter().filter(|actor| !actor.is_end_actor());
    let transport = state.open_queue(actors.map(|actor| actor.name.as_str())).await?;

    let mut inputs = order.envelopes().into_iter().peekable();
    while inputs.peek().is_some() {
        let (ids, publishing): (Vec<_>, Vec<_>) = inputs
            .by_ref()
            .take(WINDOW)
            .map(|input| (input.id, transport.publish(input.message)))
            .unzip();
        for (id, published) in ids.into_iter().zip(join_all(publishing).await) {
            published.with_context(|| format!("failed to queue envelope {id}"))?;
            match writeln!(std::io::stdout(), "{id}") {
                // Who has seen enough ids still wants all inputs to be queued.
                Err(error) if error.kind() == ErrorKind::BrokenPipe => {}
                printed => printed.context("failed to print the id of a queued envelope")?,
            }
        }
    }
    Ok(Exit::Success)
}
