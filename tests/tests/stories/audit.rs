//! The audit trail: it tells of what was done, by whom and from where, and what was changed in it later
//! is found. That every create, run and end is told holds at the end of every story.

use api::app::audit;
use domain::id::OrganizationId;
use store::audit::AuditFilter;
use tests::{Database, Team, Value, World, json, operator::says, stories};

stories![
    it_tells_who_did_what_and_from_where,
    what_the_platform_does_is_told_as_its_own,
    what_operators_do_to_accounts_is_told,
    credit_and_plans_that_come_by_themselves_are_told,
    a_refused_request_is_no_act,
    it_holds_no_secret,
    a_changed_entry_is_found,
    a_removed_entry_is_found,
    exchanged_entries_are_found,
    an_inserted_entry_is_found,
    a_cut_off_end_is_found,
    many_writers_keep_one_chain,
];

fn org(team: &Team) -> OrganizationId {
    team.org_id.parse().unwrap()
}

/// The trail as it is exported.
async fn trail(world: &World, team: &Team) -> Vec<Value> {
    let mut lines = Vec::new();
    let mut print = |line: &str| {
        lines.push(line.parse::<Value>().unwrap());
        Ok(())
    };
    let filter = AuditFilter::default();
    audit::export(world.db().read(), org(team), &filter, &mut print).await.unwrap();
    lines
}

fn acts(trail: &[Value]) -> Vec<(&str, &str)> {
    trail
        .iter()
        .map(|line| (line["action"].as_str().unwrap(), line["actor"].as_str().unwrap()))
        .collect()
}

/// The first entry that is not as it was written.
async fn broken(world: &World, team: &Team) -> Option<i64> {
    let verified = audit::verify(world.db(), org(team)).await.unwrap();
    verified.broken.map(|(seq, _)| seq)
}

/// Changes the database behind the platform's back.
async fn tampers(world: &World, sql: &str) {
    use store::ConnectionTrait;
    world.db().write().execute_unprepared(sql).await.unwrap();
}

/// Seven entries: an organization with the credit of its plan and a key, and two sandboxes of which one
/// has run something and was killed.
async fn seven(world: &World) -> Team {
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({})).await;
    acme.runs(&sandbox, "true").await;
    acme.kills(&sandbox).await;
    acme.starts(json!({})).await;
    assert_eq!(broken(world, &acme).await, None);
    acme
}

/// Mends what was tampered with, so that the story can end.
async fn forgets(world: World) {
    tampers(&world, "delete from audit_entries").await;
    tampers(&world, "delete from audit_chains").await;
    world.close_without_trail().await;
}

async fn it_tells_who_did_what_and_from_where(database: Database) {
    let world = World::on(database).await;
    let acme = seven(&world).await;
    let trail = trail(&world, &acme).await;
    let key = trail[2]["object"].as_str().unwrap();
    assert_eq!(
        acts(&trail),
        [
            ("organization.create", "operator"),
            ("credit.grant", "platform"),
            ("key.create", "operator"),
            ("sandbox.create", key),
            ("command.run", key),
            ("sandbox.kill", key),
            ("sandbox.create", key),
        ]
    );
    let create = &trail[3];
    assert_eq!(create["origin"], "127.0.0.1");
    assert!(create["requestId"].as_str().unwrap().starts_with("req_"), "{create}");
    assert_eq!(create["outcome"], "ok");
    assert_eq!(create["details"]["template"], "python-node");
    assert_eq!(trail[5]["object"], create["object"], "the tombstone names what was made");
    let revoked = acme.delete(&format!("/v1/api-keys/{key}")).await.is(200);
    assert!(revoked["apiKey"]["revokedAt"].is_string());
    let trail = self::trail(&world, &acme).await;
    assert_eq!(acts(&trail)[7], ("key.revoke", key));
    world.close().await;
}

async fn what_the_platform_does_is_told_as_its_own(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    acme.starts(json!({ "ttlMs": 60_000 })).await;
    world.advance("2m").await;
    let trail = trail(&world, &acme).await;
    let end = trail.last().unwrap();
    assert_eq!((&end["action"], &end["actor"]), (&json!("sandbox.end"), &json!("platform")));
    assert_eq!(end["details"]["reason"], "ttl_expired");
    world.close().await;
}

