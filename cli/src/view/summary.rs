//! The last thing that `asya run` shows: what became of the envelopes, where the results are, and the time at each hop.

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use asya_sidecar::FinalStatus;
use console::style;

use super::tracker::{ActorFigures, Ended, Finished, Tracker};

/// The summary of a run that took `elapsed`, with results below `results`; `order` is the actors in manifest order.
pub(crate) fn summary(tracker: &Tracker, order: &[&str], elapsed: Duration, results: &Path) -> String {
    let mut text = String::new();
    let write = |text: &mut String| -> std::fmt::Result {
        headline(text, tracker, elapsed)?;
        results_table(text, tracker)?;
        hops_table(text, tracker, order)?;
        writeln!(text, "\nresults  {}", results.display())
    };
    // Writing to a String cannot fail.
    let _written = write(&mut text);
    text
}

fn headline(text: &mut String, tracker: &Tracker, elapsed: Duration) -> std::fmt::Result {
    let finished = tracker.finished();
    let failed = tracker.failed();
    let envelopes = if finished == 1 { "envelope" } else { "envelopes" };
    let good = style(format!("{} succeeded", finished - failed))
        .for_stderr()
        .green();
    let bad = style(format!("{failed} failed")).for_stderr();
    let bad = if failed > 0 { bad.red().bold() } else { bad.dim() };
    write!(
        text,
        "\n{finished} {envelopes}: {good}, {bad}, in {}",
        time(elapsed)
    )?;
    match tracker.others() {
        0 => writeln!(text),
        others => writeln!(text, " (and {others} of earlier runs)"),
    }
}

fn results_table(text: &mut String, tracker: &Tracker) -> std::fmt::Result {
    let (good, bad) = (tracker.good(), tracker.bad());
    if tracker.finished() == 0 {
        return Ok(());
    }
    writeln!(text, "\n{:<10} {:<42} stored at", "status", "envelope")?;
    for one in good.kept() {
        result_row(text, one)?;
    }
    more(text, good)?;
    for one in bad.kept() {
        result_row(text, one)?;
        let place = one
            .failed_at
            .as_deref()
            .map_or_else(String::new, |actor| format!("at {actor}: "));
        let error = one.error.as_deref().unwrap_or("no reason given");
        writeln!(
            text,
            "{:<10} {}",
            "",
            style(format!("{place}{error}")).for_stderr().red()
        )?;
    }
    more(text, bad)
}

/// The rest is a number, and lies in the results directory.
fn more(text: &mut String, ended: &Ended) -> std::fmt::Result {
    match ended.count() - ended.kept().len() {
        0 => Ok(()),
        rest => writeln!(text, "{:<10} {rest} more", "…"),
    }
}

fn result_row(text: &mut String, one: &Finished) -> std::fmt::Result {
    let status = match one.status {
        FinalStatus::Succeeded => style("succeeded").for_stderr().green(),
        FinalStatus::Failed => style("failed").for_stderr().red().bold(),
    };
    let place = one.stored.as_deref().unwrap_or("not stored");
    writeln!(text, "{status:<10} {:<42} {place}", one.id)
}

fn hops_table(text: &mut String, tracker: &Tracker, order: &[&str]) -> std::fmt::Result {
    let hops: Vec<_> = order
        .iter()
        .filter_map(|name| Some((*name, tracker.actors().get(*name)?)))
        .collect();
    if hops.is_empty() {
        return Ok(());
    }
    let width = hops
        .iter()
        .map(|(name, _)| name.len())
        .max()
        .unwrap_or(0)
        .max("hop".len());
    // Most pipelines have no retries, and no use for the column.
    let with_retries = hops.iter().any(|(_, figures)| figures.retried > 0);
    let retried = if with_retries { " retried" } else { "" };
    writeln!(
        text,
        "\n{:<width$} {:>7} {:>7}{retried} {:>9} {:>9} {:>9}",
        "hop", "done", "failed", "median", "longest", "total"
    )?;
    for (name, figures) in hops {
        hop_row(text, name, width, figures, with_retries)?;
    }
    Ok(())
}

fn hop_row(
    text: &mut String,
    name: &str,
    width: usize,
    figures: &ActorFigures,
    with_retries: bool,
) -> std::fmt::Result {
    let retried = if with_retries {
        format!(" {:>7}", figures.retried)
    } else {
        String::new()
    };
    let times = &figures.times;
    let shown = |duration: Option<Duration>| duration.map_or_else(|| String::from("-"), time);
    writeln!(
        text,
        "{name:<width$} {:>7} {:>7}{retried} {:>9} {:>9} {:>9}",
        figures.done,
        figures.failed,
        shown(times.median()),
        shown(times.longest()),
        time(times.total()),
    )
}

/// A duration with three figures that matter.
fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds >= 120.0 {
        format!("{} min {} s", duration.as_secs() / 60, duration.as_secs() % 60)
    } else if seconds >= 1.0 {
        format!("{seconds:.2} s")
    } else if seconds >= 0.001 {
        format!("{:.1} ms", seconds * 1e3)
    } else {
        format!("{:.0} µs", seconds * 1e6)
    }
}

#[cfg(test)]
mod tests {
    use super::time;
    use std::time::Duration;

    #[test]
    fn times_read_well_at_every_size() {
        let shown = [80, 1_500, 2_500_000, 240_000_000].map(|micros| time(Duration::from_micros(micros)));
        assert_eq!(shown, ["80 µs", "1.5 ms", "2.50 s", "4 min 0 s"]);
    }
}
