//! The table of ratios: each row compares us with a baseline, round by round.

use std::{fmt, time::Duration};

/// All rows, in order.
#[derive(Debug, Default)]
pub struct Table {
    rows: Vec<Row>,
    notes: Vec<String>,
}

/// One comparison.
#[derive(Debug)]
struct Row {
    what: String,
    against: &'static str,
    unit: &'static str,
    /// How many measurements a round has.
    n: usize,
    /// Us and the baseline, one pair for each round.
    rounds: Vec<(f64, f64)>,
}

impl Table {
    /// Adds one round of a comparison.
    pub fn add(
        &mut self,
        what: &str,
        against: &'static str,
        unit: &'static str,
        n: usize,
        round: (f64, f64),
    ) {
        let row = self.rows.iter_mut().find(|row| row.what == what && row.against == against);
        match row {
            Some(row) => row.rounds.push(round),
            None => {
                let rounds = vec![round];
                self.rows.push(Row { what: what.to_owned(), against, unit, n, rounds });
            }
        }
    }

    /// Adds a line below the table.
    pub fn note(&mut self, text: String) {
        self.notes.push(text);
    }
}

/// The one in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    let (low, high) = ((values.len().max(1) - 1) / 2, values.len() / 2);
    match (values.get(low), values.get(high)) {
        (Some(low), Some(high)) => f64::midpoint(*low, *high),
        _ => f64::NAN,
    }
}

pub fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "\n{:<46} {:<36} {:>6} {:>13} {:>10} {:>10} {:>10}  unit",
            "what", "against", "ratio", "min-max", "n", "here", "there"
        )?;
        for row in &self.rows {
            let ratios: Vec<_> = row.rounds.iter().map(|(here, there)| here / there).collect();
            let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
            let most = ratios.iter().copied().fold(0.0, f64::max);
            writeln!(
                f,
                "{:<46} {:<36} {:>6.2} {:>13} {:>10} {:>10.*} {:>10.*}  {}",
                row.what,
                row.against,
                median(ratios.iter().copied()),
                format!("{least:.2}-{most:.2}"),
                format!("{} x {}", row.rounds.len(), row.n),
                digits(row.unit),
                median(row.rounds.iter().map(|round| round.0)),
                digits(row.unit),
                median(row.rounds.iter().map(|round| round.1)),
                row.unit
            )?;
        }
        writeln!(
            f,
            "\nratio, here, there: medians of the rounds; n: rounds x measurements a round."
        )?;
        self.notes.iter().try_for_each(|note| writeln!(f, "{note}"))
    }
}

fn digits(unit: &str) -> usize {
    match unit {
        "ms" => 2,
        "us" => 1,
        _ => 0,
    }
}
