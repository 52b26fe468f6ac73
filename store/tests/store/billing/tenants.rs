//! Books of others are invisible, and nothing can be written into them.

use domain::id::{GrantId, TransactionId};
use store::{
    Db, Error,
    billing::{Billing, Lock},
    rows::{AccountRow, GrantRow, MeterRow, TransactionRow},
    usage::{Metric, UsageRecord, UsageRecordId},
};

use super::rows::{
    account, alert, all, coming, grant, instant, line, meter, statement, tenant, total, window,
    write,
};
use crate::fixtures::{Tenant, at, command, on_each, put_command};

/// An organization that has one of everything.
struct Scene {
    acme: Tenant,
    grant: GrantRow,
    transaction: TransactionRow,
    meter: MeterRow,
    record: UsageRecord,
    sandbox: domain::sandbox::Sandbox,
}

impl Scene {
    async fn new(db: &Db) -> Self {
        let (acme, grant) = tenant(db, "acme").await;
        let sandbox = acme.stored(db).await;
        put_command(db, &command(&sandbox)).await;
        let (transaction, postings) = coming(&grant, 1, "first");
        let record = UsageRecord {
            id: UsageRecordId::generate(at(1)),
            org_id: acme.org.id,
            project_id: acme.project.id,
            sandbox_id: sandbox.id,
            metric: Metric::CommandInvocations,
            resource_id: "cmd_1".to_owned(),
            amount: 1,
            at: at(5),
        };
        let meter = meter(&sandbox);
        let counter = MeterRow {
            metric: Metric::SandboxCreates.as_str().to_owned(),
            closed_at: Some(instant(1)),
            ..meter.clone()
        };
        write(db, async |tx| {
            let billing = all();
            billing
                .insert_transactions(tx, std::slice::from_ref(&transaction), &postings)
                .await
                .unwrap();
            // Its meter says that nothing was settled, so that a checker has something to find.
            billing.insert_windows(tx, &[window(&sandbox, 1)]).await.unwrap();
            billing.store_meters(tx, &[meter.clone(), counter]).await.unwrap();
            billing.add_lines(tx, &[line(&sandbox)]).await.unwrap();
            billing.add_totals(tx, &[total(&acme)]).await.unwrap();
            billing.insert_statement(tx, &statement(&acme)).await.unwrap();
            billing.raise_alerts(tx, &[alert(&acme, 50)]).await.unwrap();
            store::usage(acme.reach()).record(tx, &record).await.unwrap();
        })
        .await;
        Self { acme, grant, transaction, meter, record, sandbox }
    }

    /// How many rows each read of these books shows to a reach, by the read's name.
    async fn seen(&self, db: &Db, billing: &Billing) -> Vec<(&'static str, usize)> {
        let (c, org) = (db.read(), self.acme.org.id);
        let orgs = [org];
        let sandboxes = [self.sandbox.id.uuid()];
        let ids = [TransactionId::from_uuid(self.transaction.id)];
        let period = at(0);
        vec![
            ("account", usize::from(billing.account(c, org).await.is_ok())),
            ("accounts", billing.accounts(c, None, 10).await.unwrap().len()),
            ("next_account_due", billing.next_account_due(c).await.unwrap().iter().count()),
            ("grants_left", billing.grants_left(c, &orgs).await.unwrap().len()),
            (
                "grants",
                billing.grants(c, &[GrantId::from_uuid(self.grant.id)]).await.unwrap().len(),
            ),
            ("all_grants", billing.all_grants(c, org).await.unwrap().len()),
            ("totals", billing.totals(c, &orgs, period).await.unwrap().len()),
            ("booked_lines", billing.booked_lines(c, org, period).await.unwrap().len()),
            ("used_lines", billing.used_lines(c, org, period).await.unwrap().len()),
            (
                "find_statement",
                billing.find_statement(c, org, period).await.unwrap().iter().count(),
            ),
            ("alerts", billing.alerts(c, org, period).await.unwrap().len()),
            ("journal", billing.journal(c, org, 0, 10).await.unwrap().len()),
            ("postings", billing.postings(c, &ids).await.unwrap().len()),
            ("find_transaction", billing.find_transaction(c, ids[0]).await.unwrap().iter().count()),
            ("windows", billing.windows(c, org, (at(0), at(99)), None, 10).await.unwrap().len()),
            (
                "lines_from_windows",
                billing.lines_from_windows(c, org, (at(0), at(99))).await.unwrap().len(),
            ),
            ("window_range", billing.window_range(c, org).await.unwrap().iter().count()),
            ("meters_that_differ", billing.meters_that_differ(c, org).await.unwrap().len()),
            ("all_lines", billing.all_lines(c, org).await.unwrap().len()),
            ("totals_from_postings", billing.totals_from_postings(c, org).await.unwrap().len()),
            ("all_totals", billing.all_totals(c, org).await.unwrap().len()),
            (
                "remaining_from_postings",
                billing.remaining_from_postings(c, org).await.unwrap().len(),
            ),
            (
                "unsettled_meters",
                billing.unsettled_meters(c, &orgs, Lock::Look).await.unwrap().len(),
            ),
            ("counted_meters", billing.counted_meters(c, &sandboxes).await.unwrap().len()),
            ("unsettled_counts", billing.unsettled_counts(c, &orgs, 10).await.unwrap().len()),
            ("active_spans", billing.active_spans(c, &sandboxes).await.unwrap().len()),
        ]
    }
}

