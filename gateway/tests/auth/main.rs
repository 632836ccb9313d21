//! Who is let in: real requests to a real socket, and an identity provider that really signs.

#![expect(clippy::expect_used, reason = "tests, helpers included")]

mod keys;
mod oidc;
mod origins;
mod provider;
mod setup;
