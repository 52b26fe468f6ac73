//! Previews. Whoever has a slug, which is a secret to guess, finds the row by it.

pub(super) const STATEMENTS: &[&str] = &[
    // counted: the minutes that are usage by now; count_at: when the next one begins, null = none will.
    "create table previews (
        id uuid not null,
        org_id uuid not null,
        project_id uuid not null,
        sandbox_id uuid not null,
        slug text not null,
        port bigint not null,
        auth_mode text not null,
        token_hash bytea,
        created_at bigint not null,
        revoked_at bigint,
        ended_at bigint,
        counted bigint not null,
        count_at bigint,
        constraint previews_pkey primary key (id),
        constraint previews_sandbox_fkey
            foreign key (org_id, sandbox_id) references sandboxes (org_id, id),
        constraint previews_project_fkey
            foreign key (org_id, project_id) references projects (org_id, id),
        constraint previews_port_check check (port between 1 and 65535),
        constraint previews_auth_mode_check check (auth_mode in ('authenticated', 'token')),
        constraint previews_token_check check ((auth_mode = 'token') = (token_hash is not null)),
        constraint previews_end_check check (revoked_at is null or ended_at is not null),
        constraint previews_counted_check check (counted >= 0)
    )",
    "create unique index previews_slug_key on previews (slug)",
    // One port has one preview at a time.
    "create unique index previews_one_per_port on previews (sandbox_id, port)
        where ended_at is null",
    "create index previews_by_sandbox on previews (sandbox_id, id desc nulls last)",
    "create index previews_active on previews (org_id) where ended_at is null",
    "create index previews_count on previews (count_at) where count_at is not null",
];
