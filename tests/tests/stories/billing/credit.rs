//! Credit: it comes, is burnt in its order, expires, and where it ends everything stops at that second.

use billing::credit::GrantKind;
use domain::limits::Plan;
use tests::{
    Database, World, at,
    books::{bought, granted},
    json, stories,
};

use super::dear;

stories![
    a_free_plan_brings_ten_dollars_once,
    what_outlives_its_credit_stops_at_the_second,
    several_sandboxes_share_what_is_left,
    credit_ends_before_a_lifetime_that_is_over_as_well,
    a_kill_after_the_end_of_credit_changes_nothing,
    without_credit_nothing_begins_until_some_is_bought,
    credit_that_came_too_late_does_not_undo_the_stop,
    credit_is_burnt_by_priority_then_expiry_then_age,
    credit_expires_at_its_instant,
    a_grant_with_the_same_key_is_one,
];

const CREDIT: i64 = billing::money::CREDIT;

/// 10 USD / 0.0333333 USD = 300.0003 credits, cut off after the ninth place: 300.000300000.
async fn a_free_plan_brings_ten_dollars_once(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Free).await;
    assert_eq!(world.credit(&acme).await, 300_000_300_000);
    assert_eq!(acme.remaining().await, Some(300.000_3));
    acme.starts(json!({ "ttlMs": 3_600_000 })).await;
    world.advance("2h").await; // 3600 s = 3.6 credits
    world.advance("2m").await; // The last window is booked with its minute.
    assert_eq!(acme.remaining().await, Some(296.400_3));
    assert_eq!(world.balance(&acme, "usage").await, 3_600_000_000);
    world.advance("40d").await; // It does not come again, and does not go.
    assert_eq!(world.credit(&acme).await, 296_400_300_000);
    assert_eq!(world.balance(&acme, "credit:free").await, 296_400_300_000);
    world.changes_plan(&acme, Plan::Builder, None).await;
    world.changes_plan(&acme, Plan::Free, None).await;
    assert_eq!(world.balance(&acme, "credit:free").await, 296_400_300_000);
    world.close().await;
}

