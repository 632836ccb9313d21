//! `asya-gateway` as a program, configured by its environment alone.
//!
//! What it is: the shell around [`Server`](crate::life::Server): it reads [variables](variables) into
//! [settings](environment), explains itself, logs, records metrics, listens to signals, and maps causes to exit codes.
//! What it is not: it knows nothing about envelopes. It lives in the library so that `asya gateway` is the same
//! program.

mod arguments;
mod check;
mod environment;
mod help;
mod key;
mod metrics;
mod migrate;
mod serve;
mod variables;

use asya_program::{Environment, Exit, logging, print};

pub use arguments::{Arguments, Command};
pub use help::long_help;

/// Does what the arguments say. The exit code stands in [`Exit::code`].
pub fn run(arguments: Arguments) -> Exit {
    if arguments.markdown {
        return print(&help::markdown());
    }
    let environment = Environment::of_process();
    match arguments.command {
        Some(Command::Openapi) => return print(&crate::http::openapi()),
        Some(Command::Key(wish)) => return key::make(&wish),
        Some(Command::Migrate { status }) => return migrate::run(&environment, status),
        None => {}
    }
    let told = environment::read(&environment);
    if arguments.print_config {
        return print(&told.reading.shown());
    }
    if arguments.check {
        return check::check(&told, arguments.json);
    }
    let _writing = logging::start(told.reading.log, None);
    serve::start(told)
}
