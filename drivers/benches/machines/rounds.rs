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
        for (round, at) in turns(self.n, N) {
            let creating = async {
                let machine = makers[at].create().await?;
                made::run(machine.guest()).await?;
                Ok(machine)
            };
            let (machine, timeline) = self.recorder.record(creating).await?;
            machine.remove().await?;
            // The first one pays for what the host has not read yet.
            if round > 0 {
                taken[at].push(timeline);
            }
        }
        let names = makers.map(Maker::name);
        let apis = taken.each_ref().map(|all| all.iter().filter_map(Timeline::api).collect());
        add(table, &format!("{what}: spawn to API"), names, &apis);
        let whole = taken.each_ref().map(|all| all.iter().map(|one| one.took).collect());
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
        let mut machines = Vec::new();
        for maker in makers {
            machines.push(maker.create().await?);
        }
        let mut taken: [Vec<Timeline>; N] = std::array::from_fn(|_| Vec::new());
        for (round, at) in turns(self.n, N) {
            let machine: &mut Box<dyn Made> = &mut machines[at];
            machine.suspend().await?;
            let waking = async {
                machine.wake().await?;
                made::run(machine.guest()).await
            };
            let ((), timeline) = self.recorder.record(waking).await?;
            if round > 0 {
                taken[at].push(timeline);
            }
        }
        for machine in machines {
            machine.remove().await?;
        }
        let whole = taken.each_ref().map(|all| all.iter().map(|one| one.took).collect());
        let names = makers.map(Maker::name);
        add(table, "wake to command", names, &whole);
        note(table, "wake", names, &taken);
        Ok(())
    }

    /// A command in a machine that runs.
    pub async fn commands<const N: usize>(
        &self,
        table: &mut Table,
        makers: [&dyn Maker; N],
    ) -> Result<()> {
        let mut machines = Vec::new();
        for maker in makers {
            machines.push(maker.create().await?);
        }
        let mut taken: [Vec<Duration>; N] = std::array::from_fn(|_| Vec::new());
        for (round, at) in turns(self.n * COMMANDS_PER_SAMPLE, N) {
            let ((), timeline) = self.recorder.record(made::run(machines[at].guest())).await?;
            if round > 0 {
                taken[at].push(timeline.took);
            }
        }
        for machine in machines {
            machine.remove().await?;
        }
        add(table, "command round trip", makers.map(Maker::name), &taken);
        Ok(())
    }
}

/// Whose turn it is in each round; there is one round more than are counted.
fn turns(n: usize, n_makers: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..=n).flat_map(move |round| (0..n_makers).map(move |turn| (round, (round + turn) % n_makers)))
}

fn add<const N: usize>(
    table: &mut Table,
    what: &str,
    names: [&'static str; N],
    taken: &[Vec<Duration>; N],
) {
    let Some((bare, ours)) = taken.split_first() else { return };
    for (name, ours) in names.iter().skip(1).zip(ours) {
        let what = format!("{what}, {name}");
        for (ours, bare) in ours.iter().zip(bare) {
            table.add(&what, names[0], "ms", 1, (millis(*ours), millis(*bare)));
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

/// The one that 99 of 100 do not exceed.
fn p99(taken: &[Duration]) -> Duration {
    let mut sorted = taken.to_vec();
    sorted.sort_unstable();
    let rank = (sorted.len() * 99).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or_default()
}
