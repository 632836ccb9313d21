//! The core on real stores and real queues: SQLite and PostgreSQL, the embedded queue and RabbitMQ.

#![expect(clippy::unwrap_used, clippy::expect_used, reason = "tests, helpers included")]

mod actors;
mod cancelling;
mod counting;
mod feeding;
mod gate;
mod housekeeping;
mod lookups;
mod outage;
mod outbox;
mod rabbitmq;
mod reporting;
mod submitting;
mod time;
mod tools;
mod watching;
mod world;
