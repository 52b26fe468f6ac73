//! Made-up lifetimes through real servers and databases, billed against a second computation: whole
//! seconds from ready to the end, in integers, straight from the sandboxes' rows. `LIFETIMES` says how
//! many, `LIFETIMES_SEED` which.

use api::{app::billing::tick, work::liveness};
use billing::pricing::{PricingVersion, Rounding};
use domain::limits::Plan;
use futures_util::future::join_all;
use tests::{Database, Team, World, at, json, stories};

stories![whatever_happens_each_second_is_billed_once];

const FEBRUARY: &str = "2032-02-01T00:00:00Z";

/// Numbers without a pattern, the same for the same seed (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % n
    }
}

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|value| value.parse().ok()).unwrap_or(default)
}

/// Seven seconds a credit: no second is a whole number of nano-credits.
fn sevenths() -> PricingVersion {
    PricingVersion {
        name: "sevenths".to_owned(),
        compute_unit_seconds_per_credit: 7,
        rounding: Rounding::HalfUp,
        ..PricingVersion::built_in()
    }
}

struct Tenant {
    team: Team,
    projects: Vec<String>,
    live: Vec<String>,
}

/// Settles at every server twice at the same time, as often as they like.
async fn ticks(world: &World) {
    let rounds = world.servers().chain(world.servers()).map(|server| {
        server.within(|app| async move {
            liveness::round(&app).await?;
            tick::round(&app).await
        })
    });
    for done in join_all(rounds).await {
        done.unwrap();
    }
}

/// One thing that may happen. Returns how many lifetimes began.
async fn something(world: &World, tenants: &mut [Tenant], dice: &mut Dice) -> u64 {
    let which = usize::try_from(dice.below(3)).unwrap();
    let tenant = &mut tenants[which];
    let place = |dice: &mut Dice, n: usize| usize::try_from(dice.below(n as u64)).unwrap();
    match dice.below(20) {
        0..=7 => {
            let project = &tenant.projects[place(dice, tenant.projects.len())];
            let ttl = 1 + dice.below(1_800_000);
            let body = json!({ "ttlMs": ttl, "projectId": project });
            let made = tenant.team.post("/v1/sandboxes", body).await;
            if made.status == 201 {
                tenant.live.push(made.json()["sandbox"]["id"].as_str().unwrap().to_owned());
                return 1;
            }
            assert!([402, 429].contains(&made.status), "{made}");
        }
        8..=11 if !tenant.live.is_empty() => {
            let id = tenant.live.swap_remove(place(dice, tenant.live.len()));
            tenant.team.kills(&id).await;
        }
        12 if !tenant.live.is_empty() => {
            let id = tenant.live.swap_remove(place(dice, tenant.live.len()));
            world.driver.crash(id.parse().unwrap());
        }
        13 => {
            let back = chrono::TimeDelta::milliseconds(i64::try_from(dice.below(1500)).unwrap());
            world.moves_to(&(world.now() - back).to_rfc3339());
        }
        14 => world.moves(&format!("{}s", dice.below(1800))),
        15 | 16 => ticks(world).await,
        17 => world.settle().await,
        _ => world.moves(&format!("{}ms", dice.below(90_000))),
    }
    0
}

/// Whole seconds of the sandboxes that a condition names, of each up to an instant.
fn seconds(until: Option<&str>) -> String {
    let end = "case when ended_at < expires_at then ended_at else expires_at end";
    let end = until.map_or_else(
        || end.to_owned(),
        |until| {
            let until = at(until).timestamp_micros();
            format!("case when {end} > {until} then {until} else {end} end")
        },
    );
    format!("case when {end} > ready_at then ({end} - ready_at) / 1000000 else 0 end")
}

