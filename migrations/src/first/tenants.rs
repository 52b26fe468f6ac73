//! Organizations, users, projects and API keys.
//!
//! A unique index on the organization and the id looks redundant beside the primary key; it is what
//! lets every other table point at a row *of the same organization*, so that no bug can tie two
//! tenants together. Lists are read from it, too.

pub(super) const STATEMENTS: &[&str] = &[
    "create table organizations (
        id uuid not null,
        name text not null,
        plan text not null,
        next_plan text,
        next_plan_at bigint,
        limit_overrides text not null,
        standing text not null,
        standing_since bigint,
        standing_reason text,
        cleanup_at bigint,
        created_at bigint not null,
        constraint organizations_pkey primary key (id),
        constraint organizations_name_key unique (name),
        constraint organizations_standing_check
            check (standing in ('active', 'suspended', 'closed')
                and (standing = 'active') = (standing_since is null)
                and (standing = 'active') = (standing_reason is null)
                and (standing <> 'active' or cleanup_at is null)),
        constraint organizations_next_plan_check
            check ((next_plan is null) = (next_plan_at is null))
    )",
    // When what still runs of a suspended or closed organization is to end; null when nothing is.
    "create index organizations_by_cleanup on organizations (cleanup_at)
        where cleanup_at is not null",
    "create table users (
        id uuid not null,
        org_id uuid not null,
        email text not null,
        role text not null,
        created_at bigint not null,
        removed_at bigint,
        constraint users_pkey primary key (id),
        constraint users_org_id_id_key unique (org_id, id),
        constraint users_email_key unique (org_id, email),
        constraint users_role_check check (role in ('owner', 'admin', 'member')),
        constraint users_org_fkey foreign key (org_id) references organizations (id)
    )",
    "create table projects (
        id uuid not null,
        org_id uuid not null,
        name text not null,
        is_default boolean not null,
        created_at bigint not null,
        constraint projects_pkey primary key (id),
        constraint projects_org_fkey foreign key (org_id) references organizations (id)
    )",
    "create unique index projects_org_id_id_key on projects (org_id, id desc nulls last)",
    "create unique index projects_one_default_per_org on projects (org_id) where is_default",
    "create table api_keys (
        id uuid not null,
        org_id uuid not null,
        name text not null,
        lookup text not null,
        secret_hash text not null,
        last_four text not null,
        scopes text not null,
        project_ids text,
        created_by uuid not null,
        created_at bigint not null,
        revoked_at bigint,
        expires_at bigint,
        replaced_by uuid,
        last_used_at bigint,
        constraint api_keys_pkey primary key (id),
        constraint api_keys_lookup_key unique (lookup),
        constraint api_keys_org_fkey foreign key (org_id) references organizations (id),
        constraint api_keys_created_by_fkey
            foreign key (org_id, created_by) references users (org_id, id),
        constraint api_keys_replaced_by_check
            check (replaced_by is null or expires_at is not null)
    )",
    "create unique index api_keys_org_id_id_key on api_keys (org_id, id desc nulls last)",
];
