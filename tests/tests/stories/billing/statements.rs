//! Statements: a month is closed once, its lines add up, and what is known or corrected afterwards is a
//! line of the next one that names its origin.

use std::{future::poll_fn, pin::pin, task::Poll};

use api::app::{
    audit::Actor,
    billing::{correct, manage, tick},
};
use domain::limits::Plan;
use futures_util::future::join_all;
use store::rows::WindowRow;
use tests::{Database, Team, Value, World, json, stories};

use super::dear;

stories![
    a_month_is_closed_after_the_delay,
    lines_are_by_project_metric_and_version,
    parts_add_up_to_the_cent,
    late_usage_is_a_line_of_the_next_statement,
    corrected_usage_is_a_line_of_the_next_statement,
    a_window_can_be_corrected_twice,
    several_months_are_closed_in_order,
    two_servers_close_a_month_once,
    closing_happens_whole_or_not_at_all,
    a_plan_without_invoices_writes_off,
];

// A jump of the clock is an outage to the servers: stories let what runs end before a long one.

fn text<'a>(value: &'a Value, name: &str) -> &'a str {
    value[name].as_str().unwrap_or_default()
}

/// A sum of amounts in cents.
fn cents<'a>(amounts: impl IntoIterator<Item = &'a str>) -> i64 {
    let cents = |amount: &str| amount.replace('.', "").parse::<i64>().unwrap();
    amounts.into_iter().map(cents).sum()
}

fn items<'a>(statement: &'a Value, name: &str) -> &'a [Value] {
    statement[name].as_array().unwrap()
}

/// What every statement keeps: lines add up to totals, and totals to what is due.
fn adds_up(statement: &Value) {
    for (lines, total) in [("usage", "usageTotal"), ("credit", "creditTotal")] {
        let sum = cents(items(statement, lines).iter().map(|line| text(line, "amount")));
        assert_eq!(sum, cents([text(statement, total)]), "{lines}: {statement:#}");
    }
    let due = cents([text(statement, "amountDue"), text(statement, "writtenOff")]);
    let used = cents([text(statement, "usageTotal")]);
    assert_eq!(due, used - cents([text(statement, "creditTotal")]), "{statement:#}");
}

async fn closed(world: &World, team: &Team, period: &str) -> Value {
    let statement = world.statement(team, period).await;
    assert!(statement["closedAt"].is_string(), "{period} is open: {statement:#}");
    adds_up(&statement);
    statement
}

/// The lines of compute time: project's name, quantity, what it adjusts.
fn seconds(statement: &Value) -> Vec<(&str, &str, Option<&str>)> {
    let lines = items(statement, "usage").iter();
    let lines = lines.filter(|line| line["metric"] == "compute_unit_seconds");
    lines.map(|l| (text(l, "project"), text(l, "quantity"), l["adjusts"].as_str())).collect()
}

/// 1800 s until midnight and 1800 s after it: 180 credits each, 6 USD on a plan without credit.
async fn a_month_is_closed_after_the_delay(database: Database) {
    let world = World::on(database).at("2031-01-31T23:29:00Z").await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    acme.starts(json!({})).await;
    world.advance("30m").await;
    let open = world.statement(&acme, "2031-01").await;
    assert_eq!(open.get("closedAt"), None);
    world.advance("59m59s").await;
    assert_eq!(world.statement(&acme, "2031-01").await.get("closedAt"), None);
    world.advance("1s").await;
    let january = closed(&world, &acme, "2031-01").await;
    assert_eq!(text(&january, "closedAt"), "2031-02-01T01:00:00Z");
    assert_eq!(seconds(&january), [("default", "1800", None)]);
    assert_eq!(text(&january, "overageCredits"), "180");
    assert_eq!(text(&january, "amountDue"), "6.00");
    assert_eq!(world.balance(&acme, "invoiced").await, -180_000_000_000);
    world.advance("28d").await;
    let february = closed(&world, &acme, "2031-02").await;
    assert_eq!(seconds(&february), [("default", "1800", None)]);
    assert_eq!(world.balance(&acme, "overage").await, 0);
    assert_eq!(world.balance(&acme, "usage").await, 360_000_000_000);
    assert_eq!(world.statement(&acme, "2031-01").await, january, "it does not change any more");
    world.close().await;
}

