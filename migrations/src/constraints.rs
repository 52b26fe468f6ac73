//! The names of the unique constraints. PostgreSQL names the one that was hit; SQLite names its
//! columns, so the names are looked up here.

/// Every unique constraint of ours that is not a primary key: its name, and its columns as SQLite
/// prints them.
pub const UNIQUE: &[(&str, &str)] = &[
    ("admin_keys_lookup_key", "admin_keys.lookup"),
    ("organizations_name_key", "organizations.name"),
    ("users_org_id_id_key", "users.org_id, users.id"),
    ("users_email_key", "users.org_id, users.email"),
    ("projects_org_id_id_key", "projects.org_id, projects.id"),
    ("projects_one_default_per_org", "projects.org_id"),
    ("api_keys_org_id_id_key", "api_keys.org_id, api_keys.id"),
    ("api_keys_lookup_key", "api_keys.lookup"),
    ("templates_slug_key", "templates.slug"),
    ("template_versions_version_key", "template_versions.template_id, template_versions.version"),
    ("sandboxes_org_id_id_key", "sandboxes.org_id, sandboxes.id"),
    ("credit_grants_org_id_id_key", "credit_grants.org_id, credit_grants.id"),
    ("ledger_transactions_org_id_id_key", "ledger_transactions.org_id, ledger_transactions.id"),
    ("ledger_transactions_seq_key", "ledger_transactions.org_id, ledger_transactions.seq"),
    ("ledger_transactions_key_key", "ledger_transactions.org_id, ledger_transactions.key"),
    ("outbox_events_id_key", "outbox_events.id"),
    ("outbox_events_sequence_key", "outbox_events.subject, outbox_events.sequence"),
    ("statements_period_key", "statements.org_id, statements.period_from"),
    ("meters_one_open", "meters.sandbox_id, meters.metric"),
    ("previews_slug_key", "previews.slug"),
    ("previews_one_per_port", "previews.sandbox_id, previews.port"),
    ("usage_records_measured_key", "usage_records.metric, usage_records.resource_id"),
    (
        "idempotency_records_scope_key",
        "idempotency_records.org_id, idempotency_records.key_id, idempotency_records.method, \
         idempotency_records.path, idempotency_records.idempotency_key",
    ),
];
