//! The journal in the eyes of hledger, which knows nothing of us: it must balance, and come to the same
//! totals as ours, account by account.

use std::{
    collections::BTreeMap,
    io::Write,
    process::{Command, Stdio},
};

use rust_decimal::Decimal;
use store::Everyone;
use tests::{Database, Team, Value, World, json, operator::says, run::skipped, stories};

stories![hledger_comes_to_the_same_totals];

/// Three organizations from January to March: credit of every kind, some of it expiring, overage that
/// is invoiced and overage that nobody is asked for, and usage that was measured wrong.
async fn hledger_comes_to_the_same_totals(database: Database) {
    if hledger(&["--version"], "").is_none() {
        skipped("hledger", "hledger is not installed");
        return;
    }
    let world = World::on(database).at("2031-01-30T12:00:00Z").await;
    let acme = world.team("acme").await;
    let big = world.team_on("big", domain::limits::Plan::Enterprise).await;
    let free = world.team_on("free", domain::limits::Plan::Free).await;
    let grant = "grant --organization acme adjustment 5.000000001 --expires-at 2031-01-31 --key a";
    let _ = says(&world, &format!("{grant} --reason 'an apology: 5, and more'")).await.is_done();
    let grant = "grant --organization big purchased 0.5 --reason 'order 17' --key";
    says(&world, &format!("{grant} 'one\n2031-01-30 two'")).await.is_refused("control characters");
    let _ = says(&world, &format!("{grant} 'one, two; three: 4'")).await.is_done();

    // An hour each: 3.6 credits, of which big has 0.5.
    for team in [&acme, &big, &free] {
        team.starts(json!({ "ttlMs": 3_600_000 })).await;
    }
    world.advance("90m").await;
    everything_is_booked(&world).await;
    world.advance("12h").await; // 31 January, 01:30: what is left of the apology is lost.
    everything_is_booked(&world).await;
    world.advance("36h").await; // 1 February, 13:30: January is closed.
    until_closed(&world, 3).await;

    // January's usage was wrong; February's statement will say so.
    let window = first_window(&world, "big").await;
    corrects(&world, "big", &window, "30").await;
    corrects(&world, "big", &window, "0").await;
    corrects(&world, "acme", &first_window(&world, "acme").await, "90.5").await;
    free.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("2m").await;
    everything_is_booked(&world).await;
    world.advance("30d").await; // 3 March: February is closed.
    until_closed(&world, 6).await;

    let journal = says(&world, "journal").await.is_done();
    assert_eq!(balances(&journal), totals(&world, &[&acme, &big, &free]).await);
    // Besides what it always checks: that it reads, and that every transaction balances.
    let _ = hledger(&["check", "commodities"], &journal);
    let register = hledger(&["reg", "tag:reason=order 17", "-O", "csv"], &journal).unwrap();
    assert_eq!(register.lines().count(), 3, "a heading, and both sides of the grant: {register}");

    // One alone is a part of it.
    let alone = says(&world, "journal --organization big").await.is_done();
    let mut whole = balances(&journal);
    whole.retain(|account, _| account.starts_with(&big.org_id));
    assert_eq!(balances(&alone), whole);
    world.close().await;
}

/// Runs hledger on a journal; `None` when there is no hledger.
fn hledger(arguments: &[&str], journal: &str) -> Option<String> {
    let mut command = Command::new("hledger");
    if arguments != ["--version"] {
        command.args(["-f", "-"]);
    }
    // It must not depend on how the host is set up, nor on its language.
    command.args(arguments).env_clear().env("LC_ALL", "C.UTF-8");
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
    let command = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = match command.spawn() {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return None,
        child => child.unwrap(),
    };
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        // It may end without having read what it does not need.
        scope.spawn(move || stdin.write_all(journal.as_bytes()));
        let done = child.wait_with_output().unwrap();
        let complaint = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "hledger {arguments:?}: {complaint}\n{journal}");
        Some(String::from_utf8(done.stdout).unwrap())
    })
}

/// What hledger makes of a journal: the balance of each of our accounts, grants summed up.
fn balances(journal: &str) -> BTreeMap<String, Decimal> {
    let printed = hledger(&["bal", "--flat", "--no-total", "-O", "csv"], journal).unwrap();
    let mut balances: BTreeMap<String, Decimal> = BTreeMap::new();
    for line in printed.lines().skip(1) {
        let (account, balance) = line.trim_matches('"').split_once("\",\"").unwrap();
        let account = account.split(":grt_").next().unwrap().to_owned();
        let amount = balance.strip_suffix(" credits").unwrap();
        *balances.entry(account).or_default() += Decimal::from_str_exact(amount).unwrap();
    }
    balances.retain(|_, balance| !balance.is_zero());
    balances
}

/// The same by the totals that we keep.
async fn totals(world: &World, teams: &[&Team]) -> BTreeMap<String, Decimal> {
    let mut totals: BTreeMap<String, Decimal> = BTreeMap::new();
    for team in teams {
        let billing = store::billing(Everyone::for_worker("story"));
        let org = team.org_id.parse().unwrap();
        for total in billing.all_totals(world.db().read(), org).await.unwrap() {
            let account = format!("{org}:{}", total.account);
            *totals.entry(account).or_default() += Decimal::new(total.amount, 9);
        }
    }
    totals.retain(|_, total| !total.is_zero());
    // All of it was told: each account of the ledger is somewhere in this story.
    let seen = |account: &str| totals.keys().any(|name| name.ends_with(account));
    for account in ["plan", "free", "usage", "issued", "expired", "invoiced"] {
        assert!(seen(account), "{account} is missing: {totals:?}");
    }
    totals
}

/// Books what was measured.
async fn everything_is_booked(world: &World) {
    for organization in ["acme", "big", "free"] {
        let _ = says(world, &format!("settle --organization {organization}")).await.is_done();
    }
}

async fn until_closed(world: &World, n: i64) {
    let sql = "select count(*) from statements";
    let look = async || (world.number(sql).await == n).then_some(());
    world.until(&format!("{n} statements"), look).await;
}

/// The first window of an organization's sandboxes, as `crownest billing windows` prints it.
async fn first_window(world: &World, organization: &str) -> Value {
    let line = format!("windows --organization {organization} --from 2031-01-01");
    let printed = says(world, &line).await.is_done();
    let windows = printed.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    windows.into_iter().find(|window| window["metric"] == "compute_unit_seconds").unwrap()
}

async fn corrects(world: &World, organization: &str, window: &Value, quantity: &str) {
    let text = |name: &str| window[name].as_str().unwrap();
    let line = format!(
        "correct --organization {organization} --sandbox {} --start {} --quantity {quantity} \
         --reason 'the clock was wrong'",
        text("sandboxId"),
        text("from"),
    );
    let _ = says(world, &line).await.is_done();
}
