//! The gRPC interface for status, as generated code: messages, clients and server traits.
//!
//! The source of truth is the `.proto` files under `proto/asya/status/v1/`; start reading there.
//! `envelope_status.proto` has [`EnvelopeStatus`](status::v1::envelope_status_server::EnvelopeStatus): sidecars
//! report where envelopes are, clients get, list, watch and cancel them. `actor_status.proto` has
//! [`ActorStatus`](status::v1::actor_status_server::ActorStatus): the operator reports what it sees of every
//! `AsyncActor`, clients list and watch.
//!
//! This crate holds no behaviour and no transport: a client is made with `EnvelopeStatusClient::new(channel)`
//! from any channel, for example that of `tonic::transport`.

/// Status of envelopes and actors.
pub mod status {
    /// Package `asya.status.v1`: fields are only ever added; numbers and meanings stay.
    #[allow(
        missing_docs,
        clippy::all,
        clippy::pedantic,
        reason = "generated; the documentation is in the .proto files"
    )]
    pub mod v1 {
        tonic::include_proto!("asya.status.v1");
    }
}

/// The compiled `.proto` files, well-known types included: an encoded `google.protobuf.FileDescriptorSet` for a
/// server's reflection service.
pub const FILE_DESCRIPTOR_SET: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/asya_descriptors.bin"));
