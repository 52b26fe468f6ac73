//! The audit trail: one chain of entries per organization, and one of the installation, each entry with
//! a hash over itself and the one before it. Written once; `crownest audit verify` computes every chain
//! anew. The installation's has the nil id for org_id, so that points at no organization here.

pub(super) const STATEMENTS: &[&str] = &[
    // The end of each chain; whoever writes the next entry holds this row.
    "create table audit_chains (
        org_id uuid not null,
        last_seq bigint not null,
        last_hash bytea not null,
        constraint audit_chains_pkey primary key (org_id)
    )",
    "create table audit_entries (
        org_id uuid not null,
        seq bigint not null,
        at bigint not null,
        actor text not null,
        action text not null,
        object text not null,
        outcome text not null,
        origin text not null,
        request_id text not null,
        details text not null,
        hash bytea not null,
        constraint audit_entries_pkey primary key (org_id, seq)
    )",
    "create index audit_entries_by_object on audit_entries (org_id, object, seq)",
    "create index audit_entries_by_actor on audit_entries (org_id, actor, seq)",
];