/// 100 s in one project under the built-in version, 60 s in another under it and 30 s under a dear one.
async fn lines_are_by_project_metric_and_version(database: Database) {
    let world = World::on(database).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let lab = acme.project("lab").await;
    acme.starts(json!({ "ttlMs": 100_000 })).await;
    let sandbox = acme.starts(json!({ "ttlMs": 60_000, "projectId": lab })).await;
    acme.runs(&sandbox, "true").await;
    world.introduces(dear()).await;
    world.advance("1m").await;
    acme.starts(json!({ "ttlMs": 30_000, "projectId": lab })).await;
    world.advance("2m").await;
    world.advance("30d").await;
    let march = closed(&world, &acme, "2031-03").await;
    let mut lines: Vec<_> = items(&march, "usage")
        .iter()
        .map(|line| {
            ["project", "metric", "pricingVersion", "quantity", "credits"]
                .map(|name| text(line, name).to_owned())
        })
        .collect();
    lines.sort();
    assert_eq!(
        lines,
        [
            ["default", "compute_unit_seconds", "2026-07", "100", "0.1"],
            ["default", "sandbox_creates", "2026-07", "1", "0"],
            ["lab", "command_invocations", "2026-07", "1", "0"],
            ["lab", "compute_unit_seconds", "2026-07", "60", "0.06"],
            ["lab", "compute_unit_seconds", "dear", "30", "3"],
            ["lab", "sandbox_creates", "2026-07", "1", "0"],
            ["lab", "sandbox_creates", "dear", "1", "0"],
        ]
        .map(|line| line.map(str::to_owned))
    );
    // 3.16 credits at 0.0333333 USD are 0.105333228 USD.
    assert_eq!(text(&march, "amountDue"), "0.11");
    world.close().await;
}

/// Three projects of 445 s each: 44.5 credits or 1.48333185 USD. Together 4.44999555 USD are 4.45: cut
/// off they would be 4.44.
async fn parts_add_up_to_the_cent(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    for name in ["one", "two", "three"] {
        let project = acme.project(name).await;
        acme.starts(json!({ "ttlMs": 445_000, "projectId": project })).await;
    }
    world.sells(&acme, "50").await; // 1.666665 USD; 83.5 credits or 2.78333055 USD are left to pay
    world.advance("10m").await;
    world.advance("30d").await;
    let march = closed(&world, &acme, "2031-03").await;
    assert_eq!(text(&march, "usageTotal"), "4.45");
    assert_eq!(text(&march, "creditTotal"), "1.67");
    assert_eq!(text(&march, "amountDue"), "2.78");
    world.close().await;
}

/// The host is not heard of from 23:30:40 on. Its last 40 s are known only when January was closed a day
/// late without them.
async fn late_usage_is_a_line_of_the_next_statement(database: Database) {
    let world = World::on(database).at("2031-01-31T22:59:00Z").await;
    world.introduces(dear()).await;
    world.tolerates_warning("removing a sandbox that no row wants");
    world.expects_warning("a sandbox stopped by itself");
    let acme = world.team_on("acme", Plan::Enterprise).await;
    let sandbox = acme.starts(json!({})).await;
    world.advance("30m40s").await; // 23:30:40, seen alive
    world
        .executes("update sandboxes set host = 'elsewhere', expires_at = expires_at + 200000000000")
        .await;
    world.driver.crash(sandbox.parse().unwrap());
    world.moves("25h"); // Nobody could look for a day: what is not known yet is not late.
    world.settles_books().await;
    assert_eq!(world.statement(&acme, "2031-01").await.get("closedAt"), None);
    world.moves("2m");
    let january = async || {
        let january = world.statement(&acme, "2031-01").await;
        january["closedAt"].is_string().then_some(january)
    };
    let january = world.until("the statement", january).await;
    adds_up(&january);
    assert_eq!(seconds(&january), [("default", "1800", None)]);
    world
        .executes(&format!("update sandboxes set host = '{}'", world.server().app().config.host))
        .await;
    acme.sees(&sandbox, "failed").await;
    world.settle().await;
    world.advance("30d").await;
    let february = closed(&world, &acme, "2031-02").await;
    assert_eq!(seconds(&february), [("default", "40", Some("2031-01"))]);
    // 4 credits at 0.0333333 USD.
    assert_eq!(text(&february, "amountDue"), "0.13");
    assert_eq!(closed(&world, &acme, "2031-01").await, january);
    world.close().await;
}

