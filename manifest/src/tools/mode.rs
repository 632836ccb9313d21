//! How a call of a tool is answered over MCP.

use std::fmt;

/// How an MCP call of a tool is answered (contract gateway §8.1); REST always answers with the handle.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ToolMode {
    /// At once, with the id of the envelope and where to look, as the original does.
    #[default]
    Handle,
    /// When the envelope is final, with its result; meanwhile with progress for clients that ask for it.
    Wait,
    /// At once, with a task, to clients that know the tasks extension; to others as [`ToolMode::Handle`].
    Task,
}

impl ToolMode {
    /// All words, in the order in which errors name them.
    pub const WORDS: [&'static str; 3] = ["handle", "wait", "task"];

    /// The word in a tool file, a header or `_meta`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Handle => "handle",
            Self::Wait => "wait",
            Self::Task => "task",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        [Self::Handle, Self::Wait, Self::Task]
            .into_iter()
            .find(|mode| mode.as_str() == word)
    }
}

impl fmt::Display for ToolMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
