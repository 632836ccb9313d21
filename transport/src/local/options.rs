//! What the caller may choose when opening a queue.

/// What a confirmed publish survives.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Durability {
    /// The end of the process, `kill -9` included. A power cut may take the last commits, but never damages the
    /// file (`synchronous=NORMAL`).
    #[default]
    Process,
    /// A power cut too: every commit waits for the disk (`synchronous=FULL`).
    Power,
}

/// How a queue directory is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalOptions {
    /// What a confirmed publish survives. Default: [`Durability::Process`].
    pub durability: Durability,
    /// Largest body of one message in bytes. Default: 64 MiB. Largest possible value: [`Self::LARGEST_MESSAGE`].
    pub max_message_size: usize,
    /// Largest size of the queue file in bytes, rounded down to whole pages; without it the disk is the limit.
    /// A publish beyond it is unavailable until messages have been consumed. Default: none.
    pub max_file_size: Option<u64>,
}

impl LocalOptions {
    /// The largest possible message size limit in bytes (SQLite holds at most a billion bytes in one value).
    pub const LARGEST_MESSAGE: usize = 900 * 1024 * 1024;
}

impl Default for LocalOptions {
    fn default() -> Self {
        Self {
            durability: Durability::default(),
            max_message_size: 64 * 1024 * 1024,
            max_file_size: None,
        }
    }
}
