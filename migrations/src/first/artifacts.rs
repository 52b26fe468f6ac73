//! Artifacts, and what is being written of them. Their bytes are in the object store: each has a row
//! here before the first byte is there, and until the last one is gone.

pub(super) const STATEMENTS: &[&str] = &[
    // remove_at: when the bytes are to go, or are looked at again; null once they are gone. A
    // collected one is known by its command and its place in what that was asked for.
    "create table artifacts (
        id uuid not null,
        org_id uuid not null,
        project_id uuid not null,
        sandbox_id uuid not null,
        command_id uuid,
        collect_index bigint,
        name text not null,
        content_type text,
        source_path text not null,
        size_bytes bigint not null,
        sha256 bytea not null,
        created_at bigint not null,
        retention_expires_at bigint not null,
        deleted_at bigint,
        remove_at bigint,
        constraint artifacts_pkey primary key (id),
        constraint artifacts_sandbox_fkey
            foreign key (org_id, sandbox_id) references sandboxes (org_id, id),
        constraint artifacts_project_fkey
            foreign key (org_id, project_id) references projects (org_id, id),
        constraint artifacts_command_fkey foreign key (command_id) references commands (id),
        constraint artifacts_collected_check
            check ((command_id is null) = (collect_index is null)),
        constraint artifacts_size_check check (size_bytes >= 0),
        constraint artifacts_retention_check check (retention_expires_at > created_at)
    )",
    "create unique index artifacts_collected_key on artifacts (command_id, collect_index)",
    "create index artifacts_by_sandbox on artifacts (sandbox_id, id desc nulls last)",
    "create index artifacts_to_remove on artifacts (remove_at) where remove_at is not null",
    // What is being written, under the id that the artifact will have. Who writes renews the lease;
    // what has none any more is swept, and cannot become an artifact from then on. It is swept twice,
    // for the case that its writer was only slow. record_id is the unanswered idempotent request,
    // upload_id what the store calls an upload in parts.
    "create table artifact_writes (
        id uuid not null,
        org_id uuid not null,
        record_id uuid,
        upload_id text,
        host text not null,
        lease_until bigint not null,
        sweeps bigint not null,
        constraint artifact_writes_pkey primary key (id),
        constraint artifact_writes_org_fkey foreign key (org_id) references organizations (id)
    )",
    "create index artifact_writes_by_lease on artifact_writes (lease_until)",
];
