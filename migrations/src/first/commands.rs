//! Commands, the beginnings of their output, and their logs. Environment variables have no column:
//! they are never stored.

pub(super) const STATEMENTS: &[&str] = &[
    "create table commands (
        id uuid not null,
        org_id uuid not null,
        project_id uuid not null,
        sandbox_id uuid not null,
        command_line text not null,
        cwd text not null,
        status text not null,
        background boolean not null,
        timeout_ms bigint,
        exit_code bigint,
        created_at bigint not null,
        started_at bigint,
        finished_at bigint,
        cancel_mode text,
        canceled_at bigint,
        termination_signal text,
        first_seq bigint not null,
        last_seq bigint not null,
        log_bytes bigint not null,
        lease_until bigint,
        collect text,
        collect_on text,
        collect_by uuid,
        collect_status text not null,
        collect_errors text not null,
        constraint commands_pkey primary key (id),
        constraint commands_sandbox_fkey
            foreign key (org_id, sandbox_id) references sandboxes (org_id, id),
        constraint commands_project_fkey
            foreign key (org_id, project_id) references projects (org_id, id),
        constraint commands_status_check check (status in ('queued', 'starting', 'running',
            'exited', 'failed', 'canceled', 'timed_out', 'killed')),
        constraint commands_cancel_mode_check check (cancel_mode in ('graceful', 'force')),
        constraint commands_termination_signal_check
            check (termination_signal in ('SIGTERM', 'SIGKILL')),
        constraint commands_collect_on_check check (collect_on in ('success', 'always')),
        constraint commands_collect_status_check check (collect_status in ('not_requested',
            'pending', 'succeeded', 'partial', 'failed', 'skipped')),
        constraint commands_collect_check
            check ((collect is null) = (collect_status = 'not_requested')
                and (collect is null) = (collect_on is null)
                and (collect is null) = (collect_by is null)),
        constraint commands_log_bytes_check check (log_bytes >= 0)
    )",
    "create index commands_by_sandbox on commands (sandbox_id)",
    "create index commands_active on commands (sandbox_id)
        where status in ('queued', 'starting', 'running')",
    "create index commands_lease on commands (lease_until) where lease_until is not null",
    "create index commands_with_old_logs on commands (org_id, finished_at)
        where first_seq <= last_seq",
    // Output is stored as bytes: PostgreSQL takes no NUL in a text, and programs do print it.
    // Apart from the command's row, which changes with every batch of log chunks: SQLite would
    // rewrite up to two MiB of text each time.
    "create table command_outputs (
        command_id uuid not null,
        org_id uuid not null,
        stdout bytea not null,
        stdout_truncated boolean not null,
        stderr bytea not null,
        stderr_truncated boolean not null,
        through_seq bigint not null,
        constraint command_outputs_pkey primary key (command_id),
        constraint command_outputs_command_fkey foreign key (command_id) references commands (id)
    )",
    "create table command_logs (
        command_id uuid not null,
        seq bigint not null,
        org_id uuid not null,
        stream text not null,
        data bytea not null,
        created_at bigint not null,
        constraint command_logs_pkey primary key (command_id, seq),
        constraint command_logs_command_fkey foreign key (command_id) references commands (id),
        constraint command_logs_stream_check check (stream in ('stdout', 'stderr'))
    )",
];
