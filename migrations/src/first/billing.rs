//! What usage costs and who pays: pricing versions, accounts, windows, the ledger and statements.
//! Amounts are nano-credits, quantities thousandths of a unit, money billionths of the currency's unit.
//!
//! The ledger is written once: transactions, postings, windows and statements are never changed. What
//! is updated besides (`remaining`, totals, lines) are projections, which `crownest billing check`
//! computes anew.

use sea_orm::{ConnectionTrait, DbErr};

pub(super) const STATEMENTS: &[&str] = &[
    "create table pricing_versions (
        name text not null,
        currency text not null,
        compute_unit_seconds_per_credit bigint not null,
        nano_currency_per_credit bigint not null,
        sizes text not null,
        idle_factor_milli bigint not null,
        rates text not null,
        rounding text not null,
        valid_from bigint not null,
        published_at bigint not null,
        constraint pricing_versions_pkey primary key (name),
        constraint pricing_versions_rounding_check check (rounding in ('down', 'up', 'half_up')),
        constraint pricing_versions_idle_check check (idle_factor_milli between 0 and 1000)
    )",
    // open_from: the first instant of the first period without a statement. plan_period: the period
    // whose plan credit was granted, plan_granted: how much of it, in billionths of the currency.
    // stops_at: nothing new from this instant on, for stop_code, and
    // whether that it has come was told; due_at: when a worker looks next.
    "create table billing_accounts (
        org_id uuid not null,
        spend_cap bigint,
        open_from bigint not null,
        plan_period bigint not null,
        plan_granted bigint not null,
        free_granted boolean not null,
        stops_at bigint,
        stop_code text,
        stop_told boolean not null,
        due_at bigint not null,
        last_seq bigint not null,
        constraint billing_accounts_pkey primary key (org_id),
        constraint billing_accounts_org_fkey foreign key (org_id) references organizations (id),
        constraint billing_accounts_cap_check check (spend_cap >= 0),
        constraint billing_accounts_stop_check check ((stops_at is null) = (stop_code is null)),
        constraint billing_accounts_stop_code_check
            check (stop_code in ('credit_exhausted', 'billing_spend_cap_reached'))
    )",
    "create index billing_accounts_due on billing_accounts (due_at)",
    // Every change of a plan, limit or cap, and why. Never changed. seq rises with each of an
    // organization's plans and caps, which what held when is read from.
    "create table plan_changes (
        id uuid not null,
        org_id uuid not null,
        seq bigint not null,
        setting text not null,
        value text,
        takes_effect_at bigint not null,
        reason text not null,
        made_at bigint not null,
        constraint plan_changes_pkey primary key (id),
        constraint plan_changes_org_fkey foreign key (org_id) references organizations (id)
    )",
    "create index plan_changes_by_org on plan_changes (org_id, seq)",
    "create table credit_grants (
        id uuid not null,
        org_id uuid not null,
        kind text not null,
        priority bigint not null,
        amount bigint not null,
        remaining bigint not null,
        starts_at bigint not null,
        expires_at bigint,
        constraint credit_grants_pkey primary key (id),
        constraint credit_grants_org_fkey foreign key (org_id) references organizations (id),
        constraint credit_grants_kind_check
            check (kind in ('plan', 'adjustment', 'free', 'purchased')),
        constraint credit_grants_amount_check check (amount > 0),
        constraint credit_grants_remaining_check check (remaining between 0 and amount),
        constraint credit_grants_order_check check (expires_at > starts_at)
    )",
    "create unique index credit_grants_org_id_id_key on credit_grants (org_id, id)",
    "create index credit_grants_left on credit_grants (org_id) where remaining > 0",
    // seq numbers an organization's transactions without a gap.
    "create table ledger_transactions (
        id uuid not null,
        org_id uuid not null,
        seq bigint not null,
        kind text not null,
        key text not null,
        at bigint not null,
        booked_from bigint not null,
        pricing_version text,
        corrects uuid,
        reason text,
        recorded_at bigint not null,
        constraint ledger_transactions_pkey primary key (id),
        constraint ledger_transactions_org_fkey foreign key (org_id) references organizations (id),
        constraint ledger_transactions_pricing_fkey
            foreign key (pricing_version) references pricing_versions (name),
        constraint ledger_transactions_kind_check
            check (kind in ('grant', 'usage', 'expiry', 'correction', 'statement')),
        constraint ledger_transactions_reason_check
            check (kind <> 'correction' or (corrects is not null and reason is not null))
    )",
    "create unique index ledger_transactions_org_id_id_key on ledger_transactions (org_id, id)",
    "create unique index ledger_transactions_seq_key on ledger_transactions (org_id, seq)",
    "create unique index ledger_transactions_key_key on ledger_transactions (org_id, key)",
    "create index ledger_transactions_by_corrects on ledger_transactions (org_id, corrects)
        where corrects is not null",
    "create table ledger_postings (
        transaction_id uuid not null,
        line bigint not null,
        org_id uuid not null,
        account text not null,
        grant_id uuid,
        amount bigint not null,
        constraint ledger_postings_pkey primary key (transaction_id, line),
        constraint ledger_postings_transaction_fkey
            foreign key (org_id, transaction_id) references ledger_transactions (org_id, id),
        constraint ledger_postings_grant_fkey
            foreign key (org_id, grant_id) references credit_grants (org_id, id),
        constraint ledger_postings_amount_check check (amount <> 0),
        constraint ledger_postings_account_check check (account in ('credit:plan',
            'credit:adjustment', 'credit:free', 'credit:purchased', 'usage', 'overage', 'issued',
            'expired', 'invoiced', 'written_off')),
        constraint ledger_postings_credit_check
            check ((substr(account, 1, 7) = 'credit:') = (grant_id is not null))
    )",
    // The transaction that a grant came with; what usage burns of it is below zero.
    "create index ledger_postings_by_grant on ledger_postings (grant_id)
        where grant_id is not null and amount > 0",
    // Keyed by what was measured, so a repeat is the same row and is refused.
    "create table usage_windows (
        sandbox_id uuid not null,
        metric text not null,
        started_at bigint not null,
        part bigint not null,
        org_id uuid not null,
        project_id uuid not null,
        ended_at bigint not null,
        quantity bigint not null,
        amount bigint not null,
        pricing_version text not null,
        booked_from bigint not null,
        transaction_id uuid,
        constraint usage_windows_pkey primary key (sandbox_id, metric, started_at, part),
        constraint usage_windows_project_fkey
            foreign key (org_id, project_id) references projects (org_id, id),
        constraint usage_windows_transaction_fkey
            foreign key (org_id, transaction_id) references ledger_transactions (org_id, id),
        constraint usage_windows_pricing_fkey
            foreign key (pricing_version) references pricing_versions (name),
        constraint usage_windows_order_check check (ended_at > started_at)
    )",
    "create index usage_windows_by_org on usage_windows (org_id, started_at)",
    // Projection of usage_windows: what statements and summaries are made from.
    "create table usage_lines (
        org_id uuid not null,
        booked_from bigint not null,
        used_from bigint not null,
        project_id uuid not null,
        metric text not null,
        pricing_version text not null,
        quantity bigint not null,
        amount bigint not null,
        constraint usage_lines_pkey
            primary key (org_id, booked_from, used_from, project_id, metric, pricing_version),
        constraint usage_lines_project_fkey
            foreign key (org_id, project_id) references projects (org_id, id)
    )",
    "create index usage_lines_by_use on usage_lines (org_id, used_from)",
    // Projection of ledger_postings; pricing_version is empty for what is not usage.
    "create table ledger_totals (
        org_id uuid not null,
        booked_from bigint not null,
        account text not null,
        pricing_version text not null,
        amount bigint not null,
        constraint ledger_totals_pkey primary key (org_id, booked_from, account, pricing_version),
        constraint ledger_totals_org_fkey foreign key (org_id) references organizations (id)
    )",
    "create table statements (
        id uuid not null,
        org_id uuid not null,
        period_from bigint not null,
        currency text not null,
        due_minor_units bigint not null,
        document text not null,
        closed_at bigint not null,
        constraint statements_pkey primary key (id),
        constraint statements_period_key unique (org_id, period_from),
        constraint statements_org_fkey foreign key (org_id) references organizations (id)
    )",
    // One row per threshold and period: the alert exists once, whoever crosses it.
    "create table billing_alerts (
        org_id uuid not null,
        period_from bigint not null,
        subject text not null,
        percent bigint not null,
        raised_at bigint not null,
        constraint billing_alerts_pkey primary key (org_id, period_from, subject, percent),
        constraint billing_alerts_org_fkey foreign key (org_id) references organizations (id),
        constraint billing_alerts_subject_check check (subject in ('credit', 'quota', 'spend_cap'))
    )",
];

/// The version that every installation starts with (contract, section 7.2): 0.12 USD an hour, valid
/// since ever.
pub(super) async fn seed(c: &impl ConnectionTrait) -> Result<(), DbErr> {
    c.execute_unprepared(
        "insert into pricing_versions (name, currency, compute_unit_seconds_per_credit,
           nano_currency_per_credit, sizes, idle_factor_milli, rates, rounding, valid_from,
           published_at)
         values ('2026-07', 'USD', 1000, 33333300, '{\"base\":1000}', 1000, '{}', 'down', 0, 0)",
    )
    .await
    .map(|_| ())
}
