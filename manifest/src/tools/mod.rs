//! Tools: named routes with described parameters, as the gateway offers them (contract gateway §2).
//!
//! [`Tools::load`] reads the file, resolves route templates and defaults and reports every mistake at once;
//! [`Tool::input_schema`] describes the arguments; [`Tool::arguments`] checks and completes them.

mod arguments;
mod load;
mod mode;
mod parameter;
mod schema;
mod shape;

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

pub use arguments::{ArgumentProblem, ArgumentProblems};
pub use mode::ToolMode;
pub use parameter::{Parameter, ParameterType};

use crate::problem::Location;

/// The tools of one file, or of one directory of tool files.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tools {
    /// In file order; names are unique.
    pub tools: Vec<Tool>,
    /// Named route templates; the tools' routes are resolved already.
    pub routes: BTreeMap<String, Vec<String>>,
}

impl Tools {
    /// The tool of this name.
    pub fn get(&self, name: &str) -> Option<&Tool> {
        self.tools.iter().find(|tool| tool.name == name)
    }
}

/// One tool, templates and defaults resolved.
#[derive(Debug, Clone, PartialEq)]
pub struct Tool {
    /// Unique name, not empty.
    pub name: String,
    /// Name for people.
    pub title: Option<String>,
    /// What it does; may be empty.
    pub description: String,
    /// Its parameters by name.
    pub parameters: BTreeMap<String, Parameter>,
    /// Whether arguments that are no parameter pass; default true.
    pub additional_properties: bool,
    /// The actors that an envelope visits, at least one; see [`Tool::route`].
    pub route: Vec<String>,
    /// Whether the reply offers a stream of progress.
    pub progress: bool,
    /// How long an envelope may take; `None` for no limit. 300 s unless the file says otherwise.
    pub timeout: Option<Duration>,
    /// Echoed in the reply.
    pub metadata: BTreeMap<String, String>,
    /// MCP tool annotations; `None` unless the file has them.
    pub annotations: Option<Map<String, Value>>,
    /// JSON Schema of the result; `None` unless the file has it.
    pub output_schema: Option<Value>,
    /// How an MCP call is answered unless the call says otherwise.
    pub mode: ToolMode,
    /// Where the tool is written.
    pub source: Location,
}

impl Tool {
    /// The actors that an envelope visits, in order; never empty.
    pub fn route(&self) -> &[String] {
        &self.route
    }
}
