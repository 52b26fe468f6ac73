//! What a meter has measured up to an instant, and how that is cut into windows.
//!
//! Everything is a function of the instant: whole seconds since the meter opened, and from those its
//! price. A window is the difference of two such values, so however a life is cut, its windows add up
//! to the whole, in seconds and in credit.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};
use domain::{
    id::{ProjectId, SandboxId},
    metric::Metric,
};

use crate::{Result, error::narrow, pricing::PricingVersion};

/// Something that was counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Count {
    /// When.
    pub at: DateTime<Utc>,
    /// How much, in whole units.
    pub amount: i64,
}

/// A time in which a command was active; one that still is ends at the end of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub until: DateTime<Utc>,
}

/// Where a meter's quantity comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Source {
    /// Time since it opened.
    Time {
        /// When it opened.
        opened_at: DateTime<Utc>,
        /// It measures nothing from here on: it was closed, or its sandbox's lifetime ends.
        ends_at: DateTime<Utc>,
        /// Compute units of the instance, in thousandths.
        multiplier_milli: i64,
        /// When commands were active, sorted, none touching another. Read only where idle time has a
        /// price of its own.
        active: Vec<Span>,
    },
    /// What was counted and is not settled yet, in order of time.
    Counted(Vec<Count>),
}

/// How far a meter is settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Settled {
    /// Up to this instant.
    pub until: DateTime<Utc>,
    /// The quantity in its windows so far, in thousandths.
    pub quantity_milli: i64,
    /// The price of that, in nano-credits.
    pub amount: i64,
    /// How many parts were counted so far; tells windows of counted metrics apart.
    pub n_parts: i64,
}

/// A meter of a sandbox.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Meter {
    /// Whose it is.
    pub sandbox: SandboxId,
    /// The project of the sandbox.
    pub project: ProjectId,
    /// What it measures.
    pub metric: Metric,
    /// The version that its sandbox was created under.
    pub pricing: Arc<PricingVersion>,
    /// Where its quantity comes from.
    pub source: Source,
    /// How far it is settled.
    pub settled: Settled,
}

/// A piece of usage: what was measured in `[from, until)`, and its price.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Piece {
    /// Its first instant.
    pub from: DateTime<Utc>,
    /// The first instant after it.
    pub until: DateTime<Utc>,
    /// Tells pieces of counted metrics with the same `from` apart; 0 for time.
    pub part: i64,
    /// In thousandths of a unit.
    pub quantity_milli: i64,
    /// In nano-credits.
    pub amount: i64,
}

/// Whole seconds between two instants.
fn seconds(from: DateTime<Utc>, until: DateTime<Utc>) -> i64 {
    (until - from).num_seconds().max(0)
}

/// Whole seconds of activity in `[from, until)`.
fn active_seconds(active: &[Span], from: DateTime<Utc>, until: DateTime<Utc>) -> i64 {
    let mut sum = TimeDelta::zero();
    for span in active {
        let (from, until) = (span.from.max(from), span.until.min(until));
        if from < until {
            sum += until - from;
        }
    }
    sum.num_seconds()
}

/// Makes overlapping or touching times one, in order.
#[must_use]
pub fn merge(mut spans: Vec<Span>) -> Vec<Span> {
    spans.sort_by_key(|span| (span.from, span.until));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans {
        match merged.last_mut() {
            Some(last) if span.from <= last.until => last.until = last.until.max(span.until),
            _ => merged.push(span),
        }
    }
    merged
}

impl Meter {
    /// The quantity measured before `at`, in thousandths; never less than what is settled.
    ///
    /// # Errors
    /// [`crate::Error::Overflow`].
    pub fn quantity_milli(&self, at: DateTime<Utc>) -> Result<i64> {
        let measured = match &self.source {
            Source::Time { opened_at, ends_at, multiplier_milli, active } => {
                let until = at.min(*ends_at);
                let all = i128::from(seconds(*opened_at, until)) * 1000;
                let idle_factor = i128::from(self.pricing.idle_factor_milli);
                let counted = if idle_factor == 1000 {
                    all
                } else {
                    let active = i128::from(active_seconds(active, *opened_at, until)) * 1000;
                    (active * 1000 + (all - active) * idle_factor) / 1000
                };
                counted * i128::from(*multiplier_milli) / 1000
            }
            Source::Counted(counts) => {
                let counted = counts.iter().filter(|count| count.at < at);
                let sum: i128 = counted.map(|count| i128::from(count.amount)).sum();
                i128::from(self.settled.quantity_milli) + sum * 1000
            }
        };
        Ok(narrow(measured, "a quantity")?.max(self.settled.quantity_milli))
    }

    /// What the quantity before `at` costs beyond what is settled, in nano-credits.
    ///
    /// # Errors
    /// [`crate::Error::Overflow`].
    pub fn unsettled(&self, at: DateTime<Utc>) -> Result<i64> {
        let price = self.pricing.price(self.metric, self.quantity_milli(at)?)?;
        Ok((price - self.settled.amount).max(0))
    }

