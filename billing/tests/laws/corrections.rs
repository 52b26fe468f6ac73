//! Corrections: what was booked wrong is given back or taken, and then it is as if it had been right.

use billing::{
    Error,
    credit::Grant,
    ledger::{Account, Heading, Kind, Posting, Transaction},
    period::Period,
    settle::{Wrong, expire, give_back, take_more},
};
use chrono::{DateTime, TimeDelta, Utc};
use proptest::prelude::*;

use crate::given::{at, cases, grant, grant_id, grants, id, instant, span};

/// What a correction says of itself.
fn heading(now: DateTime<Utc>) -> Heading {
    Heading {
        kind: Kind::Correction,
        key: "correction".to_owned(),
        at: now,
        booked: Period::of(now),
        pricing: None,
        corrects: None,
        reason: Some("it was wrong".to_owned()),
    }
}

/// Usage of an instant, paid by the grants of it as [`billing::settle`] pays.
fn used(grants: &mut [Grant], now: DateTime<Utc>, amount: i64) -> Vec<Posting> {
    let tick = now + TimeDelta::microseconds(1);
    let (draws, left) = billing::credit::burn(grants, now, tick, amount);
    let draw = |draw: &billing::credit::Draw| {
        Posting::credit(grants[draw.grant].kind, grants[draw.grant].id, -draw.amount)
    };
    let mut postings: Vec<_> = draws.iter().map(draw).collect();
    if left > 0 {
        postings.push(Posting::to(Account::Overage, -left));
    }
    postings.push(Posting::to(Account::Usage, amount));
    postings
}

fn wrong(postings: &[Posting]) -> Wrong<'_> {
    Wrong { id: id("txn", 1), postings, pricing: None }
}

fn on(transaction: &Transaction, account: Account) -> i64 {
    let postings = transaction.postings().iter().filter(|posting| posting.account == account);
    postings.map(|posting| posting.amount).sum()
}

proptest! {
    #![proptest_config(cases(1500))]

    /// What is given back and then taken again, at an instant, leaves every grant as it was: also when
    /// credit begins or ends at that very instant.
    #[test]
    fn giving_back_and_taking_again_is_nothing(
        grants in grants(),
        now in instant(),
        edge in 0..3_usize,
        amount in 1..60_000_000_000_i64,
        back in 0..1000_i64,
    ) {
        // One grant's first or last instant, in a third of the cases each.
        let ends = |grant: &Grant| [now, grant.starts_at, grant.expires_at.unwrap_or(now)];
        let edges = grants.first().map_or([now; 3], ends);
        let (mut grants, now) = (grants, edges[edge]);
        let postings = used(&mut grants, now, amount);
        let before = grants.clone();
        let back = (amount / 1000 * back).max(1);
        let given = give_back(&mut grants, &wrong(&postings), back, heading(now)).unwrap();
        prop_assert_eq!(on(&given, Account::Usage), -back);
        prop_assert_eq!(given.heading().corrects, Some(id("txn", 1)));
        let taken = take_more(&mut grants, &wrong(&postings), back, heading(now), now).unwrap();
        prop_assert_eq!(grants, before);
        for posting in given.postings() {
            let same = (posting.account, posting.grant);
            let again = taken.postings().iter().filter(|p| (p.account, p.grant) == same);
            prop_assert_eq!(again.map(|p| p.amount).sum::<i64>(), -posting.amount);
        }
    }

    /// What was not paid is given back before credit is, and credit that was burnt last before what
    /// was burnt first, so that the rest is what usage of the right amount would have taken.
    #[test]
    fn the_rest_is_what_the_right_amount_would_have_taken(
        grants in grants(),
        now in instant(),
        right in 1..30_000_000_000_i64,
        excess in 1..30_000_000_000_i64,
    ) {
        let mut wanted = grants.clone();
        used(&mut wanted, now, right);
        let mut grants = grants;
        let postings = used(&mut grants, now, right + excess);
        let given = give_back(&mut grants, &wrong(&postings), excess, heading(now)).unwrap();
        prop_assert_eq!(given.postings().iter().map(|p| i128::from(p.amount)).sum::<i128>(), 0);
        prop_assert_eq!(grants, wanted);
    }

    /// More than was taken is not given back, and whoever asks for it changes nothing.
    #[test]
    fn no_more_is_given_back_than_was_taken(
        grants in grants(),
        now in instant(),
        amount in 1..60_000_000_000_i64,
        more in 1..1_000_000_i64,
    ) {
        let mut grants = grants;
        let postings = used(&mut grants, now, amount);
        let before = grants.clone();
        let refused = give_back(&mut grants, &wrong(&postings), amount + more, heading(now));
        prop_assert!(matches!(refused, Err(Error::Overflow(_))), "{refused:?}");
        prop_assert_eq!(grants, before);
    }

    /// What comes back to credit whose time is over expires again, under a key of its own.
    #[test]
    fn credit_that_comes_back_late_expires_again(
        grant in grant(1),
        time in span(),
        amount in 1..1_000_000_000_i64,
    ) {
        let (starts_at, expires_at) = (time.from, Some(time.until));
        let grant = Grant { starts_at, expires_at, ..grant };
        let mut grants = vec![Grant { amount: amount + 1, remaining: amount + 1, ..grant }];
        let postings = used(&mut grants, time.from, amount);
        let open = Period::of(at(0));
        let first = expire(&mut grants, time.until, open, "").unwrap();
        give_back(&mut grants, &wrong(&postings), amount, heading(time.until)).unwrap();
        prop_assert_eq!(grants[0].remaining, amount);
        let again = expire(&mut grants, time.until, open, ":txn_1").unwrap();
        prop_assert_eq!((grants[0].remaining, again.len()), (0, 1));
        prop_assert_eq!(again[0].0, grant_id(1));
        prop_assert_ne!(&first[0].1.heading().key, &again[0].1.heading().key);
    }
}
