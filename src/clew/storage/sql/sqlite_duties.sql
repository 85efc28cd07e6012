-- Queries on background duties, and on what is told about ended runs, by name. Times are on the database's clock, in
-- microseconds.

-- name: duty_take
insert into clew_duty (tenant, name, owner, until, due_at)
values (?1, ?2, ?3, cast((julianday('now') - 2440587.5) * 86400000000 as integer) + ?4, 0)
on conflict (tenant, name) do update
   set owner = excluded.owner, until = excluded.until
 where clew_duty.until <= cast((julianday('now') - 2440587.5) * 86400000000 as integer) and clew_duty.due_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer)
returning name

-- name: duty_renew
update clew_duty
   set until = cast((julianday('now') - 2440587.5) * 86400000000 as integer) + ?4
 where tenant = ?1 and name = ?2 and owner = ?3

-- name: duty_release
update clew_duty
   set owner = '', until = 0, due_at = cast((julianday('now') - 2440587.5) * 86400000000 as integer) + ?4
 where tenant = ?1 and name = ?2 and owner = ?3

-- name: duty_due
select max(until, due_at) - cast((julianday('now') - 2440587.5) * 86400000000 as integer)
  from clew_duty
 where tenant = ?1 and name = ?2

-- name: delivery_add
insert into clew_delivery (tenant, run_id, thread, status, attempt, created_at, next_at, body)
values (?1, ?2, ?3, 'pending', 0, cast((julianday('now') - 2440587.5) * 86400000000 as integer), cast((julianday('now') - 2440587.5) * 86400000000 as integer), ?4)
on conflict (tenant, run_id) do nothing

-- name: delivery_get
select run_id, thread, status, attempt, created_at, next_at, error
  from clew_delivery
 where tenant = ?1 and run_id = ?2

-- name: delivery_next
select min(next_at) - cast((julianday('now') - 2440587.5) * 86400000000 as integer)
  from clew_delivery
 where tenant = ?1 and next_at is not null

-- name: delivery_claim
update clew_delivery
   set attempt = attempt + 1, next_at = cast((julianday('now') - 2440587.5) * 86400000000 as integer) + ?2
 where tenant = ?1 and next_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer) and run_id in (
        select due.run_id
          from clew_delivery as due
         where due.tenant = ?1 and due.next_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer)
         order by due.next_at, due.run_id
         limit ?3)
returning run_id, thread, attempt, created_at, body

-- name: delivery_again
update clew_delivery
   set next_at = cast((julianday('now') - 2440587.5) * 86400000000 as integer) + ?4, error = ?5
 where tenant = ?1 and run_id = ?2 and attempt = ?3 and next_at is not null

-- name: delivery_over
update clew_delivery
   set next_at = null, body = null, status = ?4, error = ?5
 where tenant = ?1 and run_id = ?2 and attempt = ?3 and next_at is not null

-- name: delivery_forget
delete from clew_delivery
 where tenant = ?1 and run_id in (
        select old.run_id
          from clew_delivery as old
         where old.tenant = ?1 and old.next_at is null and old.created_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer) - ?2
         order by old.created_at
         limit ?3)

-- name: duty_mark
select mark from clew_duty where tenant = ?1 and name = ?2

-- name: duty_note
update clew_duty set mark = ?3 where tenant = ?1 and name = ?2

-- name: run_over
select run_id, ended_at
  from clew_run
 where tenant = ?1 and ended_at > ?2 and ended_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer) - ?3
 order by ended_at
 limit ?4

-- name: event_remove_over
delete from clew_event
 where tenant = ?1 and run_id in (select run_id from clew_run where tenant = ?1 and ended_at > ?2 and ended_at <= ?3)

-- name: run_forgettable
select run.thread,
       exists (select 1 from clew_thread as kept where kept.tenant = run.tenant and kept.thread = run.thread)
       or exists (select 1 from clew_head as kept where kept.tenant = run.tenant and kept.thread = run.thread),
       run.ended_at
  from clew_run as run
 where run.tenant = ?1 and is_ephemeral = 1 and ended_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer) - ?2
 order by ended_at
 limit ?3

-- name: event_forget
delete from clew_event
 where tenant = ?1 and run_id in (select run_id from clew_run where tenant = ?1 and is_ephemeral = 1 and ended_at <= ?2)

-- name: run_forget
delete from clew_run where tenant = ?1 and is_ephemeral = 1 and ended_at <= ?2

-- name: run_listed_too_long
select run_id, thread
  from clew_run
 where tenant = ?1 and ended_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer) - ?2
 order by ended_at
 limit ?3
