//! `asya-operator`: the program around the library.

use clap::Parser as _;

fn main() -> std::process::ExitCode {
    asya_operator::program::main(asya_operator::program::Arguments::parse_from(
        asya_operator::program::arguments(std::env::args_os()),
    ))
}
