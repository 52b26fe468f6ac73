//! Statements through the admin API.

use domain::limits::Plan;
use tests::{Database, World, json, operator::says, stories};

stories![a_statement_is_listed_and_read_in_three_forms];

/// 3600 s of January are 3.6 credits, 0.12 USD.
async fn a_statement_is_listed_and_read_in_three_forms(database: Database) {
    let world = World::on(database).at("2031-01-20T12:00:00Z").await;
    let owner = world.owner().await;
    let auditor = owner.operator("auditor").await;
    let acme = world.team_on("acme", Plan::Enterprise).await;
    acme.starts(json!({ "ttlMs": 3_600_000 })).await;
    world.advance("2h").await;
    world.advance("2m").await; // The last window is booked with its minute.
    let path = format!("/admin/v1/organizations/{}/statements", acme.org_id);
    assert_eq!(auditor.get(&path).await.is(200), json!({ "data": [], "hasMore": false }));
    let open = auditor.get(&format!("{path}/2031-01")).await.is(200);
    assert_eq!((&open["amountDue"], open.get("closedAt")), (&json!("0.12"), None));
    world.advance("20d").await;
    let list = auditor.get(&path).await.is(200);
    assert_eq!(list["data"].as_array().unwrap().len(), 1);
    let january = &list["data"][0];
    assert_eq!((&january["period"], &january["amountDue"]), (&json!("2031-01"), &json!("0.12")));
    world.advance("31d").await;
    let page = auditor.get(&format!("{path}?limit=1")).await.is(200);
    assert_eq!(
        (&page["data"][0]["period"], &page["nextCursor"]),
        (&json!("2031-02"), &json!("2031-02"))
    );
    let page = auditor.get(&format!("{path}?limit=1&cursor=2031-02")).await.is(200);
    assert_eq!((&page["data"][0], &page["hasMore"]), (january, &json!(false)));

    let closed = auditor.get(&format!("{path}/2031-01")).await.is(200);
    assert_eq!((&closed["id"], &closed["closedAt"]), (&january["id"], &january["closedAt"]));
    for (format, form, content_type) in [
        ("json", "json", "application/json"),
        ("html", "html", "text/html; charset=utf-8"),
        ("text", "text", "text/plain; charset=utf-8"),
    ] {
        let answer = auditor.get(&format!("{path}/2031-01?format={format}")).await;
        assert_eq!((answer.status, answer.header("content-type")), (200, content_type));
        let line = format!("statement --organization acme --period 2031-01 --format {form}");
        let printed = says(&world, &line).await.is_done();
        if format == "json" {
            let printed: tests::Value = printed.parse().unwrap();
            assert_eq!(answer.json(), printed);
            assert_eq!(answer.json(), closed);
        } else {
            assert_eq!(answer.text(), printed);
            assert_eq!(answer.header("x-content-type-options"), "nosniff");
        }
    }
    auditor.get(&format!("{path}/2031-1")).await.refused(404, "not_found");
    let error = auditor.get(&format!("{path}/2031-01?format=pdf")).await;
    assert_eq!(error.refused(400, "invalid_request")["details"]["field"], "format");
    world.close().await;
}
