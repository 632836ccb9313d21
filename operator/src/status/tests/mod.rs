//! What an actor's status must be.

mod changes;
mod fixtures;
mod pods;
mod properties;
mod scale;
mod shapes;
mod table;
mod worked;