/// The reason is told with what was done; the books have the rest.
async fn what_operators_do_to_accounts_is_told(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    for line in [
        "grant --organization acme purchased 100 --key po-17 --reason 'paid in advance'",
        "grant --organization acme purchased 100 --key po-17 --reason 'sent twice'",
        "plan --organization acme scale --reason 'more room'",
        "cap --organization acme 50 --reason 'their wish'",
        "limit --organization acme max_concurrent_sandboxes 3 --reason 'abuse'",
    ] {
        let _ = says(&world, line).await.is_done();
    }
    says(&world, "plan --organization acme gold --reason 'none'")
        .await
        .is_refused("expected one of");
    let trail = trail(&world, &acme).await;
    let (operator, platform) = ("operator", "platform");
    assert_eq!(
        acts(&trail)[3..],
        [
            ("credit.grant", operator),
            ("plan.change", operator),
            ("credit.grant", platform),
            ("plan.take_effect", platform),
            ("spend_cap.set", operator),
            ("limit.set", operator),
        ],
        "each once, and nothing that was refused"
    );
    for (entry, wanted) in trail[3..].iter().zip([
        json!({ "reason": "paid in advance" }),
        json!({ "reason": "more room", "plan": "scale" }),
        json!({ "kind": "plan", "plan": "scale" }),
        json!({ "plan": "scale", "previousPlan": "builder" }),
        json!({ "reason": "their wish", "cap": "50" }),
        json!({ "reason": "abuse", "limit": "max_concurrent_sandboxes", "value": 3 }),
    ]) {
        for (name, value) in wanted.as_object().unwrap() {
            assert_eq!(entry["details"][name], *value, "{entry}");
        }
        assert_eq!((&entry["outcome"], &entry["at"]), (&json!("ok"), &trail[0]["at"]));
    }
    assert!(trail[3]["object"].as_str().unwrap().starts_with("grt_"));
    assert_eq!(trail[4]["object"], *acme.org_id);
    assert_eq!(broken(&world, &acme).await, None);
    world.close().await;
}

/// Nobody asks for them at that instant, and a security person wonders where they come from.
async fn credit_and_plans_that_come_by_themselves_are_told(database: Database) {
    let world = World::on(database).at("2031-01-20T00:00:00Z").await;
    let acme = world.team("acme").await;
    let planned = "plan --organization acme scale --at 2031-02-10T00:00:00Z --reason 'as agreed'";
    let _ = says(&world, planned).await.is_done();
    world.advance("28d").await;
    world.settle().await;
    let trail = trail(&world, &acme).await;
    assert_eq!(
        acts(&trail)[3..],
        [
            ("plan.change", "operator"),
            ("credit.grant", "platform"),
            ("credit.grant", "platform"),
            ("plan.take_effect", "platform"),
        ],
        "what comes with the month, then what the larger plan adds"
    );
    for (entry, plan, credits) in
        [(&trail[4], "builder", "600.0006"), (&trail[5], "scale", "2400.002400002")]
    {
        let details = &entry["details"];
        assert_eq!((&details["plan"], &details["credits"]), (&json!(plan), &json!(credits)));
        assert_eq!(details["kind"], "plan", "{entry}");
    }
    assert_eq!(trail[6]["details"]["takesEffectAt"], "2031-02-10T00:00:00Z");
    assert_eq!(broken(&world, &acme).await, None);
    world.close().await;
}

async fn a_refused_request_is_no_act(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    acme.post("/v1/sandboxes", json!({ "ttlMs": 0 })).await.refused(400, "invalid_request");
    let reader = acme.key("sandbox:read").await;
    reader.post("/v1/sandboxes", json!({})).await.refused(403, "forbidden");
    let trail = trail(&world, &acme).await;
    assert!(acts(&trail)[2..].iter().all(|(action, _)| *action == "key.create"), "{trail:?}");
    world.close().await;
}

