//! Who holds an account: one at a time, and what they read is what the one before left.

use std::time::Duration;

use domain::limits::Plan;
use store::{Backend, organizations, rows::AccountRow};

use super::rows::{account, all, instant, tenant, write};
use crate::fixtures::{at, on_each};

/// Long enough for whoever does not have to wait.
const SOON: Duration = Duration::from_millis(300);

fn orgs(claimed: &[AccountRow]) -> Vec<uuid::Uuid> {
    claimed.iter().map(|row| row.org_id).collect()
}

#[tokio::test]
async fn no_two_workers_hold_the_same_account() {
    on_each(async |db| {
        let (acme, _) = tenant(db, "acme").await;
        let (other, _) = tenant(db, "other").await;
        let (late, _) = tenant(db, "late").await;
        write(db, async |tx| {
            let rows = [
                AccountRow { due_at: instant(9), ..account(&other) },
                AccountRow { due_at: instant(21), ..account(&late) },
            ];
            all().update_accounts(tx, &rows).await.unwrap();
        })
        .await;
        let (acme, other) = (acme.org.id.uuid(), other.org.id.uuid());
        let one = db.begin().await.unwrap();
        let claimed = all().claim_due(&one, at(20), 1).await.unwrap();
        assert_eq!(orgs(&claimed), [other], "the most overdue first");
        if db.backend() == Backend::Postgres {
            let two = db.begin().await.unwrap();
            let claimed = all().claim_due(&two, at(20), 9).await.unwrap();
            assert_eq!(orgs(&claimed), [acme], "what is held is left out, not waited for");
            let three = db.begin().await.unwrap();
            assert_eq!(all().claim_due(&three, at(20), 9).await.unwrap(), []);
            two.rollback().await.unwrap();
        } else {
            // There is one writer at a time.
            assert!(tokio::time::timeout(SOON, db.begin()).await.is_err());
        }
        let settled = AccountRow { due_at: instant(70), ..claimed[0].clone() };
        all().update_accounts(&one, &[settled]).await.unwrap();
        one.commit().await.unwrap();
        let tx = db.begin().await.unwrap();
        assert_eq!(orgs(&all().claim_due(&tx, at(20), 9).await.unwrap()), [acme]);
        drop(tx);
        assert_eq!(all().next_account_due(db.read()).await.unwrap(), Some(at(10)));
    })
    .await;
}

#[tokio::test]
async fn an_account_is_waited_for_and_then_read_as_it_is() {
    on_each(async |db| {
        let (acme, _) = tenant(db, "acme").await;
        let org = acme.org.id;
        let holder = db.begin().await.unwrap();
        all().lock_account(&holder, org).await.unwrap();
        let next = Some((Plan::Free, at(99)));
        let waiting = async {
            let tx = db.begin().await.unwrap();
            let account = all().lock_account(&tx, org).await.unwrap();
            tx.rollback().await.unwrap();
            account
        };
        let holding = async {
            tokio::time::sleep(SOON).await;
            // Of the account's row itself nothing changes.
            organizations::set_plan(&holder, org, Plan::Scale, next).await.unwrap();
            holder.commit().await.unwrap();
        };
        let (account, ()) = tokio::join!(waiting, holding);
        assert_eq!(account.plan, "scale");
        assert_eq!(account.next_plan.as_deref(), Some("free"));
        assert_eq!(account.next_plan_at, Some(instant(99)));
    })
    .await;
}

#[tokio::test]
async fn an_account_is_woken_and_never_put_off() {
    on_each(async |db| {
        let (acme, _) = tenant(db, "acme").await;
        let due = async || all().next_account_due(db.read()).await.unwrap();
        all().wake(db.write(), acme.org.id, at(11)).await.unwrap();
        assert_eq!(due().await, Some(at(10)));
        all().wake(db.write(), acme.org.id, at(3)).await.unwrap();
        assert_eq!(due().await, Some(at(3)));
    })
    .await;
}

#[tokio::test]
async fn the_account_says_whether_a_sandbox_lives() {
    on_each(async |db| {
        let (acme, _) = tenant(db, "acme").await;
        let live = async || all().account(db.read(), acme.org.id).await.unwrap().live;
        assert!(!live().await);
        let sandbox = acme.stored(db).await;
        assert!(live().await);
        write(db, async |tx| {
            let phase = domain::sandbox::Phase::Expiring;
            let expiring = domain::sandbox::Sandbox { phase, ..sandbox };
            store::sandboxes(acme.reach()).update(tx, &expiring, None).await.unwrap();
        })
        .await;
        assert!(!live().await);
    })
    .await;
}
