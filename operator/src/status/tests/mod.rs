//! What an actor's status must be.