async fn corrects(world: &World, team: &Team, window: &WindowRow, seconds: i64) {
    let org = team.org();
    let correction = correct::Correction {
        transaction: domain::id::Id::from_uuid(window.transaction_id.unwrap()),
        window: window.clone(),
        quantity_milli: seconds * 1000,
        reason: "the host's clock was wrong".to_owned(),
    };
    let correct =
        move |app| async move { manage::change(&app, &Actor::operator(), org, correction).await };
    world.server().within(correct).await.unwrap();
}

/// The first window of compute time of a team's only sandbox.
async fn first_window(world: &World, team: &Team) -> WindowRow {
    let windows = world.windows(team, "2031-01-01T00:00:00Z", "2031-04-01T00:00:00Z").await;
    windows.into_iter().find(|window| window.metric == "compute_unit_seconds").unwrap()
}

/// One of ten minutes was measured as 60 s and is 15 s: 4.5 credits come back, as 0.15 USD less.
async fn corrected_usage_is_a_line_of_the_next_statement(database: Database) {
    let world = World::on(database).at("2031-01-31T22:59:00Z").await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    acme.starts(json!({ "ttlMs": 600_000 })).await;
    world.advance("11m").await;
    world.advance("3h").await;
    let january = closed(&world, &acme, "2031-01").await;
    assert_eq!(text(&january, "amountDue"), "2.00"); // 60 credits
    corrects(&world, &acme, &first_window(&world, &acme).await, 15).await;
    acme.starts(json!({ "ttlMs": 100_000 })).await; // 10 credits
    world.advance("4m").await;
    world.advance("30d").await;
    let february = closed(&world, &acme, "2031-02").await;
    let wanted = [("default", "100", None), ("default", "-45", Some("2031-01"))];
    assert_eq!(seconds(&february), wanted);
    assert_eq!(text(&february, "amountDue"), "0.18"); // 5.5 credits are 0.18333315 USD
    assert_eq!(closed(&world, &acme, "2031-01").await, january);
    world.close().await;
}

/// 60 s are 40, are 50, are 120, are 0. Of what was paid by 3 bought credits and as overage, each comes
/// back to where it came from.
async fn a_window_can_be_corrected_twice(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    world.sells(&acme, "3").await; // 30 s
    acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("1m").await;
    world.advance("5m").await;
    let window = first_window(&world, &acme).await;
    for (seconds, credit, overage) in
        [(40, 0, -1_000), (50, 0, -2_000), (120, 0, -9_000), (0, 3_000, 0), (10, 2_000, 0)]
    {
        corrects(&world, &acme, &window, seconds).await;
        let milli = 1_000_000;
        assert_eq!(world.balance(&acme, "usage").await, seconds * 100 * milli, "{seconds} s");
        assert_eq!(world.credit(&acme).await, credit * milli, "{seconds} s");
        assert_eq!(world.balance(&acme, "overage").await, overage * milli, "{seconds} s");
    }
    assert_eq!(acme.used().await, 10);
    world.close().await;
}

