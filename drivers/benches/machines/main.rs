//! `make bench-microvm`: what the Cloud Hypervisor driver adds to the VMM that it drives. Machines of the
//! driver and of a bare VMM, made and used in turns in one run; one that was booted ahead is the same file
//! for both. A host that is emulated says something of ratios and nothing of times.
//!
//!   machines [SAMPLES] [WHAT..]   measures where machines run, which `tests/microvm/bench` sees to. WHAT:
//!                                 warm, cold, wake, command, memory; all without one

#![expect(clippy::print_stdout, reason = "a table is what this makes")]

mod bare;
mod idle;
mod made;
mod ours;
mod rounds;
#[expect(dead_code, reason = "processes that serve requests have their CPU time measured, too")]
#[path = "../../../tests/bench/run.rs"]
mod run;
mod spans;
#[path = "../../../tests/bench/table.rs"]
mod table;

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use drivers::{
    Spec,
    cloud_hypervisor::{CloudHypervisorConfig, Start},
    contract,
};
use tokio::{runtime, signal::ctrl_c};

use self::{
    bare::{Bare, From},
    made::Maker,
    ours::Ours,
    rounds::Rounds,
    spans::Recorder,
    table::Table,
};

/// The VMM's path, as for the server's setting.
const VMM: &str = "CROWNEST_CLOUD_HYPERVISOR";
/// The directory with a kernel, an initramfs and images.
const IMAGES: &str = "CROWNEST_MACHINE_IMAGES";
/// Which way machines run here: `real` or `emulated`.
const HOST: &str = "MICROVM_HOST";

/// What there is to measure.
const ALL: [&str; 5] = ["warm", "cold", "wake", "command", "memory"];
const SAMPLES: usize = 100;
const SAMPLES_EMULATED: usize = 12;
/// What to know of the rows.
const NOTES: [&str; 4] = [
    "bare: the same VMM, kernel, image, disk and memory without jail, network, control groups, locks and \
     records; its disks are made before.",
    "ours: in a VMM that was started ahead, as the next of several creates finds one; no spare: in a \
     new one.",
    "p99: of fewer than 100 measurements, the worst.",
    "goal: a warm create to its first command takes at most 1.25 of the bare VMM's time.",
];

fn main() -> Result<()> {
    // Cargo says this to every program that it runs as a measurement.
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let way = env::var(HOST).unwrap_or_else(|_| "real".to_owned());
    let (n_samples, what) = match arguments.split_first() {
        Some((first, rest)) if first.parse::<usize>().is_ok() => (first.parse()?, rest),
        Some(_) | None if way == "emulated" => (SAMPLES_EMULATED, &arguments[..]),
        Some(_) | None => (SAMPLES, &arguments[..]),
    };
    ensure!(
        n_samples > 0 && what.iter().all(|what| ALL.contains(what)),
        "usage: machines [SAMPLES] [{}]",
        ALL.join("|")
    );
    let what = if what.is_empty() { &ALL[..] } else { what };
    println!("{way} host: {}", run::host("the driver, the VMMs and their machines"));
    let recorder = Recorder::install();
    let bench = Bench::prepare(recorder, n_samples)?;
    // As the server has it.
    runtime::Builder::new_multi_thread().enable_all().build()?.block_on(async {
        let mut table = Table::default();
        let measured = tokio::select! {
            measured = bench.measure(&mut table, what) => measured,
            _ = ctrl_c() => Err(anyhow!("interrupted")),
        };
        // What was measured before something went wrong is as good as ever.
        println!("{table}");
        println!("at the end: {}", run::load());
        // The driver's machines outlive it.
        bench.spare.close().await;
        measured.and(bench.warm.clear().await)
    })
}

/// What takes part.
struct Bench {
    spec: Spec,
    state: PathBuf,
    /// Goes with the run, and with it what is in the others' directories.
    folder: tempfile::TempDir,
    images: CloudHypervisorConfig,
    spare: Ours,
    warm: Ours,
    without_network: Ours,
    cold: Ours,
    rounds: Rounds,
}

impl Bench {
    fn prepare(recorder: Recorder, n_samples: usize) -> Result<Self> {
        let named = |name: &str| {
            env::var_os(name).map(PathBuf::from).with_context(|| format!("{name} is not set"))
        };
        let folder = tempfile::Builder::new().prefix("crownest-").tempdir()?;
        let (spec, state) = (contract::spec(), folder.path().join("state"));
        let images = CloudHypervisorConfig {
            vmm: fs::canonicalize(named(VMM)?)?,
            ..CloudHypervisorConfig::new(&state, fs::canonicalize(named(IMAGES)?)?)
        };
        let ours =
            |name, start, config: CloudHypervisorConfig| Ours::new(name, start, config, &spec);
        let spare = CloudHypervisorConfig { n_spares: 1, ..images.clone() };
        let warm = images.clone();
        let without_network = CloudHypervisorConfig { network: None, ..images.clone() };
        let cold = CloudHypervisorConfig { warm_start: false, ..images.clone() };
        Ok(Self {
            spare: ours("ours", Start::Spare, spare),
            warm: ours("ours, no spare", Start::Clone, warm),
            without_network: ours("ours, no network", Start::Clone, without_network),
            cold: ours("ours", Start::Boot, cold),
            rounds: Rounds { recorder, n: n_samples },
            spec,
            state,
            folder,
            images,
        })
    }

    async fn measure(&self, table: &mut Table, what: &[&str]) -> Result<()> {
        for note in NOTES {
            table.note(note.to_owned());
        }
        tracing::info!("preparing machines to begin with");
        // The bare VMM's machines have no network, so this is the one they begin with, too.
        self.without_network.prepare().await?;
        let golden = self.golden()?;
        let folder = self.folder.path().join("bare");
        let bare = |from| Bare::new(from, &self.images, &golden, &folder, &self.spec);
        let (restored, booted) = (bare(From::Golden).await?, bare(From::Boot).await?);
        if what.contains(&"warm") {
            let makers: [&dyn Maker; 4] =
                [&restored, &self.spare, &self.warm, &self.without_network];
            self.rounds.creates(table, "warm create", makers).await?;
            // What follows is measured without one more VMM.
            self.spare.close().await;
        }
        if what.contains(&"cold") {
            self.rounds.creates(table, "cold create", [&booted, &self.cold]).await?;
        }
        if what.contains(&"wake") {
            self.rounds.wakes(table, [&booted, &self.cold]).await?;
        }
        if what.contains(&"command") {
            self.warm.prepare().await?;
            self.rounds.commands(table, [&restored, &self.warm]).await?;
        }
        if what.contains(&"memory") {
            self.warm.prepare().await?;
            idle::measure(table, [&restored, &self.warm]).await?;
        }
        Ok(())
    }

    /// The directory of the one golden machine that has been made.
    fn golden(&self) -> Result<PathBuf> {
        let shelf = self.state.join("warm/golden");
        let found: Vec<_> = fs::read_dir(&shelf)?.collect::<Result<_, _>>()?;
        match &found[..] {
            [golden] => Ok(golden.path()),
            _ => bail!("{} golden machines where there should be one", found.len()),
        }
    }
}
