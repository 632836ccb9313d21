//! The keys and types that a tool file may have.
//!
//! Scalars where text stands are taken as written, and unknown keys are refused, as the original loader does.
//! What has a message of its own (types, routes, timeouts) is left to [`load`](super::load).

use super::ToolMode;
use crate::shape::{Field, Record, Shape};

/// Seconds, in 32 bits without a sign; what is not above zero is judged later, and means no limit.
const TIMEOUT: Shape = Shape::Integer {
    least: i64::MIN,
    // u32::MAX; a conversion is not const.
    most: 4_294_967_295,
};

/// A whole tool file.
pub(super) static TOOL_FILE: Record = closed(&[
    Field::nullable("tools", Shape::List(&Shape::Record(&TOOL))),
    Field::nullable("routes", Shape::MapOf(&Shape::List(&Shape::Scalar))),
    Field::nullable("defaults", Shape::Record(&DEFAULTS)),
]);

static DEFAULTS: Record = closed(&[
    Field::nullable("progress", Shape::Bool),
    Field::nullable("timeout", TIMEOUT),
]);

static TOOL: Record = closed(&[
    Field::nullable("name", Shape::Scalar),
    Field::nullable("title", Shape::Scalar),
    Field::nullable("description", Shape::Scalar),
    Field::nullable("parameters", Shape::MapOf(&Shape::Record(&PARAMETER))),
    Field::nullable("additionalProperties", Shape::Bool),
    Field::nullable("route", Shape::Any),
    Field::nullable("progress", Shape::Bool),
    Field::nullable("timeout", TIMEOUT),
    Field::nullable("metadata", Shape::MapOf(&Shape::Scalar)),
    Field::nullable("annotations", Shape::Object),
    Field::nullable("output_schema", Shape::Object),
    Field::nullable("mode", Shape::Choice(&ToolMode::WORDS)),
]);

static PARAMETER: Record = closed(&[
    Field::nullable("type", Shape::Scalar),
    Field::nullable("description", Shape::Scalar),
    Field::nullable("required", Shape::Bool),
    Field::nullable("options", Shape::List(&Shape::Any)),
    Field::nullable("enum", Shape::List(&Shape::Any)),
    Field::optional("default", Shape::Any),
    Field::nullable("items", Shape::Record(&PARAMETER)),
    Field::nullable("properties", Shape::MapOf(&Shape::Record(&PARAMETER))),
    Field::nullable("additionalProperties", Shape::Bool),
]);

const fn closed(fields: &'static [Field]) -> Record {
    Record {
        fields,
        open: false,
        inert: &[],
    }
}
