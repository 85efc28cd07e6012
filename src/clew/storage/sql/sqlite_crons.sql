-- Queries on crons, by name. Times are on the database's clock, in microseconds.

-- name: cron_add
insert into clew_cron (tenant, cron_id, user_id, thread, assistant_id, schedule, timezone, on_run_completed, enabled,
                       created_at, updated_at, next_at, end_time, body)
values (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?10, ?11, ?12, ?13)

-- name: cron_get
select cron_id, user_id, thread, assistant_id, schedule, timezone, on_run_completed, enabled, created_at, updated_at, next_at, end_time, error, body
  from clew_cron
 where tenant = ?1 and cron_id = ?2

-- name: cron_list
select cron_id, user_id, thread, assistant_id, schedule, timezone, on_run_completed, enabled, created_at, updated_at, next_at, end_time, error, body
  from clew_cron
 where tenant = ?1
   and (?2 is null or user_id = ?2)
   and (?3 is null or thread = ?3)
   and (?4 is null or assistant_id = ?4)
   and (?5 is null or enabled = ?5)
 order by created_at desc, cron_id desc

-- name: cron_set
update clew_cron
   set assistant_id = ?3, schedule = ?4, timezone = ?5, on_run_completed = ?6, enabled = ?7, updated_at = ?8, next_at = ?9,
       end_time = ?10, body = ?11
 where tenant = ?1 and cron_id = ?2

-- name: cron_remove
delete from clew_cron where tenant = ?1 and cron_id = ?2

-- name: cron_next
select min(next_at) - cast((julianday('now') - 2440587.5) * 86400000000 as integer)
  from clew_cron
 where tenant = ?1 and next_at is not null

-- name: cron_due
select cron_id
  from clew_cron
 where tenant = ?1 and next_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer)
 order by next_at, cron_id
 limit ?2

-- name: cron_move
update clew_cron
   set next_at = ?4, error = ?5
 where tenant = ?1 and cron_id = ?2 and next_at = ?3

-- name: cron_body_set
update clew_cron set body = ?3 where tenant = ?1 and cron_id = ?2
