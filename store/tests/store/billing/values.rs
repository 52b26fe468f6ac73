//! Values that come back as they went in: nulls beside values in one statement, large numbers, more
//! rows than one statement takes.

use store::rows::{AccountRow, LineRow, MeterRow, TotalRow, TransactionRow, WindowRow};

use super::rows::{
    account, all, coming, grant, instant, line, meter, tenant, total, window, write,
};
use crate::fixtures::{at, on_each};

#[tokio::test]
async fn nulls_stay_nulls_beside_values() {
    on_each(async |db| {
        let (acme, _) = tenant(db, "acme").await;
        let (other, _) = tenant(db, "other").await;
        let empty = account(&acme);
        let full = |tenant| AccountRow {
            spend_cap: Some(i64::MAX),
            stops_at: Some(instant(7)),
            stop_code: Some("credit_exhausted".to_owned()),
            free_granted: false,
            plan_granted: 1,
            last_seq: 3,
            ..account(tenant)
        };
        // A column of which no row has a value, one of which some have, and back.
        for (ours, theirs) in [
            (empty.clone(), account(&other)),
            (empty.clone(), full(&other)),
            (full(&acme), account(&other)),
            (full(&acme), full(&other)),
            (empty, account(&other)),
        ] {
            let rows = [ours.clone(), theirs.clone()];
            write(db, async |tx| all().update_accounts(tx, &rows).await.unwrap()).await;
            assert_eq!(all().account(db.read(), acme.org.id).await.unwrap(), ours);
            assert_eq!(all().account(db.read(), other.org.id).await.unwrap(), theirs);
        }
    })
    .await;
}

#[tokio::test]
async fn a_transaction_is_read_as_it_was_written() {
    on_each(async |db| {
        let (acme, granted) = tenant(db, "acme").await;
        let (first, postings) = coming(&granted, 1, "first");
        let (second, more) = coming(&granted, 2, "second");
        let second = TransactionRow {
            kind: "correction".to_owned(),
            pricing_version: Some("2026-07".to_owned()),
            corrects: Some(first.id),
            reason: Some("it's \"wrong\" \u{2713}".to_owned()),
            ..second
        };
        let rows = [first.clone(), second.clone()];
        let all_postings = [postings.clone(), more.clone()].concat();
        write(db, async |tx| {
            all().insert_transactions(tx, &rows, &all_postings).await.unwrap();
        })
        .await;
        let journal = all().journal(db.read(), acme.org.id, 0, 9).await.unwrap();
        assert_eq!(journal, [(first, postings.to_vec()), (second.clone(), more.to_vec())]);
        let page = all().journal(db.read(), acme.org.id, 1, 9).await.unwrap();
        assert_eq!(page, [(second, more.to_vec())]);
    })
    .await;
}

#[tokio::test]
async fn projections_add_up_and_what_is_left_of_grants_is_set() {
    on_each(async |db| {
        let (acme, granted) = tenant(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let second = grant(&acme);
        write(db, async |tx| {
            all().insert_grants(tx, std::slice::from_ref(&second)).await.unwrap();
            for _ in 0..3 {
                all().add_lines(tx, &[line(&sandbox)]).await.unwrap();
                all().add_totals(tx, &[total(&acme)]).await.unwrap();
            }
            all().update_grants(tx, &[(granted.id, 0), (second.id, 999)]).await.unwrap();
        })
        .await;
        let lines = all().all_lines(db.read(), acme.org.id).await.unwrap();
        assert_eq!(lines, [LineRow { quantity: 180_000, amount: 180, ..line(&sandbox) }]);
        let totals = all().all_totals(db.read(), acme.org.id).await.unwrap();
        assert_eq!(totals, [TotalRow { amount: 180, ..total(&acme) }]);
        let left = all().grants_left(db.read(), &[acme.org.id]).await.unwrap();
        assert_eq!(
            left.iter().map(|g| (g.id, g.remaining)).collect::<Vec<_>>(),
            [(second.id, 999)]
        );
    })
    .await;
}

#[tokio::test]
async fn many_rows_are_written_whatever_a_statement_takes() {
    const MANY: usize = 4_500;
    on_each(async |db| {
        let (acme, granted) = tenant(db, "acme").await;
        let sandbox = acme.stored(db).await;
        let (transaction, postings) = coming(&granted, 1, "first");
        // Priced and unpriced windows in turn: nulls among values.
        let windows: Vec<WindowRow> = (0..MANY)
            .map(|n| WindowRow {
                part: i64::try_from(n).unwrap(),
                transaction_id: (n % 2 == 1).then_some(transaction.id),
                ..window(&sandbox, 1)
            })
            .collect();
        let meters: Vec<MeterRow> = (0..MANY)
            .map(|n| MeterRow {
                opened_at: instant(1) + i64::try_from(n).unwrap(),
                settled_until: instant(99),
                closed_at: (n > 0).then_some(instant(100)),
                ..meter(&sandbox)
            })
            .collect();
        write(db, async |tx| {
            all()
                .insert_transactions(tx, std::slice::from_ref(&transaction), &postings)
                .await
                .unwrap();
            all().insert_windows(tx, &windows).await.unwrap();
            all().store_meters(tx, &meters).await.unwrap();
        })
        .await;
        let org = acme.org.id;
        let read = all().windows(db.read(), org, (at(0), at(2)), None, 10_000).await.unwrap();
        assert_eq!(read, windows);
        let look = store::billing::Lock::Look;
        let read = all().unsettled_meters(db.read(), &[org], look).await.unwrap();
        assert_eq!(read.len(), MANY);
        let open: Vec<_> = read.iter().filter(|row| row.closed_at.is_none()).collect();
        assert_eq!(open, [&meters[0]]);
    })
    .await;
}
