//! What operators do about money on the command line, and what it tells them.

use tests::{Database, Value, World, json, operator::says, stories};

stories![
    credit_is_granted_once_per_key,
    a_plan_a_cap_and_limits_are_shown_as_they_are,
    prices_are_published_from_a_file,
    a_window_is_corrected_again_and_again,
    a_correction_takes_no_credit_that_is_still_needed,
    a_command_leaves_sandboxes_to_their_hosts,
    a_statement_has_three_forms,
    a_check_finds_what_was_tampered_with,
    what_makes_no_sense_is_refused_by_name,
];

async fn credit_is_granted_once_per_key(database: Database) {
    let world = World::on(database).await;
    let _acme = world.team_on("acme", domain::limits::Plan::Enterprise).await;
    let grant = "grant --organization acme purchased 12.5 --key po-1 --reason 'order 17'";
    assert_eq!(says(&world, grant).await.is_done(), "acme has 12.5 more credits (purchased)\n");
    let again = says(&world, grant).await.is_done();
    assert!(again.contains("before; nothing changed"), "{again}");
    let balance = balance(&world, "acme").await;
    assert_eq!((&balance["credits"], &balance["worth"]), (&json!("12.5"), &json!("0.42")));
    assert_eq!(balance["grants"][0]["priority"], 400);
    world.close().await;
}

async fn a_plan_a_cap_and_limits_are_shown_as_they_are(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let acme = world.team("acme").await;
    for line in [
        "plan --organization acme scale --at 2031-02-01 --reason 'they grow'",
        "cap --organization acme 250.5 --reason 'they asked'",
        "limit --organization acme max_concurrent_sandboxes 1 --reason 'a trial'",
    ] {
        let _ = says(&world, line).await.is_done();
    }
    let told = balance(&world, &acme.org_id).await;
    assert_eq!((&told["plan"], &told["spendCap"]), (&json!("builder"), &json!("250.5")));
    assert_eq!(told["nextPlan"], json!({ "plan": "scale", "at": "2031-02-01T00:00:00Z" }));
    assert_eq!(told["limits"], json!({ "max_concurrent_sandboxes": 1 }));
    let text = says(&world, "balance --organization acme").await.is_done();
    for wanted in ["scale from 2031-02-01T00:00:00Z", "of at most 250.5 USD in 2031-01", "600.0006"]
    {
        assert!(text.contains(wanted), "{wanted:?} is missing:\n{text}");
    }
    // The server that runs is told on PostgreSQL; on SQLite it looks again after a minute.
    if database == Database::Sqlite {
        world.moves("60s");
    }
    let quota = &acme.get("/v1/usage").await.is(200)["quotas"]["active_sandboxes"];
    assert_eq!(quota["limit"], 1);
    for line in [
        "cap --organization acme none --reason 'they asked again'",
        "limit --organization acme max_concurrent_sandboxes none --reason 'it is over'",
    ] {
        let _ = says(&world, line).await.is_done();
    }
    let told = balance(&world, "acme").await;
    assert_eq!((&told["spendCap"], &told["limits"]), (&Value::Null, &json!({})));
    world.close().await;
}

