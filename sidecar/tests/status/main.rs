//! Sidecars and a real gateway, with a network between them that breaks: what the gateway says about an envelope is true,
//! whatever was cut, restarted or cancelled on the way.

#![cfg(feature = "gateway")]
#![expect(clippy::expect_used, reason = "a test fails where it stands")]
#![allow(unreachable_pub, reason = "one test program, several files")]

mod cancelling;
#[path = "../common/mod.rs"]
mod common;
mod plant;
mod reporting;
