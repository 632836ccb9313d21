//! Starts a throwaway RabbitMQ node, runs a command that finds it in its environment, and stops it again.
//!
//! The command gets `ASYA_RABBITMQ_URL`, and `RABBITMQ_API` for the management API. Exit code: that of the command.

use std::process::{Command, ExitCode};

use asya_tests::rabbitmq::Broker;

fn main() -> ExitCode {
    let mut words = std::env::args_os().skip(1);
    let Some(program) = words.next() else {
        complain("say which command to run: with-rabbitmq COMMAND [ARGUMENT]…");
        return ExitCode::from(2);
    };
    let broker = Broker::start(None);
    let status = Command::new(&program)
        .args(words)
        .env(
            "ASYA_RABBITMQ_URL",
            format!("amqp://guest:guest@127.0.0.1:{}/", broker.port),
        )
        .env(
            "RABBITMQ_API",
            format!("http://guest:guest@127.0.0.1:{}/api", broker.management),
        )
        .status();
    drop(broker);
    match status {
        Ok(status) => ExitCode::from(
            status
                .code()
                .and_then(|code| u8::try_from(code).ok())
                .unwrap_or(1),
        ),
        Err(error) => {
            complain(&format!("cannot run {}: {error}", program.display()));
            ExitCode::from(127)
        }
    }
}

#[expect(clippy::print_stderr, reason = "a program for terminals")]
fn complain(text: &str) {
    eprintln!("with-rabbitmq: {text}");
}