/// The sandboxes' rows against windows, lines and ledger.
async fn compare(world: &World, tenants: &[Tenant]) {
    for Tenant { team, .. } in tenants {
        let org = world.literal(team);
        let of = |what: &str, table: &str, more: &str| {
            format!(
                "select cast(coalesce(sum({what}), 0) as bigint) from {table} where org_id = {org} {more}"
            )
        };
        let ready = "and ready_at is not null";
        let compute = "and metric = 'compute_unit_seconds'";
        let all = 1000 * world.number(&of(&seconds(None), "sandboxes", ready)).await;
        assert_eq!(world.number(&of("quantity", "usage_windows", compute)).await, all, "windows");
        assert_eq!(world.number(&of("quantity", "usage_lines", compute)).await, all, "lines");
        let (first, month) = (seconds(Some(FEBRUARY)), at(FEBRUARY).timestamp_micros());
        let before = 1000 * world.number(&of(&first, "sandboxes", ready)).await;
        let early = format!("{compute} and used_from < {month}");
        assert_eq!(world.number(&of("quantity", "usage_lines", &early)).await, before, "January");
        let crossed = format!("and started_at < {month} and ended_at > {month}");
        assert_eq!(world.number(&of("1", "usage_windows", &crossed)).await, 0);
        // To the nearer nano-credit, per life: (2 s * 10^9 + 7) / 14.
        let price = format!("(2 * ({}) * 1000000000 + 7) / 14", seconds(None));
        let price = world.number(&of(&price, "sandboxes", ready)).await;
        assert_eq!(world.balance(team, "usage").await, price, "ledger");
        assert_eq!(world.number(&of("amount", "usage_windows", "")).await, price, "amounts");
        for project in &tenants.iter().find(|t| t.team.org_id == team.org_id).unwrap().projects {
            let project =
                world.literal_of(project.parse::<domain::id::ProjectId>().unwrap().uuid());
            let own = format!("{ready} and project_id = {project}");
            let own = 1000 * world.number(&of(&seconds(None), "sandboxes", &own)).await;
            let theirs = format!("{compute} and project_id = {project}");
            assert_eq!(world.number(&of("quantity", "usage_windows", &theirs)).await, own);
        }
    }
}

/// From the last hours of January 2032 on, with one organization on a plan without end, one with a cap
/// and one with free credit only. Kills, crashes, ends of lifetime and of credit; ticks at two servers
/// at a time; a clock that jumps, also back.
async fn whatever_happens_each_second_is_billed_once(database: Database) {
    let mut world = World::on(database)
        .at("2032-01-31T20:00:00Z")
        .with(|config| config.max_concurrent_sandboxes = Some(12))
        .await;
    world.tolerates_warning("a sandbox stopped by itself");
    world.tolerates_warning("a step failed");
    world.introduces(sevenths()).await;
    if database == Database::Postgres {
        let _there = world.replica().await;
    }
    let mut tenants = Vec::new();
    for (name, plan) in
        [("endless", Plan::Enterprise), ("capped", Plan::Builder), ("free", Plan::Free)]
    {
        let team = world.team_on(name, plan).await;
        let projects = vec![team.project_id.clone(), team.project("more").await];
        tenants.push(Tenant { team, projects, live: Vec::new() });
    }
    world.caps(&tenants[1].team, Some("3")).await;
    let (n, seed) = (setting("LIFETIMES", 200), setting("LIFETIMES_SEED", 1));
    let mut dice = Dice(seed);
    let mut n_lives = 0;
    let mut n_steps = 0;
    while n_lives < n && n_steps < 20 * n {
        n_lives += something(&world, &mut tenants, &mut dice).await;
        n_steps += 1;
        if n_steps == 4 * n / 3 {
            // Past midnight of the month's end, wherever it stands.
            let midnight = at(FEBRUARY) - chrono::TimeDelta::milliseconds(700);
            world.moves_to(&midnight.max(world.now()).to_rfc3339());
        }
        for tenant in &mut tenants {
            if dice.below(8) == 0 {
                tenant.live = tenant.team.lists().await;
            }
        }
    }
    world.settle().await;
    world.advance("1h").await;
    world.advance("2m").await;
    world.advance("2m").await;
    compare(&world, &tenants).await;
    for Tenant { team, .. } in &tenants[1..] {
        assert!(world.credit(team).await >= 0);
    }
    assert_eq!(world.balance(&tenants[2].team, "overage").await, 0, "credit is all there is");
    // 3 USD are 90.0000900000... credits, cut off; in each of two months.
    let over = -world.balance(&tenants[1].team, "overage").await;
    assert!((0..=2 * 90_000_090_000).contains(&over), "{over}");
    world.advance("40d").await;
    compare(&world, &tenants).await;
    world.close().await;
}