    /// Settles the meter up to `until`: takes what was measured since it last was, as pieces that no
    /// boundary divides. `boundaries` are sorted; the grid's are added to them. No piece of time
    /// goes on after the end of what is measured.
    ///
    /// # Errors
    /// [`crate::Error::Overflow`].
    pub fn settle(
        &mut self,
        until: DateTime<Utc>,
        boundaries: &[DateTime<Utc>],
        grid: Grid,
    ) -> Result<Vec<Piece>> {
        let end = match &self.source {
            Source::Counted(_) => return self.settle_counts(until, boundaries, grid),
            Source::Time { ends_at, .. } => until.min(*ends_at),
        };
        let mut pieces = Vec::new();
        while self.settled.until < end {
            let from = self.settled.until;
            let cut = grid.after(from).min(end).min(next(boundaries, from));
            pieces.extend(self.take(from, cut, 0)?);
            self.settled.until = cut;
        }
        // Nothing is measured after the end, so that is settled as well.
        self.settled.until = self.settled.until.max(until);
        Ok(pieces)
    }

    /// Counts lie where they happened, even if they come late: each cell of the grid that has some is
    /// a piece.
    fn settle_counts(
        &mut self,
        until: DateTime<Utc>,
        boundaries: &[DateTime<Utc>],
        grid: Grid,
    ) -> Result<Vec<Piece>> {
        let Source::Counted(counts) = &mut self.source else { return Ok(Vec::new()) };
        counts.sort_by_key(|count| count.at);
        let late = counts.partition_point(|count| count.at < until);
        let mut left = counts.split_off(late);
        std::mem::swap(&mut left, counts);
        let (rest, due) = (std::mem::take(counts), left);
        let mut pieces = Vec::new();
        let mut due = due.into_iter().peekable();
        while let Some(first) = due.peek().copied() {
            let from = grid.floor(first.at).max(previous(boundaries, first.at));
            let cut = grid.after(first.at).min(next(boundaries, first.at));
            let mut cell = Vec::new();
            while let Some(count) = due.next_if(|count| count.at < cut) {
                cell.push(count);
            }
            self.source = Source::Counted(cell);
            pieces.extend(self.take(from, cut, self.settled.n_parts)?);
            self.settled.n_parts += 1;
        }
        self.source = Source::Counted(rest);
        self.settled.until = self.settled.until.max(until);
        Ok(pieces)
    }

    fn take(
        &mut self,
        from: DateTime<Utc>,
        until: DateTime<Utc>,
        part: i64,
    ) -> Result<Option<Piece>> {
        let quantity = self.quantity_milli(until)?;
        let amount = self.pricing.price(self.metric, quantity)?.max(self.settled.amount);
        let piece = Piece {
            from,
            until,
            part,
            quantity_milli: quantity - self.settled.quantity_milli,
            amount: amount - self.settled.amount,
        };
        self.settled.quantity_milli = quantity;
        self.settled.amount = amount;
        Ok((piece.quantity_milli > 0).then_some(piece))
    }
}

/// The instants at which windows end, whoever cuts them: multiples of a length since the epoch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Grid(i64);

impl Grid {
    /// A grid of windows of so many seconds, 1 to 86400; a day must be a multiple of it, so that days
    /// and months begin with a window.
    #[must_use]
    pub fn of_seconds(seconds: u32) -> Option<Self> {
        let fits = seconds > 0 && 86_400_u32.checked_rem(seconds) == Some(0);
        fits.then_some(Self(i64::from(seconds)))
    }

    /// The last end of a window that is not after `at`.
    #[must_use]
    pub fn floor(self, at: DateTime<Utc>) -> DateTime<Utc> {
        let second = at.timestamp().div_euclid(self.0) * self.0;
        DateTime::from_timestamp(second, 0).unwrap_or(at)
    }

    /// The first end of a window after `at`.
    #[must_use]
    pub fn after(self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.floor(at) + TimeDelta::seconds(self.0)
    }
}

/// The first boundary after `at`.
fn next(boundaries: &[DateTime<Utc>], at: DateTime<Utc>) -> DateTime<Utc> {
    let place = boundaries.partition_point(|boundary| *boundary <= at);
    boundaries.get(place).copied().unwrap_or(DateTime::<Utc>::MAX_UTC)
}

/// The last boundary that is not after `at`.
fn previous(boundaries: &[DateTime<Utc>], at: DateTime<Utc>) -> DateTime<Utc> {
    let place = boundaries.partition_point(|boundary| *boundary <= at);
    let before = place.checked_sub(1).and_then(|place| boundaries.get(place));
    before.copied().unwrap_or(DateTime::<Utc>::MIN_UTC)
}
