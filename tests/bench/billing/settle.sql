-- The rows that a settlement writes, for one batch of organizations and one minute. Reads nothing that
-- it does not write, and predicts nothing.
\set n :n + 1
\set tick :first + :n / :n_batches
\set batch mod(:n, :n_batches)
\set until :start + :tick * 60000000
\set from :until - 60000000
\set now :until + 10000000

begin;
update credit_grants g set remaining = g.remaining - b.cost from bench_books b
where b.side = 'pgbench' and b.batch = :batch and g.id = b.grant_id;

insert into ledger_transactions (id, org_id, seq, kind, key, at, booked_from, pricing_version,
  corrects, reason, recorded_at)
select bench_id(7, :tick::int, b.number), b.org, :tick::bigint + 1, 'usage',
  concat_ws(':', 'usage', 'sbx_' || replace(b.first_sandbox::text, '-', ''), 'compute_unit_seconds',
    :from::bigint, 0),
  :until::bigint, bench_month(), '2026-07', null, null, :now::bigint
from bench_books b where b.side = 'pgbench' and b.batch = :batch;

insert into ledger_postings (transaction_id, line, org_id, account, grant_id, amount)
select bench_id(7, :tick::int, b.number), p.line, b.org, p.account,
  case when p.line = 0 then b.grant_id end, b.cost * p.sign
from bench_books b cross join bench_postings p
where b.side = 'pgbench' and b.batch = :batch;

insert into usage_windows (sandbox_id, metric, started_at, part, org_id, project_id, ended_at,
  quantity, amount, pricing_version, booked_from, transaction_id)
select m.sandbox_id, m.metric, :from::bigint, 0, m.org_id, m.project_id, :until::bigint, 60000, 60000000,
  m.pricing_version, bench_month(), bench_id(7, :tick::int, b.number)
from bench_books b join meters m on m.org_id = b.org and m.closed_at is null
where b.side = 'pgbench' and b.batch = :batch order by m.sandbox_id;

update meters m set settled_until = :until::bigint, settled_quantity = m.settled_quantity + 60000,
  settled_amount = m.settled_amount + 60000000
from bench_books b
where b.side = 'pgbench' and b.batch = :batch and m.org_id = b.org and m.closed_at is null;

insert into usage_lines (org_id, booked_from, used_from, project_id, metric, pricing_version,
  quantity, amount)
select b.org, bench_month(), bench_month(), b.project, 'compute_unit_seconds', '2026-07',
  b.cost / 1000, b.cost
from bench_books b where b.side = 'pgbench' and b.batch = :batch
on conflict (org_id, booked_from, used_from, project_id, metric, pricing_version)
do update set quantity = usage_lines.quantity + excluded.quantity,
  amount = usage_lines.amount + excluded.amount;

insert into ledger_totals (org_id, booked_from, account, pricing_version, amount)
select b.org, bench_month(), p.account, '2026-07', b.cost * p.sign
from bench_books b cross join bench_postings p
where b.side = 'pgbench' and b.batch = :batch
on conflict (org_id, booked_from, account, pricing_version)
do update set amount = ledger_totals.amount + excluded.amount;

update billing_accounts a set last_seq = :tick::bigint + 1, due_at = a.due_at + 60000000,
  stops_at = :until::bigint + 86400000000, stop_code = 'credit_exhausted'
from bench_books b where b.side = 'pgbench' and b.batch = :batch and a.org_id = b.org;

insert into outbox_subjects (subject, org_id, last_sequence)
select 'sbx_' || replace(m.sandbox_id::text, '-', ''), m.org_id, 1
from bench_books b join meters m on m.org_id = b.org and m.closed_at is null
where b.side = 'pgbench' and b.batch = :batch order by m.sandbox_id
on conflict (subject) do update
set last_sequence = outbox_subjects.last_sequence + excluded.last_sequence
returning subject, last_sequence, pg_advisory_xact_lock_shared(8025977485927645184 +
  (select case when is_called then last_value else 0 end from outbox_events_position_seq));

insert into outbox_events (id, org_id, partition, subject, sequence, type, data, trace_parent,
  occurred_at, created_at)
select bench_event(m.sandbox_id, :tick::int), m.org_id, b.number % 64,
  'sbx_' || replace(m.sandbox_id::text, '-', ''), :tick::int, 'bench', b.event, null, :now::bigint,
  :now::bigint
from bench_books b join meters m on m.org_id = b.org and m.closed_at is null
where b.side = 'pgbench' and b.batch = :batch order by m.sandbox_id;
commit;
