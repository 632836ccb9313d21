//! Measured figures as rows of one table, for people and as JSON.

use std::fmt;
use std::io::{self, Write};

use serde::Serialize;

use crate::machine::Machine;

/// A value with its unit, for example 3 210 `/s`.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quantity {
    /// The value.
    pub value: f64,
    /// `/s`, `us`, `ms`, `KiB` or `MiB`.
    pub unit: &'static str,
}

/// What a figure of ours is set beside.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Beside {
    /// What was measured, in a few words.
    pub name: &'static str,
    /// Its median over the rounds.
    pub quantity: Quantity,
}

/// Median and extremes over the rounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// The middle round.
    pub median: f64,
    /// The lowest round.
    pub low: f64,
    /// The highest round.
    pub high: f64,
}

/// One row.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The section that it belongs to, as in `--only`.
    pub section: &'static str,
    /// What was measured.
    pub name: String,
    /// Our figure.
    pub ours: Quantity,
    /// What it is set beside, if anything.
    pub beside: Option<Beside>,
    /// Our speed relative to it, round by round: 1 is as fast, 0.5 takes twice as long.
    pub ratio: Option<Spread>,
    /// The ratio that we want to reach.
    pub aim: Option<f64>,
    /// What our figure itself should not exceed.
    pub limit: Option<f64>,
}

/// A section without figures, or without all of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Skipped {
    /// The section.
    pub section: &'static str,
    /// Why, and what to do about it.
    pub reason: String,
}

/// Everything that one run of `bench` found out.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// Where and when it was measured.
    pub machine: Machine,
    /// The figures.
    pub rows: Vec<Row>,
    /// What is missing.
    pub skipped: Vec<Skipped>,
    /// What went wrong.
    pub failed: Vec<Skipped>,
}

impl Spread {
    /// Of at least one value; all zero without any.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_unstable_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or_default();
        let last = values.len().saturating_sub(1);
        Self {
            median: f64::midpoint(at(last / 2), at(last.div_ceil(2))),
            low: at(0),
            high: at(last),
        }
    }
}

/// The median of `values`.
#[must_use]
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    Spread::of(values).median
}

impl Row {
    /// A figure that stands alone.
    #[must_use]
    pub fn alone(section: &'static str, name: impl Into<String>, value: f64, unit: &'static str) -> Self {
        let ours = Quantity { value, unit };
        Self {
            section,
            name: name.into(),
            ours,
            beside: None,
            ratio: None,
            aim: None,
            limit: None,
        }
    }

    /// The median of the rounds of a figure that stands alone.
    #[must_use]
    pub fn median(
        section: &'static str,
        name: impl Into<String>,
        values: &[f64],
        unit: &'static str,
    ) -> Self {
        Self::alone(section, name, median(values.iter().copied()), unit)
    }

    /// Rates per second of the same rounds, ours and theirs: higher is better.
    #[must_use]
    pub fn rates(
        section: &'static str,
        name: impl Into<String>,
        ours: &[f64],
        (beside, theirs): (&'static str, &[f64]),
    ) -> Self {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs);
        Self::compared(
            section,
            name.into(),
            "/s",
            ours,
            (beside, theirs),
            Spread::of(ratios),
        )
    }

