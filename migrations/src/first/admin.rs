//! Operators' keys. They belong to the installation and to no organization.

pub(super) const STATEMENTS: &[&str] = &["create table admin_keys (
        id uuid not null,
        name text not null,
        lookup text not null,
        secret_hash text not null,
        last_four text not null,
        role text not null,
        created_by uuid,
        created_at bigint not null,
        revoked_at bigint,
        last_used_at bigint,
        constraint admin_keys_pkey primary key (id),
        constraint admin_keys_lookup_key unique (lookup),
        constraint admin_keys_created_by_fkey foreign key (created_by) references admin_keys (id),
        constraint admin_keys_role_check
            check (role in ('owner', 'billing', 'support', 'auditor'))
    )"];