async fn several_months_are_closed_in_order(database: Database) {
    let mut world = World::on(database).at("2031-01-31T22:59:00Z").await;
    world.introduces(dear()).await;
    let acme = world.team("acme").await;
    acme.starts(json!({ "ttlMs": 600_000 })).await;
    world.advance("20m").await;
    world.kills_server().await;
    world.moves("100d");
    world.starts_server().await;
    world.settle().await;
    for period in ["2031-01", "2031-02", "2031-03", "2031-04"] {
        closed(&world, &acme, period).await;
    }
    assert_eq!(world.statement(&acme, "2031-05").await.get("closedAt"), None);
    assert_eq!(world.number("select count(*) from statements").await, 4);
    world.close().await;
}

async fn two_servers_close_a_month_once(database: Database) {
    let mut world = World::on(database).at("2031-01-31T22:59:00Z").await;
    world.introduces(dear()).await;
    let mut teams = Vec::new();
    for n in 0..8 {
        let team = world.team_on(&format!("team-{n}"), Plan::Enterprise).await;
        team.starts(json!({ "ttlMs": 600_000 })).await;
        teams.push(team);
    }
    world.advance("12m").await;
    if database == Database::Postgres {
        let _there = world.replica().await;
    }
    world.moves("3h");
    let rounds = (0..8).map(|n| {
        let server = world.servers().nth(n % world.servers().count()).unwrap();
        server.within(|app| async move { tick::round(&app).await })
    });
    for done in join_all(rounds).await {
        done.unwrap();
    }
    world.settle().await;
    for team in &teams {
        let january = closed(&world, team, "2031-01").await;
        assert_eq!(text(&january, "amountDue"), "2.00");
        assert_eq!(world.balance(team, "invoiced").await, -60_000_000_000);
    }
    assert_eq!(world.number("select count(*) from statements").await, 8);
    world.close().await;
}

/// The round that closes the month is dropped at its first, second, .. wait.
async fn closing_happens_whole_or_not_at_all(database: Database) {
    let world = World::on(database).at("2031-01-31T22:59:00Z").await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    for n in 1.. {
        acme.starts(json!({ "ttlMs": 60_000 })).await;
        world.advance("2m").await;
        let month = world.now() + chrono::Months::new(1);
        world.moves_to(&month.format("%Y-%m-01T01:00:00Z").to_string());
        let cut = async move |app: std::sync::Arc<api::app::App>| {
            let mut round = pin!(tick::round(&app));
            let mut waits = 0;
            poll_fn(|context| match round.as_mut().poll(context) {
                Poll::Ready(done) => Poll::Ready(Some(done.is_ok())),
                Poll::Pending => {
                    waits += 1;
                    if waits >= n { Poll::Ready(None) } else { Poll::Pending }
                }
            })
            .await
        };
        let whole = world.server().within(cut).await;
        world.settle().await;
        let invoiced = world.balance(&acme, "invoiced").await;
        assert_eq!(invoiced, -6_000_000_000 * n, "6 credits a month");
        assert_eq!(world.number("select count(*) from statements").await, n);
        if whole.is_some() {
            break;
        }
    }
    world.close().await;
}

/// A correction upwards, when no credit is left on a plan that never invoices.
async fn a_plan_without_invoices_writes_off(database: Database) {
    let world = World::on(database).await;
    world.introduces(dear()).await;
    let acme = world.team_on("acme", Plan::Free).await;
    let ids = [acme.starts(json!({})).await, acme.starts(json!({})).await];
    world.advance("2h").await; // 3000.003 s are used up.
    assert_eq!(acme.end_of(&ids[0]).await.0, "platform_cleanup");
    world.advance("2m").await;
    corrects(&world, &acme, &first_window(&world, &acme).await, 90).await; // 30 s more: 3 credits
    world.advance("30d").await;
    let march = closed(&world, &acme, "2031-03").await;
    // 3 credits less the 0.0003 that were left.
    assert_eq!(text(&march, "overageCredits"), "2.9997");
    assert_eq!((text(&march, "amountDue"), text(&march, "writtenOff")), ("0.00", "0.10"));
    assert_eq!(world.balance(&acme, "written_off").await, -2_999_700_000);
    assert_eq!(world.balance(&acme, "overage").await, 0);
    world.close().await;
}
