//! Compiles the `.proto` files in pure Rust, so that nobody needs `protoc`.

use std::error::Error;
use std::path::PathBuf;
use std::{env, fs};

const FILES: [&str; 2] = [
    "asya/status/v1/envelope_status.proto",
    "asya/status/v1/actor_status.proto",
];

fn main() -> Result<(), Box<dyn Error>> {
    for file in FILES {
        println!("cargo::rerun-if-changed={file}");
    }

    let descriptors = protox::compile(FILES, ["."])?;
    let out_dir = env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR for build scripts")?;
    let mut encoded = Vec::new();
    prost::Message::encode(&descriptors, &mut encoded)?;
    fs::write(PathBuf::from(out_dir).join("asya_descriptors.bin"), encoded)?;

    tonic_prost_build::configure()
        // `connect()` would draw in a transport; who has one calls `XxxClient::new(channel)`.
        .build_transport(false)
        .compile_fds(descriptors)?;
    Ok(())
}