async fn it_holds_no_secret(database: Database) {
    let world = World::on(database).await;
    let acme = world.team("acme").await;
    let sandbox = acme.starts(json!({ "metadata": { "a": "metadata-secret" } })).await;
    let body = json!({ "command": "echo command-secret", "env": { "TOKEN": "env-secret" } });
    acme.runs_with(&sandbox, body).await;
    let text = format!("{:?}", trail(&world, &acme).await);
    for secret in ["metadata-secret", "command-secret", "env-secret", "cn_live_x"] {
        assert!(!text.contains(secret), "{secret}: {text}");
    }
    world.close().await;
}

async fn a_changed_entry_is_found(database: Database) {
    for column in ["actor", "action", "object", "outcome", "origin", "request_id", "details"] {
        let world = World::on(database).await;
        let acme = seven(&world).await;
        let sql = format!("update audit_entries set {column} = {column} || ' ' where seq = 3");
        tampers(&world, &sql).await;
        assert_eq!(broken(&world, &acme).await, Some(3), "{column}");
        tampers(&world, &format!("update audit_entries set {column} = trim({column})")).await;
        world.close().await;
    }
    let world = World::on(database).await;
    let acme = seven(&world).await;
    tampers(&world, "update audit_entries set at = at + 1 where seq = 2").await;
    assert_eq!(broken(&world, &acme).await, Some(2), "at");
    tampers(&world, "update audit_entries set at = at - 1 where seq = 2").await;
    world.close().await;
}

async fn a_removed_entry_is_found(database: Database) {
    let world = World::on(database).await;
    let acme = seven(&world).await;
    tampers(&world, "delete from audit_entries where seq = 2").await;
    assert_eq!(broken(&world, &acme).await, Some(2));
    // Closing the gap does not help.
    tampers(&world, "update audit_entries set seq = 2 where seq = 3").await;
    assert_eq!(broken(&world, &acme).await, Some(2));
    forgets(world).await;
}

async fn exchanged_entries_are_found(database: Database) {
    let world = World::on(database).await;
    let acme = seven(&world).await;
    for sql in [
        "update audit_entries set seq = 99 where seq = 2",
        "update audit_entries set seq = 2 where seq = 3",
        "update audit_entries set seq = 3 where seq = 99",
    ] {
        tampers(&world, sql).await;
    }
    assert_eq!(broken(&world, &acme).await, Some(2));
    forgets(world).await;
}

async fn an_inserted_entry_is_found(database: Database) {
    let world = World::on(database).await;
    let acme = seven(&world).await;
    let insert = "insert into audit_entries (org_id, seq, at, actor, action, object, outcome, origin,
          request_id, details, hash)
        select org_id, seq + 1, at, actor, action, object, outcome, origin, request_id, details, hash
        from audit_entries where seq = 7";
    tampers(&world, insert).await;
    assert_eq!(broken(&world, &acme).await, Some(8));
    tampers(&world, "delete from audit_entries where seq = 8").await;
    assert_eq!(broken(&world, &acme).await, None);
    world.close().await;
}

async fn a_cut_off_end_is_found(database: Database) {
    let world = World::on(database).await;
    let acme = seven(&world).await;
    tampers(&world, "delete from audit_entries where seq = 7").await;
    assert_eq!(broken(&world, &acme).await, Some(7));
    forgets(world).await;
}

async fn many_writers_keep_one_chain(database: Database) {
    let mut world = World::on(database).await;
    let acme = world.team("acme").await;
    let mut keys = [(*acme).clone(), (*acme).clone()];
    if database == Database::Postgres {
        keys[1] = world.replica().await(&acme);
    }
    let asked = (0..24).map(|n| keys[n % 2].post("/v1/sandboxes", json!({ "ttlMs": 60_000 })));
    let made = futures_util::future::join_all(asked).await;
    assert!(made.iter().all(|answer| answer.status == 201));
    assert_eq!(broken(&world, &acme).await, None);
    let seqs: Vec<_> = trail(&world, &acme).await.iter().map(|line| line["seq"].as_i64()).collect();
    assert_eq!(seqs, (1..=27).map(Some).collect::<Vec<_>>());
    world.close().await;
}
