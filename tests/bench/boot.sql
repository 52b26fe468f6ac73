-- What the server does in the background for a create, from claimed to ready; without the claim
-- itself, which is one statement for many sandboxes. Goes on where create.sql ends.
select s.id, s.org_id, s.project_id, s.created_by, s.phase, s.generation, s.host, s.ttl_ms,
  s.metadata, s.created_at, s.ready_at, s.expires_at, s.ended_at, s.end_reason,
  s.removed_at, s.last_activity_at, s.seen_alive_at, s.pricing_version,
  t.id as template_id, t.slug as template_slug,
  v.id as template_version_id, v.version as template_version,
  case when exists (select 1 from commands a where a.sandbox_id = s.id
                    and a.status in ('queued', 'starting', 'running')) then 'running'
       when exists (select 1 from commands u where u.sandbox_id = s.id) then 'idle'
       else 'unused' end as activity
from sandboxes s
join template_versions v on v.id = s.template_version_id
join templates t on t.id = v.template_id
where s.id in (bench_id(2, :round, :client_id, :n)) order by s.id;

begin;
update sandboxes as s set generation = generation + 1, phase = 'starting', host = 'pgbench',
  ttl_ms = 600000, ready_at = null, expires_at = :expires_at, ended_at = null, end_reason = null,
  removed_at = null, reconcile_at = :expires_at,
  last_activity_at = case when last_activity_at > :now then last_activity_at else :now end,
  seen_alive_at = case when seen_alive_at > :now or 1 is null then seen_alive_at else :now end
where s.id = bench_id(2, :round, :client_id, :n) and s.generation = 0
returning last_activity_at, seen_alive_at;
commit;

begin;
update sandboxes as s set generation = generation + 1, phase = 'ready', host = 'pgbench',
  ttl_ms = 600000, ready_at = :now, expires_at = :expires_at, ended_at = null, end_reason = null,
  removed_at = null, reconcile_at = :expires_at,
  last_activity_at = case when last_activity_at > :now then last_activity_at else :now end,
  seen_alive_at = case when seen_alive_at > :now or 1 is null then seen_alive_at else :now end
where s.id = bench_id(2, :round, :client_id, :n) and s.generation = 1
returning last_activity_at, seen_alive_at;
insert into meters (sandbox_id, org_id, project_id, metric, opened_at, closed_at,
  multiplier_milli, pricing_version, settled_until, settled_quantity, settled_amount, n_parts)
values (bench_id(2, :round, :client_id, :n), :org, :project, 'compute_unit_seconds', :now, null,
  1000, '2026-07', :now, 0, 0, 0)
on conflict do nothing;
update billing_accounts as a set due_at = :now where a.org_id = :org and a.due_at > :now;
insert into outbox_subjects (subject, org_id, last_sequence)
values (bench_word('sbx_', :round, :client_id, :n), :org, 1)
on conflict (subject) do update
  set last_sequence = outbox_subjects.last_sequence + excluded.last_sequence
  returning subject, last_sequence, pg_advisory_xact_lock_shared(8025977485927645184 +
    (select case when is_called then last_value else 0 end from outbox_events_position_seq));
insert into outbox_events (id, org_id, partition, subject, sequence, type, data,
  trace_parent, occurred_at, created_at)
values (bench_id(5, :round, :client_id, :n), :org, :n, bench_word('sbx_', :round, :client_id, :n),
  2, 'bench', :event, null, :now, :now);
commit;
