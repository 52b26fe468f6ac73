-- The same books twice, for the server and for pgbench: organizations on the free plan, whose credit
-- lasts for hours, with sandboxes that have just begun to run. bench_shape says how many. Ids rise in
-- the order in which rows are written, as the server's do.

create function bench_id(kind int, a int, b int) returns uuid
  language sql immutable parallel safe
  return (lpad(to_hex(a), 8, '0') || '00007000a000' || lpad(to_hex(b), 8, '0')
          || lpad(to_hex(kind), 4, '0'))::uuid;

create function bench_start() returns bigint
  language sql immutable parallel safe
  return (extract(epoch from timestamptz '2031-03-10 12:00:00+00') * 1000000)::bigint;

create function bench_month() returns bigint
  language sql immutable parallel safe
  return (extract(epoch from timestamptz '2031-03-01 00:00:00+00') * 1000000)::bigint;

-- Of an event: a rising beginning, and what tells those of a tick apart.
create function bench_event(sandbox uuid, tick int) returns uuid
  language sql immutable parallel safe
  return (lpad(to_hex(tick), 8, '0') || right(replace(sandbox::text, '-', ''), 12)
          || left(replace(sandbox::text, '-', ''), 8) || '0000')::uuid;

-- Batches are as large as the server's, and as many.
create table bench_books as
  select n as number, case when n < n_orgs then 'server' else 'pgbench' end as side,
         (n % n_orgs) / 64 as batch, bench_id(1, n, 0) as org, bench_id(3, n, 0) as project,
         bench_id(4, n, 0) as key, bench_id(6, n, 0) as grant_id,
         bench_id(5, 1, n) as first_sandbox, n_sandboxes * 60000000::bigint as cost,
         n_sandboxes * 100000000000::bigint as credit, repeat('x', 346) as event
  from bench_shape cross join generate_series(0, 2 * n_orgs - 1) n;
create index on bench_books (batch);

-- What usage is booked with. Not in the script itself, where a colon begins a variable.
create table bench_postings as
  select * from (values (0, 'credit:free', -1), (1, 'usage', 1)) p(line, account, sign);

insert into organizations (id, name, plan, limit_overrides, created_at)
select org, side || '-' || number, 'free', '{}', bench_start() from bench_books;

insert into users (id, org_id, email, created_at)
select bench_id(2, number, 0), org, 'bench@example.test', bench_start() from bench_books;

insert into projects (id, org_id, name, is_default, created_at)
select project, org, 'default', true, bench_start() from bench_books;

insert into api_keys (id, org_id, name, lookup, secret_hash, last_four, scopes, created_by,
  created_at)
select key, org, 'bench', 'bench' || number, '', '', '[]', bench_id(2, number, 0), bench_start()
from bench_books;

insert into sandboxes (id, org_id, project_id, created_by, template_version_id, pricing_version,
  phase, generation, host, ttl_ms, metadata, created_at, ready_at, expires_at, last_activity_at,
  seen_alive_at)
select bench_id(5, n, number), org, project, key, v.id, '2026-07', 'ready', 2, 'bench', 2592000000,
  '{}', bench_start(), bench_start(), bench_start() + 2592000000000, bench_start(), bench_start()
from bench_shape cross join generate_series(1, n_sandboxes) n cross join bench_books
cross join (select v.id from template_versions v join templates t on t.id = v.template_id
            where t.slug = 'python') v
order by n, number;

insert into meters (sandbox_id, org_id, project_id, metric, opened_at, multiplier_milli,
  pricing_version, settled_until, settled_quantity, settled_amount, n_parts)
select id, org_id, project_id, 'compute_unit_seconds', bench_start(), 1000, pricing_version,
  bench_start(), 0, 0, 0
from sandboxes;

insert into credit_grants (id, org_id, kind, priority, amount, remaining, starts_at)
select grant_id, org, 'free', 300, credit, credit, bench_month() from bench_books;

insert into ledger_transactions (id, org_id, seq, kind, key, at, booked_from, recorded_at)
select bench_id(7, 0, number), org, 1, 'grant', 'grant:free:free', bench_month(), bench_month(),
  bench_start()
from bench_books;

insert into ledger_postings (transaction_id, line, org_id, account, grant_id, amount)
select bench_id(7, 0, number), line, org, account, case when line = 1 then grant_id end,
  credit * sign
from bench_books cross join (values (0, 'issued', -1), (1, 'credit:free', 1)) p(line, account, sign);

insert into ledger_totals (org_id, booked_from, account, pricing_version, amount)
select org_id, bench_month(), account, '', amount from ledger_postings;

-- pgbench's are not due before 2100, so that the server leaves them alone.
insert into billing_accounts (org_id, open_from, plan_period, plan_granted, free_granted, stop_told,
  due_at, last_seq)
select org, bench_month(), bench_month(), 0, true, false,
  case when side = 'server' then bench_start() else 4102444800000000 end, 1
from bench_books;
