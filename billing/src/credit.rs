//! Credit that was granted, and the order in which usage burns it: priority, then expiry, then age.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use domain::id::GrantId;

/// Where credit comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum GrantKind {
    /// The plan's, each period anew.
    Plan,
    /// The operator's.
    Adjustment,
    /// The free plan's, once.
    Free,
    /// Bought.
    Purchased,
}

impl GrantKind {
    /// Every kind, in the order in which they are burnt unless a grant says otherwise: what is lost
    /// soonest first, what was paid for last.
    pub const ALL: [Self; 4] = [Self::Plan, Self::Adjustment, Self::Free, Self::Purchased];

    /// The storage form.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Plan => "plan",
            Self::Adjustment => "adjustment",
            Self::Free => "free",
            Self::Purchased => "purchased",
        }
    }

    /// The priority of a grant that names none; smaller is burnt first.
    #[must_use]
    pub const fn priority(self) -> i64 {
        match self {
            Self::Plan => 100,
            Self::Adjustment => 200,
            Self::Free => 300,
            Self::Purchased => 400,
        }
    }
}

impl FromStr for GrantKind {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// Credit that was granted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Its id; those made later sort later.
    pub id: GrantId,
    /// Where it comes from.
    pub kind: GrantKind,
    /// Smaller is burnt first.
    pub priority: i64,
    /// What was granted, in nano-credits.
    pub amount: i64,
    /// What is left of it, in nano-credits.
    pub remaining: i64,
    /// It pays for usage from this instant on.
    pub starts_at: DateTime<Utc>,
    /// It pays for usage before this instant; `None` = it does not expire.
    pub expires_at: Option<DateTime<Utc>>,
}

impl Grant {
    /// Whether it can pay for usage in `[from, until)`, which no grant's start or expiry divides.
    #[must_use]
    pub fn covers(&self, from: DateTime<Utc>, until: DateTime<Utc>) -> bool {
        self.remaining > 0
            && self.starts_at < until
            && self.starts_at <= from
            && self.expires_at.is_none_or(|at| until <= at)
    }

    fn rank(&self) -> (i64, DateTime<Utc>, GrantId) {
        (self.priority, self.expires_at.unwrap_or(DateTime::<Utc>::MAX_UTC), self.id)
    }
}

/// Sorts grants into the order in which they are burnt.
pub fn sort(grants: &mut [Grant]) {
    grants.sort_by_key(Grant::rank);
}

/// What one grant paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Draw {
    /// Its place among the grants.
    pub grant: usize,
    /// How much, in nano-credits; more than nothing.
    pub amount: i64,
}

/// Burns up to `amount` of the sorted grants that cover `[from, until)`; says who paid, and what is
/// left to pay.
pub fn burn(
    grants: &mut [Grant],
    from: DateTime<Utc>,
    until: DateTime<Utc>,
    amount: i64,
) -> (Vec<Draw>, i64) {
    let mut left = amount;
    let mut draws = Vec::new();
    for (at, grant) in grants.iter_mut().enumerate() {
        if left == 0 {
            break;
        }
        if grant.covers(from, until) {
            let drawn = grant.remaining.min(left);
            grant.remaining -= drawn;
            left -= drawn;
            draws.push(Draw { grant: at, amount: drawn });
        }
    }
    (draws, left)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(seconds, 0).unwrap()
    }

    fn grant(n: i64, priority: i64, remaining: i64, expires: Option<i64>) -> Grant {
        Grant {
            id: GrantId::generate(at(n)),
            kind: GrantKind::Purchased,
            priority,
            amount: remaining,
            remaining,
            starts_at: at(0),
            expires_at: expires.map(at),
        }
    }

    #[test]
    fn priority_then_expiry_then_age() {
        let mut grants = vec![
            grant(1, 5, 10, None),
            grant(2, 5, 10, Some(900)),
            grant(3, 5, 10, None),
            grant(4, 1, 10, None),
        ];
        let ids: Vec<_> = grants.iter().map(|grant| grant.id).collect();
        sort(&mut grants);
        let order: Vec<_> = grants.iter().map(|grant| grant.id).collect();
        assert_eq!(order, [ids[3], ids[1], ids[0], ids[2]]);
        let (draws, left) = burn(&mut grants, at(100), at(200), 35);
        let drawn: Vec<_> = draws.iter().map(|draw| draw.amount).collect();
        assert_eq!((drawn, left), (vec![10, 10, 10, 5], 0));
    }

    #[test]
    fn credit_pays_for_its_own_time_only() {
        let mut grants = vec![Grant { starts_at: at(100), ..grant(1, 1, 10, Some(200)) }];
        assert_eq!(burn(&mut grants, at(99), at(150), 5).1, 5, "before it starts");
        assert_eq!(burn(&mut grants, at(150), at(201), 5).1, 5, "after it expires");
        assert_eq!(burn(&mut grants, at(100), at(200), 5).1, 0, "exactly its time");
        assert_eq!(burn(&mut grants, at(100), at(200), 9), (vec![Draw { grant: 0, amount: 5 }], 4));
    }
}