/// Commands cost half a credit each for sandboxes of the new prices, nothing for those of the old.
async fn prices_are_published_from_a_file(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let acme = world.team_on("acme", domain::limits::Plan::Enterprise).await;
    let old = acme.starts(json!({})).await;
    let file = std::env::temp_dir().join(format!("crownest-prices-{}", std::process::id()));
    let file = file.with_extension(database.name());
    let sheet = r#"
        name = "2031-01-21"
        currency = "USD"
        computeUnitSecondsPerCredit = 1000
        currencyPerCredit = "0.04"
        validFrom = 2031-01-20T12:05:00Z
        rates.command_invocations = { credits = "0.5" }
    "#;
    std::fs::write(&file, sheet).unwrap();
    let publish = format!("pricing publish {}", file.display());
    let said = says(&world, &publish).await.is_done();
    assert_eq!(said, "2031-01-21 is valid from 2031-01-20T12:05:00Z on\n");
    says(&world, &publish).await.is_refused("validFrom must be after that of 2031-01-21");
    std::fs::write(&file, sheet.replace("\"0.04\"", "0.04")).unwrap();
    says(&world, &publish).await.is_refused("currencyPerCredit: invalid type: floating point");
    std::fs::remove_file(&file).unwrap();
    says(&world, &publish).await.is_refused("cannot be read");

    world.advance("6m").await;
    let listed = says(&world, "pricing list").await.is_done();
    let in_force = listed.lines().find(|line| line.contains("in force")).unwrap();
    assert!(in_force.starts_with("2031-01-21  2031-01-20T12:05:00Z"), "{listed}");
    let new = acme.starts(json!({})).await;
    for sandbox in [&old, &new] {
        acme.runs(sandbox, "true").await;
        acme.kills(sandbox).await;
    }
    world.moves("1s");
    booked(&world).await;
    let cost = "select cast(sum(amount) as bigint) from usage_windows
                where metric = 'command_invocations'";
    assert_eq!(world.number(cost).await, 500_000_000);
    world.close().await;
}

/// 60 s become 30, then 45, then nothing: each time the books say what was said last.
async fn a_window_is_corrected_again_and_again(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    // Half of the window is paid by credit, the other half by nobody.
    let acme = world.team_on("acme", domain::limits::Plan::Enterprise).await;
    let grant = "grant --organization acme purchased 0.03 --key a --reason 'order 17'";
    let _ = says(&world, grant).await.is_done();
    let sandbox = acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("2m").await;
    booked(&world).await;
    let correct = |quantity: &str| {
        format!(
            "correct --organization acme --sandbox {sandbox} --start 2031-01-20T12:00:00Z \
             --quantity {quantity} --reason 'the clock was wrong'"
        )
    };
    let state = async || {
        let balance = balance(&world, "acme").await;
        let credits = balance["credits"].as_str().unwrap().to_owned();
        let sums = "select cast(sum(quantity) as bigint) from usage_windows
                    where metric = 'compute_unit_seconds'";
        let owed = "select cast(coalesce(sum(amount), 0) as bigint) from ledger_postings
                    where account = 'overage'";
        (credits, world.number(sums).await / 1000, world.number(owed).await)
    };
    assert_eq!(state().await, ("0".to_owned(), 60, -30_000_000));
    let _ = says(&world, &correct("45")).await.is_done();
    assert_eq!(state().await, ("0".to_owned(), 45, -15_000_000), "what nobody paid goes first");
    let _ = says(&world, &correct("20")).await.is_done();
    assert_eq!(state().await, ("0.01".to_owned(), 20, 0), "then what credit paid");
    let _ = says(&world, &correct("45")).await.is_done();
    assert_eq!(state().await, ("0".to_owned(), 45, -15_000_000), "and there again");
    says(&world, &correct("45")).await.is_refused("this costs what was booked");
    let _ = says(&world, &correct("0")).await.is_done();
    assert_eq!(state().await, ("0.03".to_owned(), 0, 0));
    says(&world, &correct("-1")).await.is_refused("quantity must be zero or more");
    says(&world, &correct("0.0001")).await.is_refused("quantity must be a number with at most");
    world.close().await;
}

