//! The gateway: tools that clients call over MCP, REST and gRPC, and the truth about every envelope that came of it.
//!
//! What it is: one core (`submit`, `get`, `list`, `watch`, `cancel`, `report`) over a
//! [store](asya_gateway_store) and a [transport](asya_transport), with thin layers that speak HTTP, gRPC and MCP. What
//! it is not: it runs no actors, decides nothing about messages on their way, and keeps no state outside of its store,
//! so any number of replicas may run over one PostgreSQL.
//!
//! Start reading at `core::Gateway`.

pub mod auth;
pub mod core;
pub mod grpc;
pub mod http;
pub mod life;
pub mod mcp;
#[cfg(feature = "program")]
pub mod program;
pub mod server;
pub mod settings;
