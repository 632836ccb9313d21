//! One file per command; each reads top to bottom like its `--help`.

pub(crate) mod run;
pub(crate) mod send;
pub(crate) mod up;

use std::io::Write as _;
use std::path::Path;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::arguments::Place;
use crate::exit::UsageError;
use crate::local::{Engine, Project, State, load};
use crate::view::{Screen, say};

/// Opens the state directory and checks the project.
async fn prepare(place: &Place, python: &str) -> anyhow::Result<(State, Project)> {
    if !place.dir.is_dir() {
        return Err(UsageError(format!("{} is not a directory", place.dir.display())).into());
    }
    check_searchable(&place.dir)?;
    let state = State::open(&place.dir, place.state_dir.as_deref())?;
    let project = load(&place.dir, &state, python).await?;
    Ok((state, project))
}

/// Python finds the handlers through PYTHONPATH, which cannot carry every name that a directory may have.
fn check_searchable(dir: &Path) -> anyhow::Result<()> {
    let whole = std::path::absolute(dir)?;
    match whole.to_str() {
        Some(path) if !path.contains(':') => Ok(()),
        Some(path) => Err(UsageError(format!(
            "{path}: Python cannot search a directory with ':' in its path; rename it"
        ))
        .into()),
        None => Err(UsageError(format!("{}: the path is not UTF-8; rename it", whole.display())).into()),
    }
}

/// `1 thing`, `2 things`.
fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// Keeps the display up to date for ever; ends only when the queue cannot be read.
async fn display(engine: &Engine, screen: &Screen) -> anyhow::Error {
    let mut tick = tokio::time::interval_at(Instant::now() + screen.interval(), screen.interval());
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut said = String::new();
    loop {
        tick.tick().await;
        match engine.depths().await {
            Ok(depths) => engine
                .watch()
                .look(|tracker| screen.show(tracker, &depths, &mut said)),
            Err(error) => return error,
        }
    }
}

/// Tells about messages that nobody here takes.
async fn note_strangers(engine: &Engine) -> anyhow::Result<()> {
    for (actor, depth) in engine.strangers().await? {
        let (count, verb) = match depth.total() {
            1 => (String::from("1 message"), "waits"),
            count => (format!("{count} messages"), "wait"),
        };
        say(&format!(
            "note: {count} {verb} for {actor}, which this directory does not have"
        ));
    }
    Ok(())
}

/// Resolves at the first Ctrl-C or SIGTERM. A second one ends the process at once; its guards end the runtimes.
async fn interrupted() -> std::io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    tokio::select! {
        _ = interrupt.recv() => {}
        _ = terminate.recv() => {}
    }
    tokio::spawn(async move {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        std::process::exit(crate::exit::Exit::Interrupted.code().into());
    });
    Ok(())
}

/// Prints final envelopes on standard output, one line of JSON each, until the sender is gone.
fn print_results(mut finals: mpsc::Receiver<Bytes>) -> tokio::task::JoinHandle<()> {
    tokio::task::spawn_blocking(move || {
        let mut output = std::io::stdout().lock();
        while let Some(message) = finals.blocking_recv() {
            if output
                .write_all(&one_line(&message))
                .and_then(|()| output.flush())
                .is_err()
            {
                return; // Whoever read our output has closed it.
            }
        }
    })
}

/// The same JSON text on one line: a line break in JSON is white space, for inside strings it must be escaped.
fn one_line(message: &[u8]) -> Vec<u8> {
    let blank = |byte: u8| if matches!(byte, b'\n' | b'\r') { b' ' } else { byte };
    let mut line: Vec<u8> = message.trim_ascii().iter().copied().map(blank).collect();
    line.push(b'\n');
    line
}

#[cfg(test)]
mod tests {
    use super::one_line;

    #[test]
    fn a_message_becomes_one_line_without_touching_its_values() {
        let message = b"\n{\"a\":\r\n [1e400,\n\"x\\ny\"]}\n";
        assert_eq!(one_line(message), b"{\"a\":   [1e400, \"x\\ny\"]}\n");
    }
}
