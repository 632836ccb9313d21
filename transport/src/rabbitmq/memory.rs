//! How often this process has handed out what it gave back.
//!
//! A classic queue only says *that* a message was delivered before. What one process gives back usually comes back to
//! it, so remembering the count makes it exact then. It is a lower bound otherwise: after a restart, or when another
//! process gets the message. Quorum queues count by themselves.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Mutex, PoisonError};

use super::receipt::Kept;
use crate::QueueName;

/// Messages remembered in each of two generations; the older is forgotten when the younger is full.
const GENERATION: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct Memory(Mutex<Generations>);

#[derive(Debug, Default)]
struct Generations {
    young: HashMap<u64, u32>,
    old: HashMap<u64, u32>,
}

impl Memory {
    /// The message goes back to its queue.
    pub(super) fn gave_back(&self, kept: &Kept) {
        let key = key(&kept.queue, kept.message_id.as_deref(), &kept.body);
        let mut generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if generations.young.len() >= GENERATION {
            generations.old = std::mem::take(&mut generations.young);
        }
        generations.young.insert(key, kept.deliveries);
    }

    /// How often a message that came back had been handed out.
    pub(super) fn deliveries(&self, queue: &QueueName, message_id: Option<&str>, body: &[u8]) -> Option<u32> {
        let key = key(queue, message_id, body);
        let generations = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = generations.young.get(&key).or_else(|| generations.old.get(&key));
        found.copied()
    }
}

/// By identity where there is one, else by content.
fn key(queue: &QueueName, message_id: Option<&str>, body: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    queue.hash(&mut hasher);
    match message_id {
        Some(id) => id.hash(&mut hasher),
        None => body.hash(&mut hasher),
    }
    hasher.finish()
}
