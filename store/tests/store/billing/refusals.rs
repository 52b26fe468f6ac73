//! What is written once is refused a second time, by the name of what it breaks; and what somebody
//! else changed is not changed over their heads.

use domain::id::{GrantId, OrganizationId, TransactionId};
use store::{
    Db, Error, Tx,
    rows::{AccountRow, AlertRow, GrantRow, MeterRow, PostingRow, StatementRow, WindowRow},
    usage::{Metric, UsageRecord, UsageRecordId},
};

use super::rows::{account, alert, all, coming, instant, meter, statement, tenant, window, write};
use crate::fixtures::{Tenant, at, on_each};

type Written = Result<(), Error>;

/// What a write of its own transaction, which is not kept, comes to.
async fn told(db: &Db, write: impl AsyncFnOnce(&Tx) -> Written) -> String {
    let tx = db.begin().await.unwrap();
    match write(&tx).await {
        Ok(()) => "written".to_owned(),
        Err(Error::Taken(constraint)) => constraint,
        Err(Error::Missing(_)) => "missing".to_owned(),
        Err(Error::Stale) => "stale".to_owned(),
        Err(Error::Corrupt(_)) => "corrupt".to_owned(),
        Err(error @ Error::Unavailable(_)) => panic!("{error:?}"),
    }
}

#[tokio::test]
async fn a_repeat_is_refused_by_name() {
    on_each(async |db| {
        let (acme, grant) = tenant(db, "acme").await;
        let (other, theirs) = tenant(db, "other").await;
        let sandbox = acme.stored(db).await;
        let (transaction, postings) = coming(&grant, 1, "first");
        write(db, async |tx| {
            all()
                .insert_transactions(tx, std::slice::from_ref(&transaction), &postings)
                .await
                .unwrap();
            all().insert_windows(tx, &[window(&sandbox, 1)]).await.unwrap();
            all().insert_statement(tx, &statement(&acme)).await.unwrap();
        })
        .await;
        let same_key = coming(&grant, 2, "first").0;
        let same_seq = coming(&grant, 1, "second").0;
        let transactions =
            async |row| told(db, async |tx| all().insert_transactions(tx, &[row], &[]).await).await;
        assert_eq!(transactions(same_key).await, "ledger_transactions_key_key");
        assert_eq!(transactions(same_seq).await, "ledger_transactions_seq_key");
        assert_eq!(transactions(coming(&theirs, 1, "first").0).await, "written", "theirs");
        let again = StatementRow { document: "[]".to_owned(), ..statement(&acme) };
        let statements = told(db, async |tx| all().insert_statement(tx, &again).await).await;
        assert_eq!(statements, "statements_period_key");
        let windows = async |row: WindowRow| {
            told(db, async |tx| all().insert_windows(tx, &[row]).await).await
        };
        let primary = windows(WindowRow { amount: 7, ..window(&sandbox, 1) }).await;
        assert!(primary == "usage_windows_pkey" || primary.contains("sandbox_id"), "{primary}");
        assert_eq!(windows(WindowRow { part: 1, ..window(&sandbox, 1) }).await, "written");
        let accounts = told(db, async |tx| all().insert_account(tx, &account(&other)).await).await;
        assert!(accounts.contains("billing_accounts"), "{accounts}");
    })
    .await;
}

#[tokio::test]
async fn what_does_not_fit_together_is_refused() {
    on_each(async |db| {
        let (acme, grant) = tenant(db, "acme").await;
        let (_, theirs) = tenant(db, "other").await;
        let (transaction, [issued, credit]) = coming(&grant, 1, "first");
        let posting = async |posting: PostingRow| {
            let rows = [transaction.clone()];
            told(db, async |tx| all().insert_transactions(tx, &rows, &[posting]).await).await
        };
        assert_eq!(posting(issued.clone()).await, "written");
        assert_eq!(posting(PostingRow { amount: 0, ..issued.clone() }).await, "corrupt");
        assert_eq!(posting(PostingRow { grant_id: None, ..credit.clone() }).await, "corrupt");
        assert_eq!(
            posting(PostingRow { account: "x".to_owned(), ..issued.clone() }).await,
            "corrupt"
        );
        let of_theirs = PostingRow { grant_id: Some(theirs.id), ..credit.clone() };
        assert_eq!(posting(of_theirs).await, "missing", "another organization's grant");
        let unknown = TransactionId::generate(at(0)).uuid();
        let stray = PostingRow { transaction_id: unknown, ..issued };
        assert_eq!(posting(stray).await, "missing");
        let sandbox = acme.stored(db).await;
        let window = WindowRow { transaction_id: Some(unknown), ..window(&sandbox, 1) };
        let windows = told(db, async |tx| all().insert_windows(tx, &[window]).await).await;
        assert_eq!(windows, "missing");
        let overdrawn = told(db, async |tx| all().update_grants(tx, &[(grant.id, -1)]).await).await;
        assert_eq!(overdrawn, "corrupt", "less than nothing is left of a grant");
        let half = AccountRow { stops_at: Some(instant(5)), ..account(&acme) };
        let half = told(db, async |tx| all().update_accounts(tx, &[half]).await).await;
        assert_eq!(half, "corrupt", "a stop without a reason");
    })
    .await;
}