/// 300.0003 and 0.0997 bought are 300.1 credits: 3001 s at ten seconds a credit.
async fn what_outlives_its_credit_stops_at_the_second(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await; // 12:01:00
    let acme = world.team_on("acme", Plan::Free).await;
    world.sells(&acme, "0.0997").await;
    world.moves("250ms");
    let sandbox = acme.starts(json!({})).await; // 12:01:00.250
    let command = acme.launches_and_sees(&sandbox, "sleep infinity").await;
    world.advance("50m").await;
    assert_eq!(acme.sandbox(&sandbox).await["status"], "running");
    world.advance("3h").await; // Whoever looks, looks late.
    let end = ("platform_cleanup".to_owned(), "2031-03-10T12:51:01.250Z".to_owned());
    assert_eq!(acme.end_of(&sandbox).await, end);
    assert_eq!(acme.command(&command).await["finishedAt"], "2031-03-10T12:51:01.250Z");
    assert_eq!(acme.used().await, 3001);
    assert_eq!((world.credit(&acme).await, acme.remaining().await), (0, Some(0.0)));
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

/// The first alone from 12:01:00 to 12:11:00.5: 600 s. From then on both, whose seconds are full at
/// different instants: at 12:31:01.0 it is 1801 s and 1200 s, together the 3001 s that were paid.
async fn several_sandboxes_share_what_is_left(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    world.sells(&acme, "0.0997").await;
    let first = acme.starts(json!({})).await;
    world.advance("10m500ms").await;
    let second = acme.starts(json!({})).await;
    world.advance("2h").await;
    for sandbox in [&first, &second] {
        let end = ("platform_cleanup".to_owned(), "2031-03-10T12:31:01.000Z".to_owned());
        assert_eq!(acme.end_of(sandbox).await, end);
    }
    assert_eq!(acme.used().await, 3001);
    assert_eq!(world.credit(&acme).await, 0);
    assert_eq!(world.balance(&acme, "usage").await, 300_100_000_000);
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

/// Whoever is first to look after an hour: 300.0003 credits are 1500 s of two, with 0.0003 left that
/// buy no further one. The lifetimes of 3000 s and 3600 s end later.
async fn credit_ends_before_a_lifetime_that_is_over_as_well(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let one = acme.starts(json!({ "ttlMs": 3_000_000 })).await;
    let other = acme.starts(json!({ "ttlMs": 3_600_000 })).await;
    world.settle().await;
    world.advance("5h").await;
    for sandbox in [&one, &other] {
        // The last instant before the second that nobody pays for.
        let end = ("platform_cleanup".to_owned(), "2031-03-10T12:26:00.999Z".to_owned());
        assert_eq!(acme.end_of(sandbox).await, end);
    }
    assert_eq!((acme.used().await, world.credit(&acme).await), (3000, 300_000));
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

/// As above with a kill that comes before any worker.
async fn a_kill_after_the_end_of_credit_changes_nothing(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let (one, other) = (acme.starts(json!({})).await, acme.starts(json!({})).await);
    world.settle().await;
    world.moves("40m");
    acme.kills(&one).await;
    world.settle().await;
    for sandbox in [&one, &other] {
        let end = ("platform_cleanup".to_owned(), "2031-03-10T12:26:00.999Z".to_owned());
        assert_eq!(acme.end_of(sandbox).await, end);
    }
    assert_eq!((acme.used().await, world.credit(&acme).await), (3000, 300_000));
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

async fn without_credit_nothing_begins_until_some_is_bought(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let first = acme.starts(json!({})).await;
    world.advance("2h").await;
    assert_eq!(acme.end_of(&first).await.0, "platform_cleanup");
    let error = acme.post("/v1/sandboxes", json!({})).await.refused(402, "credit_exhausted");
    assert_eq!(error["retryable"], false);
    world.advance("40d").await;
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "credit_exhausted");
    // 0.0003 credits are left of the free ones; with 9.9997 they are 10: 100 s.
    world.sells(&acme, "9.9997").await;
    let second = acme.starts(json!({})).await;
    let from = world.now();
    world.advance("1h").await;
    let end = tests::time::printed(from + tests::span("100s"));
    assert_eq!(acme.end_of(&second).await, ("platform_cleanup".to_owned(), end));
    acme.post("/v1/sandboxes", json!({})).await.refused(402, "credit_exhausted");
    assert_eq!(world.credit(&acme).await, 0);
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}

/// The stop is where credit ended, not where somebody looked; after it new work may begin at once.
async fn credit_that_came_too_late_does_not_undo_the_stop(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let first = acme.starts(json!({})).await; // 12:01:00, for 3000 s
    world.settle().await;
    world.moves("55m");
    world.sells(&acme, "10").await;
    let second = acme.starts(json!({})).await;
    let end = ("platform_cleanup".to_owned(), "2031-03-10T12:51:00.999Z".to_owned());
    assert_eq!(acme.end_of(&first).await, end);
    world.advance("1h").await; // 10.0003 credits: 100 s from 12:56:00 on
    let end = ("platform_cleanup".to_owned(), "2031-03-10T12:57:40.999Z".to_owned());
    assert_eq!(acme.end_of(&second).await, end);
    assert_eq!(acme.used().await, 3000 + 100);
    world.close().await;
}

/// Each pays for 100 s (0.1 credits), in the order of their names.
async fn credit_is_burnt_by_priority_then_expiry_then_age(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Enterprise).await; // Brings no credit of its own.
    let expires_at = Some(at("2031-03-11T00:00:00Z"));
    let (kind, amount) = (GrantKind::Adjustment, "0.1");
    let grant = |key: &str| granted(kind, amount, key);
    let mut order = Vec::new();
    for new in [
        tests::books::granted(GrantKind::Purchased, amount, "5 by kind"),
        grant("3 by age"),
        grant("4 by age"),
        api::app::billing::manage::NewGrant { expires_at, ..grant("2 by expiry") },
        api::app::billing::manage::NewGrant { priority: Some(1), ..grant("1 by priority") },
    ] {
        order.push(new.key.clone());
        world.grants(&acme, new).await;
        world.moves("1ms"); // An age is known to the millisecond.
    }
    let sandbox = acme.starts(json!({})).await;
    for n in 1..=5 {
        world.advance("100s").await; // 12:00:00 + 100 s, + 200 s, ...; whole minutes are settled
        let left = format!(
            "select count(*) from credit_grants g join ledger_postings p on p.grant_id = g.id
             join ledger_transactions t on t.id = p.transaction_id
             where g.remaining < g.amount and t.kind = 'grant' and substr(t.key, 16, 1) > '{n}'"
        );
        assert_eq!(world.number(&left).await, 0, "none is burnt before its turn: {n}");
    }
    acme.kills(&sandbox).await;
    world.advance("1m").await;
    assert_eq!((world.credit(&acme).await, world.balance(&acme, "overage").await), (0, 0));
    // As the ledger has it, drawn one after the other.
    let in_order = "select count(*) from (select t.seq, substr(g.key, 16, 1) as turn,
           lag(substr(g.key, 16, 1)) over (order by t.seq, p.line) as earlier
         from ledger_postings p join ledger_transactions t on t.id = p.transaction_id
         join ledger_postings q on q.grant_id = p.grant_id
         join ledger_transactions g on g.id = q.transaction_id and g.kind = 'grant'
         where t.kind = 'usage' and p.grant_id is not null) drawn where turn < earlier";
    assert_eq!(world.number(in_order).await, 0);
    world.close().await;
}

/// 0.6 credits until 12:05:17: what is used until then is theirs, what is left at that instant goes by
/// a transaction of its own, and what was bought stays.
async fn credit_expires_at_its_instant(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let expires_at = Some(at("2031-03-10T12:05:17Z"));
    world
        .grants(
            &acme,
            api::app::billing::manage::NewGrant {
                expires_at,
                ..granted(GrantKind::Adjustment, "0.6", "goes")
            },
        )
        .await;
    world.grants(&acme, bought("1")).await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("10m").await;
    acme.kills(&sandbox).await;
    world.advance("1h").await;
    // 317 s at a thousandth of a credit until 12:05:17, 283 s after it.
    assert_eq!(world.balance(&acme, "credit:adjustment").await, 0);
    assert_eq!(world.balance(&acme, "expired").await, 600_000_000 - 317_000_000);
    assert_eq!(world.balance(&acme, "credit:purchased").await, CREDIT - 283_000_000);
    let instant = at("2031-03-10T12:05:17Z").timestamp_micros();
    let expiries = format!(
        "select count(*) from ledger_transactions where kind = 'expiry' and at = {instant}"
    );
    assert_eq!(world.number(&expiries).await, 1);
    world.advance("400d").await;
    assert_eq!(world.credit(&acme).await, CREDIT - 283_000_000);
    world.close().await;
}

async fn a_grant_with_the_same_key_is_one(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let rival = world.team_on("rival", Plan::Free).await;
    for team in [&acme, &rival, &acme] {
        world.grants(team, granted(GrantKind::Purchased, "5", "order 17")).await;
    }
    world.grants(&acme, granted(GrantKind::Purchased, "5", "order 18")).await;
    assert_eq!(world.balance(&acme, "credit:purchased").await, 10 * CREDIT);
    assert_eq!(world.balance(&rival, "credit:purchased").await, 5 * CREDIT);
    world.close().await;
}
