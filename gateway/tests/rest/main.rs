//! The REST interface on a real port, over a real store and a real queue, as its clients and sidecars see it.

#![expect(clippy::unwrap_used, reason = "tests, helpers included")]

mod bad_input;
mod calls;
mod documents;
mod envelopes;
mod harness;
mod limits;
mod listener;
mod outage;
mod pages;
mod streams;