#[tokio::test]
async fn an_alert_is_raised_once() {
    on_each(async |db| {
        let (acme, _) = tenant(db, "acme").await;
        let raise = async |percents: &[i64]| {
            let alerts: Vec<_> = percents.iter().map(|percent| alert(&acme, *percent)).collect();
            let tx = db.begin().await.unwrap();
            let new = all().raise_alerts(&tx, &alerts).await.unwrap();
            tx.commit().await.unwrap();
            new.into_iter().map(|row: AlertRow| row.percent).collect::<Vec<_>>()
        };
        assert_eq!(raise(&[50]).await, [50]);
        assert_eq!(raise(&[50, 80]).await, [80]);
        assert_eq!(raise(&[50, 80]).await, [] as [i64; 0]);
        assert_eq!(raise(&[]).await, [] as [i64; 0]);
    })
    .await;
}

#[tokio::test]
async fn what_is_not_there_any_more_is_stale() {
    on_each(async |db| {
        let (acme, grant) = tenant(db, "acme").await;
        let nobody = OrganizationId::generate(at(0)).uuid();
        let accounts = [account(&acme), AccountRow { org_id: nobody, ..account(&acme) }];
        let accounts = told(db, async |tx| all().update_accounts(tx, &accounts).await).await;
        let none = GrantId::generate(at(0)).uuid();
        let left = [(grant.id, 7), (none, 7)];
        let grants = told(db, async |tx| all().update_grants(tx, &left).await).await;
        assert_eq!((accounts.as_str(), grants.as_str()), ("stale", "stale"));
        let kept: Vec<GrantRow> = all().all_grants(db.read(), acme.org.id).await.unwrap();
        assert_eq!(kept, [grant], "nothing of it was done");
        for nothing in [
            told(db, async |tx| all().update_accounts(tx, &[]).await).await,
            told(db, async |tx| all().update_grants(tx, &[]).await).await,
            told(db, async |tx| all().store_meters(tx, &[]).await).await,
            told(db, async |tx| all().mark_settled(tx, &[]).await).await,
        ] {
            assert_eq!(nothing, "written");
        }
    })
    .await;
}

#[tokio::test]
async fn a_meter_is_never_settled_backwards() {
    on_each(async |db| {
        let (acme, _) = tenant(db, "acme").await;
        let (first, second) = (acme.stored(db).await, acme.stored(db).await);
        let settled = |sandbox, until, amount| MeterRow {
            settled_until: instant(until),
            settled_quantity: amount,
            settled_amount: amount,
            ..meter(sandbox)
        };
        let store = async |rows: &[MeterRow]| {
            let tx = db.begin().await.unwrap();
            match all().store_meters(&tx, rows).await {
                Ok(()) => tx.commit().await.unwrap(),
                Err(error) => return format!("{error:?}"),
            }
            "stored".to_owned()
        };
        assert_eq!(store(&[settled(&first, 60, 6), settled(&second, 60, 6)]).await, "stored");
        assert_eq!(store(&[settled(&first, 60, 6)]).await, "stored", "the same once more");
        let mixed = [settled(&second, 120, 12), settled(&first, 59, 5)];
        assert_eq!(store(&mixed).await, "Stale");
        let orgs = [acme.org.id];
        let look = store::billing::Lock::Look;
        let kept = all().unsettled_meters(db.read(), &orgs, look).await.unwrap();
        let kept: Vec<_> = kept.iter().map(|row| (row.settled_until, row.settled_amount)).collect();
        assert_eq!(kept, [(instant(60), 6), (instant(60), 6)], "neither of them");
    })
    .await;
}

fn count(tenant: &Tenant, sandbox: &domain::sandbox::Sandbox, resource_id: &str) -> UsageRecord {
    UsageRecord {
        id: UsageRecordId::generate(at(1)),
        org_id: tenant.org.id,
        project_id: tenant.project.id,
        sandbox_id: sandbox.id,
        metric: Metric::CommandInvocations,
        resource_id: resource_id.to_owned(),
        amount: 1,
        at: at(5),
    }
}

#[tokio::test]
async fn a_count_is_settled_once() {
    on_each(async |db| {
        let (acme, _) = tenant(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let (one, two) = (count(&acme, &sandbox, "one"), count(&acme, &sandbox, "two"));
        write(db, async |tx| {
            store::usage(acme.reach()).record(tx, &one).await.unwrap();
            store::usage(acme.reach()).record(tx, &two).await.unwrap();
            all().mark_settled(tx, &[one.id.uuid()]).await.unwrap();
        })
        .await;
        let both = [one.id.uuid(), two.id.uuid()];
        assert_eq!(told(db, async |tx| all().mark_settled(tx, &both).await).await, "stale");
        let left = all().unsettled_counts(db.read(), &[acme.org.id], 9).await.unwrap();
        assert_eq!(left.iter().map(|row| row.id).collect::<Vec<_>>(), [two.id.uuid()]);
        assert_eq!(left[0].sandbox_created_at, instant(0));
        assert_eq!(left[0].pricing_version, "2026-07");
    })
    .await;
}
