-- Queries on runs and their events, by name. Times are on the database's clock, in microseconds.

-- name: run_add
insert into clew_run (tenant, run_id, thread, assistant_id, status, strategy, priority, attempt, epoch, run_after, created_at,
                      updated_at, idempotency_key, metadata, body)
values (?1, ?2, ?3, ?4, 'pending', ?5, ?6, 0, 0, cast((julianday('now') - 2440587.5) * 86400000000 as integer) + ?7, cast((julianday('now') - 2440587.5) * 86400000000 as integer), cast((julianday('now') - 2440587.5) * 86400000000 as integer), ?8, ?9, ?10)
on conflict do nothing
returning run_id, thread, assistant_id, status, strategy, created_at, updated_at, priority, attempt, epoch, cancel, metadata, error, body, tenant

-- name: run_get
select run_id, thread, assistant_id, status, strategy, created_at, updated_at, priority, attempt, epoch, cancel, metadata, error, body, tenant from clew_run where tenant = ?1 and run_id = ?2

-- name: run_keyed
select run_id, thread, assistant_id, status, strategy, created_at, updated_at, priority, attempt, epoch, cancel, metadata, error, body, tenant from clew_run where tenant = ?1 and idempotency_key = ?2

-- name: run_active
select run_id, thread, assistant_id, status, strategy, created_at, updated_at, priority, attempt, epoch, cancel, metadata, error, body, tenant
  from clew_run
 where tenant = ?1 and thread = ?2 and status in ('pending', 'running')
 order by created_at, run_id

-- name: run_list
select run_id, thread, assistant_id, status, strategy, created_at, updated_at, priority, attempt, epoch, cancel, metadata, error, body, tenant
  from clew_run
 where tenant = ?1 and thread = ?2 and (?3 is null or status = ?3)
 order by created_at desc, run_id desc
 limit ?4 offset ?5

-- name: run_claim
update clew_run
   set status = 'running', owner = ?1, lease_until = cast((julianday('now') - 2440587.5) * 86400000000 as integer) + ?2, attempt = attempt + 1, epoch = epoch + 1,
       updated_at = cast((julianday('now') - 2440587.5) * 86400000000 as integer), cancel = null
 where (tenant, run_id) in (
        select waiting.tenant, waiting.run_id
          from clew_run as waiting
         where waiting.status = 'pending' and waiting.run_after <= cast((julianday('now') - 2440587.5) * 86400000000 as integer)
           and not exists (select 1 from clew_run as other
                            where other.tenant = waiting.tenant and other.thread = waiting.thread
                              and (other.status = 'running'
                                   or (other.status = 'pending' and other.run_after <= cast((julianday('now') - 2440587.5) * 86400000000 as integer)
                                       and (other.created_at, other.run_id) < (waiting.created_at, waiting.run_id))))
         order by waiting.priority desc, waiting.created_at, waiting.run_id
         limit ?3)
   and status = 'pending'
returning run_id, thread, assistant_id, status, strategy, created_at, updated_at, priority, attempt, epoch, cancel, metadata, error, body, tenant

-- name: run_renew
update clew_run
   set lease_until = cast((julianday('now') - 2440587.5) * 86400000000 as integer) + ?2
 where owner = ?1 and status = 'running'
returning run_id, epoch, cancel

-- name: run_end
update clew_run
   set status = ?5, error = ?6, owner = null, lease_until = null, updated_at = cast((julianday('now') - 2440587.5) * 86400000000 as integer)
 where tenant = ?1 and run_id = ?2 and owner = ?3 and epoch = ?4 and status = 'running'

-- name: run_release
update clew_run
   set status = 'pending', owner = null, lease_until = null, updated_at = cast((julianday('now') - 2440587.5) * 86400000000 as integer), attempt = attempt - 1
 where owner = ?1 and status = 'running'
returning run_id

-- name: run_expired
select tenant, run_id, attempt
  from clew_run
 where status = 'running' and lease_until <= cast((julianday('now') - 2440587.5) * 86400000000 as integer)
 order by lease_until
 limit ?1

-- name: run_set
update clew_run
   set status = ?4, error = ?5, owner = null, lease_until = null, updated_at = cast((julianday('now') - 2440587.5) * 86400000000 as integer)
 where tenant = ?1 and run_id = ?2 and status = ?3

-- name: run_cancel
update clew_run
   set cancel = ?3, updated_at = cast((julianday('now') - 2440587.5) * 86400000000 as integer)
 where tenant = ?1 and run_id = ?2 and status = 'running'

-- name: run_remove
delete from clew_run where tenant = ?1 and run_id = ?2

-- name: event_add
insert into clew_event (tenant, run_id, seq, name, body)
select ?1, ?2, ?5, ?6, ?7
 where exists (select 1 from clew_run
                where tenant = ?1 and run_id = ?2 and owner = ?3 and epoch = ?4 and status = 'running')
on conflict (tenant, run_id, seq) do nothing

-- name: event_list
select seq, name, body
  from clew_event
 where tenant = ?1 and run_id = ?2 and seq > ?3
 order by seq
 limit ?4

-- name: event_last
select coalesce(max(seq), 0) from clew_event where tenant = ?1 and run_id = ?2

-- name: event_remove
delete from clew_event where tenant = ?1 and run_id = ?2
