//! The core on real stores and real queues: SQLite and PostgreSQL, the embedded queue and RabbitMQ.

mod actors;
mod cancelling;
mod feeding;
mod lookups;
mod outbox;
mod rabbitmq;
mod reporting;
mod submitting;
mod time;
mod watching;
mod world;
