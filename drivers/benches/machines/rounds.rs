//! Measures in turns: in each round every maker does the same thing once, another one first each time. The
//! first maker is the baseline.

use std::time::Duration;

use anyhow::Result;

use crate::{
    made::{self, Made, Maker},
    spans::{Recorder, Timeline},
    table::{Table, millis},
};

/// A command takes little beside a machine, so there are as many for each.
const COMMANDS_PER_SAMPLE: usize = 10;

/// How things are measured.
pub struct Rounds {
    pub recorder: Recorder,
    /// How often.
    pub n: usize,
}

impl Rounds {
    /// From nothing to the end of a machine's first command, and on the way there to the VMM's API.
    pub async fn creates<const N: usize>(
        &self,
        table: &mut Table,
        what: &str,
        makers: [&dyn Maker; N],
    ) -> Result<()> {
        let mut taken: [Vec<Timeline>; N] = std::array::from_fn(|_| Vec::new());
        let mut n_others = [0; N];
        for (round, at) in turns(what, self.n, makers.map(Maker::name)) {
            makers[at].prepare().await?;
            let creating = async {
                let machine = makers[at].create().await?;
                made::run(machine.guest()).await?;
                Ok(machine)
            };
            let (machine, timeline) = self.recorder.record(creating).await?;
            let is_typical = machine.is_typical();
            machine.remove().await?;
            // The first one pays for what the host has not read yet.
            match (round, is_typical) {
                (0, _) => {}
                (_, true) => taken[at].push(timeline),
                (_, false) => n_others[at] += 1,
            }
        }
        let names = makers.map(Maker::name);
        for (name, n) in names.iter().zip(n_others).filter(|(_, n)| *n > 0) {
            table.note(format!("{what}, {name}: {n} began in a slower way and are not counted"));
        }
        let apis = taken.each_ref().map(|all| all.iter().filter_map(Timeline::api).collect());
        add(table, &format!("{what}: spawn to API"), names, &apis);
        let whole = taken.each_ref().map(|all| wholes(all));
        add(table, &format!("{what} to first command"), names, &whole);
        note(table, what, names, &taken);
        Ok(())
    }

    /// From a machine that is written down to the end of a command in it.
    pub async fn wakes<const N: usize>(
        &self,
        table: &mut Table,
        makers: [&dyn Maker; N],
    ) -> Result<()> {
        let suspend = async |machine: &mut dyn Made| machine.suspend().await;
        let wake = async |machine: &mut dyn Made| {
            machine.wake().await?;
            made::run(machine.guest()).await
        };
        let taken = self.repeats("wake", self.n, makers, suspend, wake).await?;
        let names = makers.map(Maker::name);
        add(table, "wake to command", names, &taken.each_ref().map(|all| wholes(all)));
        note(table, "wake", names, &taken);
        Ok(())
    }

    /// A command in a machine that runs.
    pub async fn commands<const N: usize>(
        &self,
        table: &mut Table,
        makers: [&dyn Maker; N],
    ) -> Result<()> {
        let run = async |machine: &mut dyn Made| made::run(machine.guest()).await;
        let n = self.n * COMMANDS_PER_SAMPLE;
        let taken =
            self.repeats("command", n, makers, async |_: &mut dyn Made| Ok(()), run).await?;
        let whole = taken.each_ref().map(|all| wholes(all));
        add(table, "command round trip", makers.map(Maker::name), &whole);
        Ok(())
    }

    /// What the same thing takes again and again in one machine of each maker, made ready for it each
    /// time.
    async fn repeats<const N: usize>(
        &self,
        what: &str,
        n: usize,
        makers: [&dyn Maker; N],
        prepare: impl AsyncFn(&mut dyn Made) -> Result<()>,
        measured: impl AsyncFn(&mut dyn Made) -> Result<()>,
    ) -> Result<[Vec<Timeline>; N]> {
        let mut machines = Vec::new();
        for maker in makers {
            machines.push(maker.create().await?);
        }
        let mut taken: [Vec<Timeline>; N] = std::array::from_fn(|_| Vec::new());
        for (round, at) in turns(what, n, makers.map(Maker::name)) {
            let machine = &mut *machines[at];
            prepare(machine).await?;
            let ((), timeline) = self.recorder.record(measured(machine)).await?;
            if round > 0 {
                taken[at].push(timeline);
            }
        }
        for machine in machines {
            machine.remove().await?;
        }
        Ok(taken)
    }
}

fn wholes(timelines: &[Timeline]) -> Vec<Duration> {
    timelines.iter().map(|timeline| timeline.took).collect()
}

/// Whose turn it is in each round; there is one round more than are counted.
fn turns<const N: usize>(
    what: &str,
    n: usize,
    names: [&str; N],
) -> impl Iterator<Item = (usize, usize)> {
    let turns = (0..=n).flat_map(|round| (0..N).map(move |turn| (round, (round + turn) % N)));
    turns.inspect(move |(round, at)| tracing::info!(round, maker = names[*at], "{what}"))
}

fn add<const N: usize>(
    table: &mut Table,
    what: &str,
    names: [&'static str; N],
    taken: &[Vec<Duration>; N],
) {
    let Some((bare, ours)) = taken.split_first() else { return };
    for (name, ours) in names.iter().skip(1).zip(ours) {
        let what = format!("{what}{}", variant(name));
        for (ours, bare) in ours.iter().zip(bare) {
            table.add(&what, names[0], "ms", 1, (millis(*ours), millis(*bare)));
        }
        // One that waited is not spawned.
        if ours.is_empty() {
            continue;
        }
        let worst = (millis(p99(ours)), millis(p99(bare)));
        table.add(&format!("{what}, p99"), names[0], "ms", ours.len(), worst);
    }
}

fn note<const N: usize>(table: &mut Table, what: &str, names: [&str; N], taken: &[Vec<Timeline>]) {
    for (name, timelines) in names.iter().zip(taken) {
        table.note(format!("\n{what}, {name}: where the time goes, medians in ms"));
        for line in Timeline::lines(timelines) {
            table.note(line);
        }
    }
}

/// What a row adds for one of ours that is not the usual one.
pub fn variant(name: &str) -> &str {
    name.strip_prefix("ours").unwrap_or(name)
}

/// The one that 99 of 100 do not exceed.
fn p99(taken: &[Duration]) -> Duration {
    let mut sorted = taken.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * 99).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}