/// Credit that ended a moment ago still pays for usage of its time that is not booked yet; a correction
/// of something else in between must not end it.
async fn a_correction_takes_no_credit_that_is_still_needed(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let acme = world.team_on("acme", domain::limits::Plan::Enterprise).await;
    let sandbox = acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("2m").await;
    booked(&world).await;
    let grant = "grant --organization acme purchased 1 --expires-at 2031-01-20T12:05:00Z --key a";
    let _ = says(&world, &format!("{grant} --reason 'order 17'")).await.is_done();
    acme.starts(json!({})).await;
    // Nothing is known of the host from here on.
    let silent = world.driver.hang_next(drivers::Verb::List);
    world.moves("4m");
    let correct = format!(
        "correct --organization acme --sandbox {sandbox} --start 2031-01-20T12:00:00Z \
         --quantity 30 --reason 'the clock was wrong'"
    );
    let _ = says(&world, &correct).await.is_done();
    assert_eq!(world.number(EXPIRIES).await, 0, "180 s of its time are not booked yet");
    silent.release();
    world.advance("1m").await;
    booked(&world).await;
    assert_eq!(world.number(EXPIRIES).await, 1, "now they are, and what is left of it is lost");
    world.close().await;
}

const EXPIRIES: &str = "select count(*) from ledger_transactions where kind = 'expiry'";

/// While no server runs, a sandbox outlives what its organization may be invoiced: 0.03 credits, 30 s.
/// Settling finds that out, and where it ended; its host removes it when it is back.
async fn a_command_leaves_sandboxes_to_their_hosts(database: Database) {
    let mut world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let acme = world.team_on("acme", domain::limits::Plan::Enterprise).await;
    let cap = "cap --organization acme 0.000999999 --reason 'a trial'";
    let _ = says(&world, cap).await.is_done();
    let sandbox = acme.starts(json!({})).await;
    let other = world.team("other").await.starts(json!({})).await;
    world.kills_server().await;
    world.moves("5m");
    booked(&world).await;
    let _ = says(&world, "settle --organization other").await.is_done();
    assert_eq!(world.driver.running().len(), 2, "they are not this process's to end");
    assert_eq!(world.number("select count(*) from sandboxes where phase = 'ready'").await, 1);
    world.starts_server().await;
    world.settle().await;
    let seen = acme.sandbox(&sandbox).await;
    assert_eq!(seen["destroyedReason"], "platform_cleanup");
    assert_eq!(seen["destroyedAt"], "2031-01-20T12:00:30.000Z");
    let running: Vec<_> = world.driver.running().iter().map(ToString::to_string).collect();
    assert_eq!(running, [other]);
    world.close().await;
}

async fn a_statement_has_three_forms(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let acme = world.team("acme").await;
    let project = acme.project("<script>alert('x')</script>").await;
    acme.starts(json!({ "projectId": project, "ttlMs": 3_600_000 })).await;
    world.advance("61m").await;
    booked(&world).await;
    let statement = "statement --organization acme --period 2031-01";
    let text = says(&world, statement).await.is_done();
    assert!(text.contains("preliminary: the period is open"), "{text}");
    world.advance("12d").await;
    let closed =
        async || (world.number("select count(*) from statements").await == 1).then_some(());
    world.until("the statement", closed).await;

    // 3600 s are 3.6 credits of 0.0333333 USD, paid by the plan.
    let document: Value =
        serde_json::from_str(&says(&world, &format!("{statement} --format json")).await.is_done())
            .unwrap();
    assert_eq!(document["usage"][0]["quantity"], "3600");
    assert_eq!(document["usage"][0]["credits"], "3.6");
    assert_eq!((&document["usageTotal"], &document["amountDue"]), (&json!("0.12"), &json!("0.00")));
    let text = says(&world, statement).await.is_done();
    for wanted in
        ["Statement 2031-01 of acme", "<script>alert('x')</script>", "plan credit", "0.12"]
    {
        assert!(text.contains(wanted), "{wanted:?} is missing:\n{text}");
    }
    let page = says(&world, &format!("{statement} --format html")).await.is_done();
    assert!(!page.contains("<script"), "{page}");
    assert!(page.contains("&#60;script&#62;alert(&#39;x&#39;)&#60;/script&#62;"), "{page}");
    world.close().await;
}

