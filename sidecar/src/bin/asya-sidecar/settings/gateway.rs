//! The part of the settings that says where the gateway is and how it is told.

use std::num::NonZeroU32;

use asya_sidecar::gateway::{GatewayAddress, GatewayOptions};

use crate::environment::{Expected, Reader, boolean, duration, positive_duration};
use crate::variables as v;

/// Reads it; `None` where no gateway is told.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<GatewayOptions> {
    let address = reader.optional(&v::GATEWAY_URL, address);
    let request_timeout = reader.get(&v::GATEWAY_TIMEOUT, positive_duration);
    let final_patience = reader.get(&v::GATEWAY_FINAL_PATIENCE, duration);
    let progress_rate = reader.get(&v::GATEWAY_PROGRESS_RATE, rate);
    let register_children = reader.get(&v::GATEWAY_REGISTER_CHILDREN, boolean);
    Some(GatewayOptions {
        request_timeout,
        final_patience,
        progress_rate,
        register_children,
        ..GatewayOptions::new(address?)
    })
}

fn address(value: &str) -> Result<GatewayAddress, Expected> {
    GatewayAddress::parse(value).map_err(|error| {
        Expected::new("a URL such as http://asya-gateway:8080").because(format!("cannot be used: {error}"))
    })
}

fn rate(value: &str) -> Result<Option<NonZeroU32>, Expected> {
    let rate: Result<u32, _> = value.parse();
    rate.map(NonZeroU32::new)
        .map_err(|_| Expected::new("a whole number"))
}
