-- Queries on runs and their events, by name. Times are on the database's clock, in microseconds.

-- name: run_add
insert into clew_run (tenant, run_id, thread, user_id, assistant_id, status, strategy, priority, attempt, epoch, is_ephemeral,
                      run_after, created_at, updated_at, idempotency_key, metadata, body, owner, lease_until)
values ($1, $2, $3, $4, $5, case when $12::text is null then 'pending' else 'running' end, $6, $7,
        case when $12::text is null then 0 else 1 end, case when $12::text is null then 0 else 1 end, $13,
        (extract(epoch from clock_timestamp()) * 1000000)::bigint + $8::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint, (extract(epoch from clock_timestamp()) * 1000000)::bigint, $9, $10, $11, $12::text,
        case when $12::text is null then null else (extract(epoch from clock_timestamp()) * 1000000)::bigint + $14::bigint end)
on conflict do nothing
returning run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant

-- name: run_get
select run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant from clew_run where tenant = $1 and run_id = $2

-- name: run_get_locked
select run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant from clew_run where tenant = $1 and run_id = $2 for update

-- name: run_keyed
select run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant from clew_run where tenant = $1 and idempotency_key = $2

-- name: run_active
select run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant
  from clew_run
 where tenant = $1 and thread = $2 and status in ('pending', 'running')
 order by created_at, run_id for update

-- name: run_list
select run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant
  from clew_run
 where tenant = $1 and thread = $2 and ($3::text is null or status = $3)
 order by created_at desc, run_id desc
 limit $4 offset $5

-- name: run_shown
select run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant
  from clew_run
 where tenant = $1 and thread = $2 and (status = 'running' or ended_at >= $3::bigint)
 order by status = 'running', ended_at, created_at, run_id
 limit $4

-- name: run_ends
select coalesce(max(ended_at), 0), count(*), (extract(epoch from clock_timestamp()) * 1000000)::bigint from clew_run where tenant = $1 and thread = $2

-- name: run_counts
select status, count(*) from clew_run where tenant = $1 and status in ('pending', 'running') group by status

-- name: run_claim
update clew_run
   set status = 'running', owner = $2, lease_until = (extract(epoch from clock_timestamp()) * 1000000)::bigint + $3::bigint, attempt = attempt + 1, epoch = epoch + 1,
       updated_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint
 where tenant = $1 and run_id = any (array(
        select waiting.run_id
          from clew_run as waiting
         where waiting.tenant = $1 and waiting.status = 'pending' and waiting.run_after <= (extract(epoch from clock_timestamp()) * 1000000)::bigint
           and not exists (select 1 from clew_run as other
                            where other.tenant = waiting.tenant and other.thread = waiting.thread
                              and other.status = 'running')
           and not exists (select 1 from clew_run as other
                            where other.tenant = waiting.tenant and other.thread = waiting.thread
                              and other.status = 'pending' and other.run_after <= (extract(epoch from clock_timestamp()) * 1000000)::bigint
                              and (other.created_at, other.run_id) < (waiting.created_at, waiting.run_id))
           and (waiting.attempt < $5
                or $6::integer = 1 and not exists (select 1 from clew_run as older
                                    where older.tenant = $1 and older.status = 'pending' and older.attempt >= $5
                                      and (older.created_at, older.run_id) < (waiting.created_at, waiting.run_id)))
           and waiting.run_id not in (select jsonb_array_elements_text($7::text::jsonb))
         order by waiting.priority desc, waiting.created_at, waiting.run_id
         limit $4 for update skip locked))
   and status = 'pending'
returning run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant

-- name: run_renew
update clew_run
   set lease_until = (extract(epoch from clock_timestamp()) * 1000000)::bigint + $2::bigint
 where owner = $1 and status = 'running'
returning run_id, epoch, cancel

-- name: run_guard
select 1 from clew_run
 where tenant = $1 and run_id = $2 and owner = $3 and epoch = $4 and status = 'running'

-- name: run_guard_locked
select 1 from clew_run
 where tenant = $1 and run_id = $2 and owner = $3 and epoch = $4 and status = 'running' for update

-- name: run_begin
update clew_run set began = $5
 where tenant = $1 and run_id = $2 and owner = $3 and epoch = $4 and status = 'running'

-- name: run_end
update clew_run
   set status = $5, error = $6, lease_until = null, updated_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint, ended_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint
 where tenant = $1 and run_id = $2 and owner = $3 and epoch = $4 and (status = $5 or status = 'running' and cancel is distinct from 'rollback')

-- name: run_release
update clew_run
   set status = 'pending', owner = null, lease_until = null, updated_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint, attempt = attempt - 1
 where owner = $1 and status = 'running' and ($2::text is null or run_id = $2::text)
returning run_id

-- name: run_pass
update clew_run
   set status = 'pending', owner = null, lease_until = null, attempt = attempt - 1, epoch = epoch - 1
 where tenant = $1 and run_id = $2 and owner = $3 and epoch = $4 and status = 'running'

-- name: run_expired
select run_id, thread, user_id, assistant_id, status, strategy, created_at, updated_at, ended_at, priority, attempt, epoch, is_ephemeral, cancel, began, metadata, error, body, tenant
  from clew_run
 where tenant = $1 and status = 'running' and lease_until <= (extract(epoch from clock_timestamp()) * 1000000)::bigint
 order by lease_until
 limit $2 for update skip locked

-- name: run_set
update clew_run
   set status = $4, error = $5, owner = null, lease_until = null, updated_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint,
       ended_at = case when $4 = 'pending' then null else (extract(epoch from clock_timestamp()) * 1000000)::bigint end
 where tenant = $1 and run_id = $2 and status = $3

-- name: run_cancel
update clew_run
   set cancel = case when cancel = 'rollback' then cancel else $3 end, updated_at = (extract(epoch from clock_timestamp()) * 1000000)::bigint
 where tenant = $1 and run_id = $2 and status = 'running'

-- name: run_remove
delete from clew_run where tenant = $1 and run_id = $2

-- name: run_settle
update clew_thread
   set status = case when exists (select 1 from clew_run where tenant = $1 and thread = $2 and status in ('pending', 'running'))
                     then 'busy' else $3 end
 where tenant = $1 and thread = $2
returning status

-- name: run_settle_ended
update clew_thread
   set status = case when exists (select 1 from clew_run where tenant = $1 and thread = $5 and status in ('pending', 'running'))
                     then 'busy' else $7 end
 where tenant = $1 and thread = $5
   and exists (select 1 from clew_run
                where tenant = $1 and run_id = $2 and owner = $3 and epoch = $4 and status = $6)
returning status

-- name: event_add
insert into clew_event (tenant, run_id, thread, seq, body)
select $1::text, $2::text, $5::text, $6::integer, $7::bytea
 where exists (select 1 from clew_run
                where tenant = $1 and run_id = $2 and owner = $3 and epoch = $4 and status = 'running')
on conflict (tenant, run_id, seq) do update set body = excluded.body

-- name: event_list
select seq, body
  from clew_event
 where tenant = $1 and run_id = $2 and seq > $3
 order by seq
 limit $4

-- name: event_last
select coalesce(max(seq), 0) from clew_event where tenant = $1 and run_id = $2

-- name: event_remove
delete from clew_event where tenant = $1 and run_id = $2

-- name: line_run_steps
select branch, seq from clew_step where tenant = $1 and line = $2 and run_id = $3

-- name: head_fence
update clew_head set epoch = epoch + $1 where tenant = $2 and thread = $3 and ns = ''
