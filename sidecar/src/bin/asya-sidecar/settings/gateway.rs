//! The part of the settings that says where the gateway is and how it is told.

use std::num::NonZeroU32;
use std::path::PathBuf;

use asya_program::environment::{boolean, duration, positive_duration, text};
use asya_program::{Expected, Reader};
use asya_sidecar::gateway::{GatewayAddress, GatewayOptions, GatewayProtocol, GatewayToken, TokenError};

use crate::variables as v;

/// Reads it; `None` where no gateway is told.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<GatewayOptions> {
    let address = reader.optional(&v::GATEWAY_URL, address);
    let protocol = reader.get(&v::GATEWAY_PROTOCOL, protocol);
    let token = token(reader);
    let request_timeout = reader.get(&v::GATEWAY_TIMEOUT, positive_duration);
    let final_patience = reader.get(&v::GATEWAY_FINAL_PATIENCE, duration);
    let progress_rate = reader.get(&v::GATEWAY_PROGRESS_RATE, rate);
    let register_children = reader.get(&v::GATEWAY_REGISTER_CHILDREN, boolean);
    Some(GatewayOptions {
        protocol,
        token,
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

fn protocol(value: &str) -> Result<GatewayProtocol, Expected> {
    match value {
        "auto" => Ok(GatewayProtocol::Auto),
        "http" => Ok(GatewayProtocol::Http),
        _ => Err(Expected::new("auto or http")),
    }
}

/// The token, or the one in the file that is named.
fn token(reader: &mut Reader<'_>) -> Option<GatewayToken> {
    let usable =
        |error: &TokenError| Expected::new("a bearer token").because(format!("cannot be used: {error}"));
    let given = reader.optional(&v::GATEWAY_TOKEN, |value| {
        GatewayToken::text(value).map_err(|error| usable(&error))
    });
    let Some(path) = reader.optional(&v::GATEWAY_TOKEN_FILE, text) else {
        return given;
    };
    if reader.is_set(&v::GATEWAY_TOKEN) {
        reader.problem(
            &v::GATEWAY_TOKEN_FILE,
            "ASYA_GATEWAY_TOKEN is set as well; expected one of the two",
        );
    }
    let path = PathBuf::from(path);
    let content = reader.file(&v::GATEWAY_TOKEN_FILE, &path)?;
    match GatewayToken::file(&path, &content) {
        Ok(token) => Some(token),
        Err(error) => {
            let problem = format!(
                "{}: {error}; expected a file with a bearer token in it",
                path.display()
            );
            reader.problem(&v::GATEWAY_TOKEN_FILE, problem);
            None
        }
    }
}

fn rate(value: &str) -> Result<Option<NonZeroU32>, Expected> {
    let rate: Result<u32, _> = value.parse();
    rate.map(NonZeroU32::new)
        .map_err(|_| Expected::new("a whole number"))
}
