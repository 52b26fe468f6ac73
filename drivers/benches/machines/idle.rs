//! What machines cost that do nothing: the memory of all their processes, where pages that several share
//! count for each by its share of them.

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result};

use crate::{
    made::{self, Made, Maker},
    rounds::variant,
    table::{Table, median},
};

/// How many there are at once.
const N_IDLE: usize = 20;

/// The first maker is the baseline.
pub async fn measure<const N: usize>(table: &mut Table, makers: [&dyn Maker; N]) -> Result<()> {
    let mut measured = Vec::new();
    for maker in makers {
        measured.push((maker.name(), of(maker, table).await?));
    }
    let Some(((against, bare), ours)) = measured.split_first() else { return Ok(()) };
    for (name, ours) in ours {
        for (at, n) in [1, N_IDLE].into_iter().enumerate() {
            let what = format!("memory of an idle machine of {n}{}", variant(name));
            table.add(&what, against, "KiB", n, (ours[at], bare[at]));
        }
    }
    Ok(())
}

/// The memory of each, of one and of many, in KiB.
async fn of(maker: &dyn Maker, table: &mut Table) -> Result<[f64; 2]> {
    let mut machines: Vec<Box<dyn Made>> = Vec::new();
    let mut of_one = 0.0;
    while machines.len() < N_IDLE {
        tracing::info!(before = machines.len(), maker = maker.name(), "idle machine");
        let machine = maker.create().await?;
        made::run(machine.guest()).await?;
        if !machine.is_typical() {
            machine.remove().await?;
            continue;
        }
        machines.push(machine);
        if let [machine] = &machines[..] {
            of_one = programs(&**machine)?.values().sum();
        }
    }
    let many: Vec<_> =
        machines.iter().map(|machine| programs(&**machine)).collect::<Result<_>>()?;
    for machine in machines {
        machine.remove().await?;
    }
    let mut by_name: BTreeMap<&str, Vec<f64>> = BTreeMap::new();
    for (name, kib) in many.iter().flatten() {
        by_name.entry(name).or_default().push(*kib);
    }
    let parts = by_name.into_iter().map(|(name, kib)| format!("{name} {:.0}", median(kib)));
    let parts = parts.collect::<Vec<_>>().join(", ");
    table.note(format!("memory of {N_IDLE}, KiB of each, {}: {parts}", maker.name()));
    let n = f64::from(u32::try_from(many.len())?);
    Ok([of_one, many.iter().flat_map(BTreeMap::values).sum::<f64>() / n])
}

/// The memory of a machine's processes by their programs' names.
fn programs(machine: &dyn Made) -> Result<BTreeMap<String, f64>> {
    let mut programs = BTreeMap::new();
    for pid in machine.processes()? {
        let read = |name: &str| fs::read_to_string(format!("/proc/{pid}/{name}"));
        let text = read("smaps_rollup")?;
        let share = text.lines().find_map(|line| line.strip_prefix("Pss:")?.strip_suffix(" kB"));
        let kib: f64 = share.context("a process has a share of pages")?.trim().parse()?;
        *programs.entry(read("comm")?.trim().to_owned()).or_default() += kib;
    }
    Ok(programs)
}

/// A process and all that descend from it.
pub fn family(first: u32) -> Vec<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    let parents: Vec<_> = pids.filter_map(|pid| Some((pid, parent(pid)?))).collect();
    let mut family = vec![first];
    let mut at = 0;
    while let Some(one) = family.get(at).copied() {
        family.extend(parents.iter().filter(|(_, parent)| *parent == one).map(|(pid, _)| pid));
        at += 1;
    }
    family
}

fn parent(pid: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}