    /// Times of the same rounds, ours and theirs: lower is better.
    #[must_use]
    pub fn times(
        section: &'static str,
        name: impl Into<String>,
        unit: &'static str,
        ours: &[f64],
        (beside, theirs): (&'static str, &[f64]),
    ) -> Self {
        let ratios = ours.iter().zip(theirs).map(|(ours, theirs)| theirs / ours);
        Self::compared(
            section,
            name.into(),
            unit,
            ours,
            (beside, theirs),
            Spread::of(ratios),
        )
    }

    fn compared(
        section: &'static str,
        name: String,
        unit: &'static str,
        ours: &[f64],
        (beside, theirs): (&'static str, &[f64]),
        ratio: Spread,
    ) -> Self {
        let quantity = |values: &[f64]| Quantity {
            value: median(values.iter().copied()),
            unit,
        };
        let beside = Some(Beside {
            name: beside,
            quantity: quantity(theirs),
        });
        Self {
            section,
            name,
            ours: quantity(ours),
            beside,
            ratio: Some(ratio),
            aim: None,
            limit: None,
        }
    }

    /// Names the ratio that we want.
    #[must_use]
    pub fn aim(mut self, ratio: f64) -> Self {
        self.aim = Some(ratio);
        self
    }

    /// Names what our figure should not exceed.
    #[must_use]
    pub fn limit(mut self, most: f64) -> Self {
        self.limit = Some(most);
        self
    }

    /// Sets another figure beside ours, without comparing them.
    #[must_use]
    pub fn beside(mut self, name: &'static str, value: f64, unit: &'static str) -> Self {
        let quantity = Quantity { value, unit };
        self.beside = Some(Beside { name, quantity });
        self
    }

    /// Whether the aim is reached; `None` without one.
    #[must_use]
    pub fn reached(&self) -> Option<bool> {
        if let Some(most) = self.limit {
            return Some(self.ours.value <= most);
        }
        Some(self.ratio?.median >= self.aim?)
    }

    /// The row in one line, for whoever waits for the table.
    #[must_use]
    pub fn summary(&self) -> String {
        let cells = self.cells();
        let cells: Vec<_> = cells
            .iter()
            .map(|cell| cell.trim())
            .filter(|cell| !cell.is_empty())
            .collect();
        format!("{}: {}", self.section, cells.join(" | "))
    }

    fn wanted(&self) -> Option<String> {
        if let Some(value) = self.limit {
            let unit = self.ours.unit;
            return Some(format!("≤ {}", Quantity { value, unit }));
        }
        Some(format!("≥ {:.2}", self.aim?))
    }

    fn cells(&self) -> [String; 6] {
        let text = |value: Option<String>| value.unwrap_or_default();
        [
            self.name.clone(),
            self.ours.to_string(),
            text(self.beside.as_ref().map(|beside| beside.quantity.to_string())),
            text(self.beside.as_ref().map(|beside| beside.name.to_owned())),
            text(
                self.ratio
                    .map(|ratio| format!("{:.2}  ({:.2}–{:.2})", ratio.median, ratio.low, ratio.high)),
            ),
            text(self.wanted().map(|wanted| {
                let verdict = if self.reached() == Some(true) {
                    "reached"
                } else {
                    "SHORT"
                };
                format!("{wanted} {verdict}")
            })),
        ]
    }
}

impl fmt::Display for Quantity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let decimals = match self.value.abs() {
            ..10.0 => 2,
            ..100.0 => 1,
            _ => 0,
        };
        let unit = if self.unit == "us" { "µs" } else { self.unit };
        write!(formatter, "{:.decimals$} {unit}", self.value)
    }
}

const HEADINGS: [&str; 6] = [
    "figure",
    "ours",
    "beside",
    "what stands beside",
    "ratio (rounds)",
    "aim",
];

impl Report {
    /// Writes the table.
    ///
    /// # Errors
    /// When `out` cannot be written.
    pub fn print(&self, out: &mut impl Write) -> io::Result<()> {
        writeln!(out, "{}", self.machine)?;
        let table: Vec<_> = self.rows.iter().map(|row| (row.section, row.cells())).collect();
        let width = |column: usize| {
            let cells = table.iter().map(|(_, cells)| cells[column].chars().count());
            cells.chain([HEADINGS[column].len()]).max().unwrap_or_default()
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        let mut section = "";
        for (of, cells) in &table {
            if *of != section {
                section = of;
                writeln!(out, "\n{section}")?;
                write_line(out, &HEADINGS.map(str::to_owned), &widths)?;
            }
            write_line(out, cells, &widths)?;
        }
        for skipped in &self.skipped {
            writeln!(out, "\n{} was not measured: {}", skipped.section, skipped.reason)?;
        }
        for failed in &self.failed {
            writeln!(out, "\n{} FAILED: {}", failed.section, failed.reason)?;
        }
        Ok(())
    }
}

fn write_line(out: &mut impl Write, cells: &[String; 6], widths: &[usize; 6]) -> io::Result<()> {
    let mut line = String::from(" ");
    for (column, (cell, width)) in cells.iter().zip(widths).enumerate() {
        let cell = if matches!(column, 1 | 2) {
            format!(" {cell:>width$}")
        } else {
            format!(" {cell:<width$}")
        };
        line.push_str(&cell);
        line.push(' ');
    }
    writeln!(out, "{}", line.trim_end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ratio_is_taken_round_by_round_and_says_how_fast_we_are() {
        let rates = Row::rates("hop", "x", &[50.0, 90.0, 10.0], ("y", &[100.0, 100.0, 100.0]));
        assert_eq!(
            rates.ratio,
            Some(Spread {
                median: 0.5,
                low: 0.1,
                high: 0.9
            })
        );
        let times = Row::times("hop", "x", "us", &[200.0], ("y", &[100.0])).aim(0.8);
        assert_eq!(times.ratio.map(|ratio| ratio.median), Some(0.5));
        assert_eq!((times.reached(), rates.reached()), (Some(false), None));
    }

    #[test]
    fn a_figure_with_a_limit_reaches_it_from_below() {
        let row = |value| Row::alone("latency", "x", value, "us").limit(200.0);
        assert_eq!(
            (row(199.0).reached(), row(201.0).reached()),
            (Some(true), Some(false))
        );
        assert_eq!(row(1.0).wanted().as_deref(), Some("≤ 200 µs"));
    }

    #[test]
    fn an_even_number_of_rounds_has_its_median_in_the_middle() {
        assert_eq!(
            Spread::of([4.0, 1.0, 3.0, 2.0]),
            Spread {
                median: 2.5,
                low: 1.0,
                high: 4.0
            }
        );
    }
}
