//! Many at once: quotas, credit and caps hold exactly, and a stop is carried out in its second whatever
//! else is going on.

use api::app::billing::tick;
use domain::limits::Plan;
use futures_util::future::join_all;
use tests::{Answer, Database, Team, World, at, json, span, stories};

use super::dear;

stories![
    a_crowd_of_creates_admits_exactly_the_limit,
    many_at_once_overdraw_no_credit,
    many_at_once_overdraw_no_cap,
    a_stop_is_carried_out_in_its_second_under_load,
    figures_do_not_jump_while_they_are_settled,
    a_restricted_key_sees_its_own_use_and_the_organization_s_credit,
    broken_books_keep_nobody_else_from_being_billed,
];

fn count(answers: &[Answer], status: u16) -> usize {
    answers.iter().filter(|answer| answer.status == status).count()
}

async fn a_crowd_of_creates_admits_exactly_the_limit(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let mut keys = vec![(*acme).clone()];
    if database == Database::Postgres {
        let there = world.replica().await;
        keys.push(there(&acme));
    }
    world.limits(&acme, "max_concurrent_sandboxes", Some(10)).await;
    for key in &keys {
        let told = async || {
            let usage = key.get("/v1/usage").await.is(200);
            (usage["quotas"]["active_sandboxes"]["limit"] == 10).then_some(())
        };
        world.until("the limit at every server", told).await;
    }
    let asked = (0..256).map(|n| keys[n % keys.len()].post("/v1/sandboxes", json!({})));
    let answers = join_all(asked).await;
    assert_eq!((count(&answers, 201), count(&answers, 429)), (10, 246));
    assert_eq!(world.number("select count(*) from sandboxes").await, 10);
    world.close().await;
}

/// Starts so many at once as are let in, and lets them run until all have ended.
async fn a_crowd(world: &World, acme: &Team, n: usize) {
    let asked = (0..n).map(|_| acme.post("/v1/sandboxes", json!({})));
    let answers = join_all(asked).await;
    assert_eq!(count(&answers, 201), n);
    for n in 0..8 {
        // Some end by themselves, at instants that no second of the others ends at.
        world.advance(&format!("{n}s37ms")).await;
        if let Some(id) = acme.lists().await.first() {
            acme.kills(id).await;
        }
    }
    world.advance("1h").await;
    world.advance("2m").await;
    assert!(acme.lists().await.is_empty());
}

/// 20 credits are 200 s: ten of them are over in about 20 s.
async fn many_at_once_overdraw_no_credit(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    // All but 20 of the free credits are worked off by one.
    world.limits(&acme, "max_concurrent_sandboxes", Some(20)).await;
    acme.starts(json!({ "ttlMs": 2_800_000 })).await;
    world.advance("50m").await;
    world.advance("2m").await;
    assert_eq!(world.credit(&acme).await, 20_000_300_000);
    a_crowd(&world, &acme, 16).await;
    assert_eq!(world.balance(&acme, "overage").await, 0);
    let left = world.credit(&acme).await;
    // Less than a second of what still ran, of which there were at most sixteen.
    assert!((0..1_600_000_000).contains(&left), "{left}");
    assert_eq!(world.balance(&acme, "usage").await + left, 300_000_300_000);
    assert_eq!(acme.used().await, (300_000_300_000 - left) / 100_000_000);
    // One alone still has what so many at once could not share.
    if left >= 100_000_000 {
        acme.starts(json!({})).await;
        world.advance("1m").await;
    }
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "credit_exhausted");
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

/// A cap of 1 USD is 30.000030000 credits: 300 s and nothing for another one.
async fn many_at_once_overdraw_no_cap(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.caps(&acme, Some("1")).await;
    a_crowd(&world, &acme, 24).await;
    let overdrawn = -world.balance(&acme, "overage").await;
    assert!((28_000_000_000..=30_000_030_000).contains(&overdrawn), "{overdrawn}");
    assert_eq!(world.balance(&acme, "usage").await, overdrawn);
    world.close().await;
}

/// Twenty organizations whose credit ends at instants of their own, one each second, while a crowd of
/// others creates, runs and kills. The clock goes on in steps of 100 ms, each as soon as the work that
/// it made due is done: one step after its instant each is stopped, and none before.
async fn a_stop_is_carried_out_in_its_second_under_load(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await; // 12:01:00
    let mut doomed = Vec::new();
    for n in 0..10 {
        let team = world.team_on(&format!("doomed-{n}"), Plan::Enterprise).await;
        world.caps(&team, Some("0")).await;
        world.sells(&team, &format!("{}.{}", (20 + n) / 10, (20 + n) % 10)).await; // 20 + n seconds
        let sandbox = team.starts(json!({})).await;
        let stop = at("2031-03-10T12:01:00Z") + span(&format!("{}s", 20 + n));
        doomed.push((team, sandbox, stop));
    }
    let crowd = world.team_on("crowd", Plan::Enterprise).await;
    let done = tokio_util::sync::CancellationToken::new();
    let load = join_all((0..4).map(|_| async {
        let mut n = 0;
        while !done.is_cancelled() {
            let sandbox = crowd.starts(json!({})).await;
            crowd.runs(&sandbox, "echo x").await;
            crowd.kills(&sandbox).await;
            n += 1;
        }
        n
    }));
    let clock = async {
        world.advance("19s").await;
        for _ in 0..110 {
            world.moves("100ms");
            world.settles_books().await;
            for (team, sandbox, stop) in &doomed {
                let live = team.sandbox(sandbox).await["status"] == "ready";
                assert_eq!(live, world.now() < *stop, "{sandbox} at {}", world.now());
            }
        }
        done.cancel();
    };
    let (n_runs, ()) = tokio::join!(load, clock);
    assert!(n_runs.iter().sum::<i32>() > 0, "there was load");
    for (team, sandbox, stop) in &doomed {
        let end = ("platform_cleanup".to_owned(), tests::time::printed(*stop));
        assert_eq!(team.end_of(sandbox).await, end);
    }
    world.close().await;
}