async fn a_check_finds_what_was_tampered_with(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let acme = world.team("acme").await;
    acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("2m").await;
    booked(&world).await;
    let said = says(&world, "check").await.is_done();
    assert_eq!(said, "1 organizations, 2 transactions: the books are right\n");
    for (table, column, wanted) in [
        ("ledger_totals", "amount", "total credit:plan of 2031-01 2026-07 is -"),
        ("usage_lines", "quantity", "in 2031-01, booked for 2031-01, 2026-07 is 59.999"),
        ("credit_grants", "remaining", "grant grt_"),
        ("usage_lines", "amount", "usage of 2031-01 2026-07 is 0.06 credits"),
        ("ledger_postings", "amount", "sums to "),
    ] {
        tests::tables::execute(world.db(), &format!("update {table} set {column} = {column} - 1"))
            .await;
        let said = says(&world, "check").await;
        tests::tables::execute(world.db(), &format!("update {table} set {column} = {column} + 1"))
            .await;
        assert_eq!(said.code, 1, "{table}.{column}: {said:?}");
        assert!(said.text.contains(wanted), "{wanted:?} is missing:\n{}", said.text);
        assert!(said.text.starts_with(&acme.org_id), "{}", said.text);
    }
    world.close().await;
}

async fn what_makes_no_sense_is_refused_by_name(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    let nobody = "org_00000000000070008000000000000000";
    for (line, wanted) in [
        ("balance --organization nobody", "organization: there is none called nobody"),
        (&format!("balance --organization {nobody}"), "organization: there is none called org_"),
        ("grant --organization acme purchased 1 --key k", "--reason <REASON>"),
        ("grant --organization acme purchased 1 --reason r", "--key <KEY>"),
        (
            "grant --organization acme plan 1 --key k --reason r",
            "<KIND>': expected one of purchased",
        ),
        (
            "grant --organization acme purchased much --key k --reason r",
            "<CREDITS>': expected a decimal",
        ),
        ("grant --organization acme purchased -1 --key k --reason r", "credits must be above zero"),
        ("grant --organization acme purchased 0.0000000001 --key k --reason r", "nine places"),
        ("grant --organization acme purchased 1 --key k --reason ''", "reason must be 1 to 500"),
        (
            "grant --organization acme purchased 1 --key k --reason r --expires-at 2031-01-19",
            "expiry must be in the future",
        ),
        ("plan --organization acme gold --reason r", "<PLAN>': expected one of free, builder"),
        ("plan --organization acme team --reason r", "does not offer the plan team"),
        ("plan --organization acme scale --at 2031-01-19 --reason r", "cannot change in the past"),
        (
            "plan --organization acme scale --at soon --reason r",
            "--at <INSTANT>': expected an instant",
        ),
        ("cap --organization acme -1 --reason r", "cap must be zero or more"),
        ("cap --organization acme much --reason r", "<AMOUNT|none>': expected a decimal number"),
        ("limit --organization acme max_fun 3 --reason r", "<LIMIT>'"),
        (
            "limit --organization acme retention_days 5000000000 --reason r",
            "retention_days is at most",
        ),
        ("statement --organization acme --period 2031-13", "a period is a month such as 2031-02"),
        ("statement --organization acme --period 2031-01 --format pdf", "[possible values: text"),
        ("windows --organization acme --from yesterday", "--from <INSTANT>': expected an instant"),
        (
            &format!(
                "correct --organization acme --sandbox {sandbox} --start 2031-01-19 --quantity 1 --reason r"
            ),
            "start must be that of a window",
        ),
        (
            "correct --organization acme --sandbox sbx_1 --start 2031-01-19 --quantity 1 --reason r",
            "--sandbox <SANDBOX>': expected an id of the form sbx_",
        ),
    ] {
        says(&world, line).await.is_refused(wanted);
    }
    world.close().await;
}

async fn balance(world: &World, organization: &str) -> Value {
    let line = format!("balance --organization {organization} --json");
    serde_json::from_str(&says(world, &line).await.is_done()).unwrap()
}

/// Books what was measured.
async fn booked(world: &World) {
    let _ = says(world, "settle --organization acme").await.is_done();
}