#[tokio::test]
async fn books_of_others_are_invisible() {
    on_each(async |db| {
        let scene = Scene::new(db).await;
        let stranger = Tenant::new(db, "other").await;
        let ours = scene.seen(db, &store::billing(scene.acme.reach())).await;
        assert_eq!(ours, scene.seen(db, &all()).await, "there is nobody else's");
        assert!(ours.iter().all(|(_, n)| *n > 0), "there is something to see: {ours:?}");
        let theirs = scene.seen(db, &store::billing(stranger.reach())).await;
        assert!(theirs.iter().all(|(_, n)| *n == 0), "{theirs:?}");
        // What lies in a project is not seen from another one of the same organization.
        let other = scene.seen(db, &store::billing(scene.acme.only(&scene.acme.other))).await;
        for lies_in_one in ["used_lines", "booked_lines", "windows", "unsettled_meters"] {
            assert!(other.contains(&(lies_in_one, 0)), "{lies_in_one}: {other:?}");
        }
    })
    .await;
}

fn missing<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Missing(_))), "{what}: {result:?}");
}

fn stale<T: std::fmt::Debug>(what: &str, result: Result<T, Error>) {
    assert!(matches!(result, Err(Error::Stale)), "{what}: {result:?}");
}

#[tokio::test]
async fn books_of_others_cannot_be_written() {
    on_each(async |db| {
        let scene = Scene::new(db).await;
        let (stranger, _) = tenant(db, "other").await;
        let before = scene.seen(db, &all()).await;
        let theirs = store::billing(stranger.reach());
        let Scene { acme, grant: granted, meter, record, sandbox, .. } = &scene;
        let (transaction, postings) = coming(granted, 2, "second");
        let org = acme.org.id;
        let tx = db.begin().await.unwrap();
        let due: Vec<AccountRow> = theirs.claim_due(&tx, at(99), 10).await.unwrap();
        assert!(due.iter().all(|row| row.org_id == stranger.org.id.uuid()), "{due:?}");
        missing("lock_account", theirs.lock_account(&tx, org).await);
        missing("insert_account", theirs.insert_account(&tx, &account(acme)).await);
        stale("update_accounts", theirs.update_accounts(&tx, &[account(acme)]).await);
        let noted = theirs.note_change(&tx, org, ("plan", None), at(1), "why", at(1)).await;
        missing("note_change", noted);
        missing("insert_grants", theirs.insert_grants(&tx, &[grant(acme)]).await);
        stale("update_grants", theirs.update_grants(&tx, &[(granted.id, 0)]).await);
        let inserted = theirs.insert_transactions(&tx, &[transaction], &[]).await;
        missing("insert_transactions", inserted);
        missing("postings", theirs.insert_transactions(&tx, &[], &postings).await);
        missing("insert_windows", theirs.insert_windows(&tx, &[window(sandbox, 61)]).await);
        missing("add_lines", theirs.add_lines(&tx, &[line(sandbox)]).await);
        missing("add_totals", theirs.add_totals(&tx, &[total(acme)]).await);
        missing("insert_statement", theirs.insert_statement(&tx, &statement(acme)).await);
        missing("raise_alerts", theirs.raise_alerts(&tx, &[alert(acme, 80)]).await);
        missing("store_meters", theirs.store_meters(&tx, std::slice::from_ref(meter)).await);
        stale("mark_settled", theirs.mark_settled(&tx, &[record.id.uuid()]).await);
        theirs.wake(&tx, org, at(0)).await.unwrap();
        tx.commit().await.unwrap();
        let ours = store::billing(acme.reach());
        assert_eq!(
            ours.account(db.read(), org).await.unwrap(),
            AccountRow { live: true, ..account(acme) }
        );
        assert_eq!(ours.all_grants(db.read(), org).await.unwrap(), std::slice::from_ref(granted));
        let ours = scene.seen(db, &store::billing(acme.reach())).await;
        let but_accounts = |seen: Vec<(&'static str, usize)>| -> Vec<_> {
            seen.into_iter().filter(|(what, _)| *what != "accounts").collect()
        };
        assert_eq!(but_accounts(ours), but_accounts(before), "nothing was written");
    })
    .await;
}

/// A meter is found by its sandbox; whose it is counts all the same.
#[tokio::test]
async fn a_meter_of_others_is_not_moved_under_a_name_of_ones_own() {
    on_each(async |db| {
        let scene = Scene::new(db).await;
        let (stranger, _) = tenant(db, "other").await;
        let disguised = MeterRow {
            org_id: stranger.org.id.uuid(),
            project_id: stranger.project.id.uuid(),
            settled_until: instant(3000),
            settled_amount: 999,
            ..scene.meter.clone()
        };
        let tx = db.begin().await.unwrap();
        let stored = store::billing(stranger.reach()).store_meters(&tx, &[disguised]).await;
        assert!(stored.is_err(), "{stored:?}");
        drop(tx);
        let meters = all().unsettled_meters(db.read(), &[scene.acme.org.id], Lock::Look).await;
        assert_eq!(meters.unwrap(), [scene.meter]);
        // Nor is one made for a sandbox of theirs.
        let made = MeterRow {
            metric: Metric::PreviewMinutes.as_str().to_owned(),
            org_id: stranger.org.id.uuid(),
            project_id: stranger.project.id.uuid(),
            ..meter(&scene.sandbox)
        };
        let tx = db.begin().await.unwrap();
        missing("a counter", store::billing(stranger.reach()).store_meters(&tx, &[made]).await);
        drop(tx);
        let unknown = meter(&stranger.sandbox());
        let tx = db.begin().await.unwrap();
        missing("of no sandbox", all().store_meters(&tx, &[unknown]).await);
    })
    .await;
}
