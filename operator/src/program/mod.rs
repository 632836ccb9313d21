//! `asya-operator` as a program: flags, variables, leader election, endpoints, `--dry-run`, exit codes.
//!
//! What it is: the shell around [`control`](crate::control): it reads [variables](variables) and [flags](arguments)
//! into settings, explains itself, logs, records metrics, elects a leader, listens to signals, and maps causes to exit
//! codes. What it is not: it decides nothing about actors.

mod actors;
mod arguments;
mod check;
mod client;
mod dry_run;
mod endpoints;
mod environment;
mod help;
mod lease;
mod metrics;
mod serve;
mod variables;
mod waiting;

use std::io::{Read as _, Write as _};
use std::path::Path;
use std::process::ExitCode;

use asya_program::{Environment, Exit, logging, print};

pub use arguments::{Arguments, Bind, Command, Flags, Instead, Output, ZapEncoder, ZapLevel, arguments};
pub use help::long_help;

/// How the program ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// As every program.
    Plain(Exit),
    /// Somebody else leads now.
    LostLease,
}

impl From<Ending> for ExitCode {
    fn from(ending: Ending) -> Self {
        match ending {
            Ending::Plain(exit) => exit.into(),
            Ending::LostLease => Self::from(3),
        }
    }
}

/// Does what the arguments say.
pub fn main(arguments: Arguments) -> ExitCode {
    let Arguments {
        instead,
        flags,
        command,
    } = arguments;
    if instead.markdown {
        return print(&help::markdown()).into();
    }
    match command {
        Some(Command::Crd) => return crd().into(),
        Some(Command::Convert { file }) => return convert(&file).into(),
        None => {}
    }
    let reading = environment::read(&Environment::of_process(), &flags);
    if instead.print_config {
        return print(&reading.shown()).into();
    }
    if instead.check {
        return check::check(&reading, instead.output).into();
    }
    if let Some(path) = &instead.dry_run {
        return dry_run::run(path, instead.output.unwrap_or(Output::Yaml), &reading).into();
    }
    let _writing = logging::start(reading.log, None);
    serve::start(reading, &flags).into()
}

fn crd() -> Exit {
    match crate::yaml::document(&crate::crd::definition()) {
        Ok(text) => print(&text),
        Err(error) => complain(&format!("the definition cannot be written: {error}\n")),
    }
}

/// Prints the manifest in its present kind.
fn convert(file: &Path) -> Exit {
    let read = if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).map(|_| text)
    } else {
        std::fs::read_to_string(file)
    };
    let text = match read {
        Ok(text) => text,
        Err(error) => return complain(&format!("cannot read {}: {error}\n", file.display())),
    };
    match crate::crd::convert(&text) {
        Ok(converted) => print(&converted),
        Err(problems) => complain(&format!("{}: {problems}\n", file.display())),
    }
}

/// Says on standard error why nothing comes of it.
fn complain(text: &str) -> Exit {
    say(text);
    Exit::CannotGoOn
}

/// Writes to standard error. Where nobody reads, nobody is told.
fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
