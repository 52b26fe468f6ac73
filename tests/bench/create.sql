-- The statements of one create, up to its answer. The harness proves that they are the server's.
\if :n = 0
\set number case when :tenant < 0 then :client_id else :tenant end
select org, key, project, template_version, repeat('f', 64) as fingerprint,
       repeat('x', 420) as body, repeat('x', 250) as event,
       repeat('x', 36) as actor, repeat('x', 100) as details, '\x' || repeat('ab', 32) as hash,
       (extract(epoch from now()) * 1000000)::bigint as now
from bench_tenants
where number = :number \gset
\endif
\set n :n + 1
\set tomorrow :now + 86400000000
\set expires_at :now + 600000000

select id, fingerprint, command_id, status, body, created_at, expires_at
from idempotency_records
where org_id = :org and key_id = :key and method = 'POST' and path = '/v1/sandboxes'
  and idempotency_key = bench_word('key_', :round, :client_id, :n);

select t.id as template_id, t.slug as template_slug,
  v.id as template_version_id, v.version as template_version
from template_versions v join templates t on t.id = v.template_id
where v.deprecated_at is null and t.slug = 'python' order by v.created_at desc, v.id desc limit 1;

select p.id, p.org_id, p.name, p.is_default, p.created_at
from projects p where p.is_default and p.org_id = :org;

begin;
select o.id, o.name, o.plan, o.next_plan, o.next_plan_at, o.limit_overrides,
  o.standing, o.standing_since, o.standing_reason, o.cleanup_at, o.created_at, a.stops_at, a.stop_code
from organizations o left join billing_accounts a on a.org_id = o.id
where o.id = :org for no key update of o;

insert into idempotency_records (org_id, key_id, method, path, idempotency_key,
  id, fingerprint, command_id, status, body, created_at, expires_at)
values (:org, :key, 'POST', '/v1/sandboxes', bench_word('key_', :round, :client_id, :n),
  bench_id(1, :round, :client_id, :n), :fingerprint, null, 201, :body, :now, :tomorrow)
on conflict (org_id, key_id, method, path, idempotency_key) do update
  set id = excluded.id, fingerprint = excluded.fingerprint,
    command_id = excluded.command_id, status = excluded.status, body = excluded.body,
    created_at = excluded.created_at, expires_at = excluded.expires_at
  where idempotency_records.expires_at <= excluded.created_at;

select count(*) from sandboxes s where s.org_id = :org
  and s.phase in ('creating', 'starting', 'ready', 'expiring')
  and s.phase in ('creating', 'starting', 'ready') and s.org_id = :org;

insert into sandboxes (id, org_id, project_id, created_by, template_version_id, pricing_version,
  phase, generation, host, ttl_ms, metadata, created_at, ready_at, expires_at, ended_at, end_reason,
  removed_at, last_activity_at, seen_alive_at, reconcile_at)
values (bench_id(2, :round, :client_id, :n), :org, :project, :key, :template_version, '2026-07',
  'creating', 0, 'pgbench', 600000, '{"run":"bench"}', :now, null, :expires_at, null, null,
  null, :now, null, :now);

insert into sandbox_metadata (org_id, sandbox_id, key, value)
values (:org, bench_id(2, :round, :client_id, :n), 'run', 'bench');

insert into usage_records (id, org_id, project_id, sandbox_id, metric, resource_id, amount, at,
  settled)
values (bench_id(3, :round, :client_id, :n), :org, :project,
  bench_id(2, :round, :client_id, :n), 'sandbox_creates',
  bench_word('sbx_', :round, :client_id, :n), 1, :now, false)
on conflict (metric, resource_id) do nothing;

insert into outbox_subjects (subject, org_id, last_sequence)
values (bench_word('sbx_', :round, :client_id, :n), :org, 1)
on conflict (subject) do update
  set last_sequence = outbox_subjects.last_sequence + excluded.last_sequence
  returning subject, last_sequence, pg_advisory_xact_lock_shared(8025977485927645184 +
    (select case when is_called then last_value else 0 end from outbox_events_position_seq));

insert into outbox_events (id, org_id, partition, subject, sequence, type, data,
  trace_parent, occurred_at, created_at)
values (bench_id(4, :round, :client_id, :n), :org, :n,
  bench_word('sbx_', :round, :client_id, :n), 1, 'bench', :event, null, :now, :now);

insert into audit_chains (org_id, last_seq, last_hash) values (:org, 0, :hash)
on conflict (org_id) do update set last_seq = audit_chains.last_seq
returning last_seq, last_hash
\gset
\set seq :last_seq + 1

insert into audit_entries (org_id, seq, at, actor, action, object, outcome, origin,
  request_id, details, hash)
values (:org, :seq, :now, :actor, 'sandbox.create',
  bench_word('sbx_', :round, :client_id, :n), 'done', '127.0.0.1', :actor, :details, :hash);

update audit_chains set last_seq = :seq, last_hash = :hash where org_id = :org;
commit;
