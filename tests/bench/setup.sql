-- What the scripts for pgbench need besides the server's tables: whose sandboxes they make, and values
-- that the server would make up. Ids rise as the server's do, so that indexes grow at the same end.

create table bench_tenants as
  select row_number() over (order by o.name) - 1 as number, o.id as org, k.id as key,
         p.id as project, t.id as template_version
  from organizations o
  join api_keys k on k.org_id = o.id
  join projects p on p.org_id = o.id and p.is_default
  cross join (select v.id from template_versions v join templates t on t.id = v.template_id
              where t.slug = 'python') t
  where o.name like 'create-%';

create function bench_id(kind int, round int, client int, n int) returns uuid
  language sql immutable parallel safe
  return (lpad(to_hex(round), 4, '0') || lpad(to_hex(n), 8, '0') || '7000a000'
          || lpad(to_hex(client), 8, '0') || lpad(to_hex(kind), 4, '0'))::uuid;

create function bench_word(word text, round int, client int, n int) returns text
  language sql immutable parallel safe
  return word || round || '_' || client || '_' || n;
