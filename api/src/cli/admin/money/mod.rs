//! What operators do about money: plans, limits, credit, caps, the ledger, prices, statements. Amounts
//! are passed on as they were typed: the API counts, and refuses what it cannot keep.

pub(super) mod cap;
pub(super) mod credit;
pub(super) mod journal;
pub(super) mod limit;
pub(super) mod plan;
pub(super) mod pricing;
pub(super) mod statement;

use super::{Ask, Because, Names, Shown, Whose, help, stamp, values};

/// What holds for an organization.
const TERMS: Names = &[
    ("organization", "orgId"),
    ("plan", "plan"),
    ("next plan", "nextPlan.plan"),
    ("from", "nextPlan.takesEffectAt"),
    ("mode", "mode"),
    ("limits", "limits"),
    ("of its own", "limitOverrides"),
];
