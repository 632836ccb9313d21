//! One file per command; each reads top to bottom like its `--help`.

pub(crate) mod run;
pub(crate) mod send;
pub(crate) mod up;

use std::io::Write as _;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;

use crate::arguments::Place;
use crate::local::{Engine, Project, State, load};
use crate::view::Screen;

/// Pause between two looks at the queues for the display.
const DISPLAY_INTERVAL: Duration = Duration::from_millis(150);

/// Opens the state directory and checks the project.
async fn prepare(place: &Place, python: &str) -> anyhow::Result<(State, Project)> {
    if !place.dir.is_dir() {
        return Err(crate::exit::UsageError(format!("{} is not a directory", place.dir.display())).into());
    }
    let state = State::open(&place.dir, place.state_dir.as_deref())?;
    let project = load(&place.dir, &state, python).await?;
    Ok((state, project))
}

/// `1 thing`, `2 things`.
fn counted(count: usize, thing: &str) -> String {
    let plural = if count == 1 { "" } else { "s" };
    format!("{count} {thing}{plural}")
}

/// Keeps the display up to date for ever; ends only when the queue cannot be read.
async fn display(engine: &Engine, screen: &Screen) -> anyhow::Error {
    let mut tick = tokio::time::interval(DISPLAY_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        match engine.depths().await {
            Ok(depths) => engine.watch().look(|tracker| screen.show(tracker, &depths)),
            Err(error) => return error,
        }
    }
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