/// The clock stands still while the books are settled again and again: what was used moves from the
/// meters to the books, and nobody sees it twice or not at all.
async fn figures_do_not_jump_while_they_are_settled(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    for _ in 0..2 {
        acme.starts(json!({})).await;
    }
    for n in 1..=8 {
        world.moves("95s");
        let seconds = 2 * 95 * n;
        let ticks = async {
            for _ in 0..6 {
                // Seen alive, so that there is something to settle.
                let app = world.server();
                app.within(|app| async move { api::work::liveness::round(&app).await })
                    .await
                    .unwrap();
                app.within(|app| async move { tick::round(&app).await }).await.unwrap();
            }
        };
        let looks = async {
            for _ in 0..12 {
                let usage = acme.get("/v1/usage").await.is(200);
                assert_eq!(usage["computeUnitSeconds"]["used"], seconds);
                // 300.0003 credits; numbers of JSON are compared to a thousandth.
                let credits = seconds as f64 / 10.0;
                for (name, wanted) in [("used", credits), ("remaining", 300.0003 - credits)] {
                    let shown = usage["credits"][name].as_f64().unwrap();
                    assert!((shown - wanted).abs() < 0.001, "{name}: {shown}, not {wanted}");
                }
            }
        };
        tokio::join!(ticks, looks);
    }
    world.close().await;
}

async fn a_restricted_key_sees_its_own_use_and_the_organization_s_credit(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let theirs = acme.project("theirs").await;
    let restricted = acme.restricted_key("all", &[&theirs]).await;
    acme.starts(json!({})).await;
    acme.starts(json!({ "projectId": theirs })).await;
    // As measured, and as settled.
    for (span, seconds) in [("50s", 50), ("10m", 650), ("2m", 770)] {
        world.advance(span).await;
        let usage = restricted.get("/v1/usage").await.is(200);
        assert_eq!(usage["computeUnitSeconds"]["used"], seconds);
        assert_eq!(usage["credits"]["used"].as_f64().unwrap(), seconds as f64 / 10.0);
        let left = usage["credits"]["remaining"].as_f64().unwrap();
        assert!((left - (300.000_3 - 2.0 * seconds as f64 / 10.0)).abs() < 1e-6, "{left}");
        assert_eq!(usage["quotas"]["active_sandboxes"]["current"], 2);
    }
    world.close().await;
}

/// A window that no rule of ours would have written is in the way of one organization's next ones.
async fn broken_books_keep_nobody_else_from_being_billed(database: Database) {
    let world = World::on(database).await;
    let (broken, fine) = (world.team("broken").await, world.team("fine").await);
    world.tolerates_warning("books cannot be");
    world.tolerates_warning("a batch cannot be written");
    let in_the_way = broken.starts(json!({})).await;
    let sandbox = fine.starts(json!({})).await;
    let literal = world.literal(&broken);
    world
        .executes(&format!(
            "insert into usage_windows (sandbox_id, metric, started_at, part, org_id, project_id,
               ended_at, quantity, amount, pricing_version, booked_from)
             select m.sandbox_id, m.metric, m.opened_at, 0, m.org_id, m.project_id,
               m.opened_at + 1, 0, 0, m.pricing_version, 0
             from meters m where m.org_id = {literal} and m.metric = 'compute_unit_seconds'"
        ))
        .await;
    world.moves("2m");
    let billed = async || {
        for server in world.servers() {
            let _ =
                server.within(|app| async move { api::work::liveness::round(&app).await }).await;
            let _ = server.within(|app| async move { tick::round(&app).await }).await;
        }
        world.moves("1s");
        (world.balance(&fine, "usage").await >= 120_000_000).then_some(())
    };
    world.until("the bill of the others", billed).await;
    world.executes("delete from usage_windows where ended_at = started_at + 1").await;
    world.moves("6m");
    fine.kills(&sandbox).await;
    broken.kills(&in_the_way).await;
    world.advance("2m").await;
    assert_eq!(world.balance(&broken, "usage").await, world.balance(&fine, "usage").await);
    world.close().await;
}
