-- Queries on the table of threads, by name.
--
-- Lists come in several orders, each of which has an index. A name with braces is one query for each of the words that
-- are told here; `.where` and `.order` are the two halves of a word's text.
--
-- {whose} mine: user_id = ?2
-- {whose} everyones: ?2 is null
-- {kind} recent: true order by active_at desc, thread desc
-- {kind} recent_before: (active_at, thread) < (?10, ?11) order by active_at desc, thread desc
-- {kind} recent_of_status: status = ?4 order by active_at desc, thread desc
-- {kind} recent_of_status_before: status = ?4 and (active_at, thread) < (?10, ?11) order by active_at desc, thread desc
-- {kind} oldest: true order by active_at, thread
-- {kind} oldest_of_status: status = ?4 order by active_at, thread
-- {kind} created_at_up: true order by created_at, thread
-- {kind} created_at_down: true order by created_at desc, thread desc
-- {kind} updated_at_up: true order by updated_at, thread
-- {kind} updated_at_down: true order by updated_at desc, thread desc
-- {kind} thread_id_up: true order by thread
-- {kind} thread_id_down: true order by thread desc
-- {kind} status_up: true order by status, active_at, thread
-- {kind} status_down: true order by status desc, active_at desc, thread desc

-- name: thread_add
insert into clew_thread (tenant, thread, user_id, status, archived, created_at, updated_at, active_at, ttl_minutes,
                         ttl_strategy, title, title_key, metadata, body)
values (?1, ?2, ?3, ?4, 0, ?5, ?5, ?5, ?6, ?7, ?8, ?9, ?10, ?11)
on conflict (tenant, thread) do nothing

-- name: thread_get
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata, body
  from clew_thread where tenant = ?1 and thread = ?2

-- name: thread_set
update clew_thread
   set user_id = ?3, status = ?4, archived = ?5, updated_at = ?6, archived_at = ?7, ttl_minutes = ?8,
       ttl_strategy = ?9, title = ?10, title_key = ?11, metadata = ?12, body = ?13
 where tenant = ?1 and thread = ?2

-- name: thread_touch
update clew_thread
   set last_message_at = ?3, active_at = ?3, updated_at = ?3
 where tenant = ?1 and thread = ?2

-- name: thread_active
update clew_thread set active_at = ?3 where tenant = ?1 and thread = ?2

-- name: thread_title
update clew_thread
   set title = ?3, title_key = ?4
 where tenant = ?1 and thread = ?2 and title is null and body is null

-- name: thread_remove
delete from clew_thread where tenant = ?1 and thread = ?2

-- name: thread_page_{whose}_{kind}
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata, body
  from clew_thread
 where tenant = ?1
   and {whose}
   and archived = ?3
   and {kind.where}
   and (?4 is null or status = ?4)
   and (?5 is null or instr(title_key, ?5) > 0)
   and (?6 is null or not exists (
        select 1 from json_each(?6) as wanted
         where wanted.type not in ('object', 'array')
           and not exists (select 1 from json_each(metadata) as held
                            where held.key = wanted.key and held.value is wanted.value
                              and (held.type = wanted.type
                                   or (held.type in ('integer', 'real') and wanted.type in ('integer', 'real'))))))
   and ?9 is null
 {kind.order}
 limit ?7 offset ?8

-- name: thread_window_{whose}_{kind}
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata, body
  from (select *
          from clew_thread
         where tenant = ?1
           and {whose}
           and archived = ?3
           and {kind.where}
         {kind.order}
         limit ?9) as windowed
 where true
   and (?4 is null or status = ?4)
   and (?5 is null or instr(title_key, ?5) > 0)
   and (?6 is null or not exists (
        select 1 from json_each(?6) as wanted
         where wanted.type not in ('object', 'array')
           and not exists (select 1 from json_each(metadata) as held
                            where held.key = wanted.key and held.value is wanted.value
                              and (held.type = wanted.type
                                   or (held.type in ('integer', 'real') and wanted.type in ('integer', 'real'))))))
 {kind.order}
 limit ?7 offset ?8

-- name: thread_chosen_{kind}
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata, body
  from clew_thread
 where tenant = ?1
   and thread in (select value from json_each(?9))
   and (?2 is null or user_id = ?2)
   and (?3 is null or archived = ?3)
   and {kind.where}
   and (?4 is null or status = ?4)
   and (?5 is null or instr(title_key, ?5) > 0)
   and (?6 is null or not exists (
        select 1 from json_each(?6) as wanted
         where wanted.type not in ('object', 'array')
           and not exists (select 1 from json_each(metadata) as held
                            where held.key = wanted.key and held.value is wanted.value
                              and (held.type = wanted.type
                                   or (held.type in ('integer', 'real') and wanted.type in ('integer', 'real'))))))
 {kind.order}
 limit ?7 offset ?8

-- name: thread_titled_{whose}
select thread
  from clew_thread
 where tenant = ?1
   and {whose}
   and instr(title_key, ?3) > 0
 limit ?4

-- name: thread_of_status_{whose}
select thread
  from clew_thread
 where tenant = ?1
   and {whose}
   and archived in (0, 1)
   and status = ?3
 limit ?4

-- name: thread_count_{whose}
select count(*)
  from clew_thread
 where tenant = ?1
   and {whose}
   and archived = ?3

-- name: thread_count_of_status_{whose}
select count(*)
  from clew_thread
 where tenant = ?1
   and {whose}
   and archived = ?3
   and status = ?4

-- name: thread_count_filtered_{whose}
select count(*)
  from clew_thread
 where tenant = ?1
   and {whose}
   and archived = ?3
   and (?4 is null or status = ?4)
   and (?5 is null or instr(title_key, ?5) > 0)
   and (?6 is null or not exists (
        select 1 from json_each(?6) as wanted
         where wanted.type not in ('object', 'array')
           and not exists (select 1 from json_each(metadata) as held
                            where held.key = wanted.key and held.value is wanted.value
                              and (held.type = wanted.type
                                   or (held.type in ('integer', 'real') and wanted.type in ('integer', 'real'))))))

-- name: thread_count_chosen
select count(*)
  from clew_thread
 where tenant = ?1
   and thread in (select value from json_each(?7))
   and (?2 is null or user_id = ?2)
   and (?3 is null or archived = ?3)
   and (?4 is null or status = ?4)
   and (?5 is null or instr(title_key, ?5) > 0)
   and (?6 is null or not exists (
        select 1 from json_each(?6) as wanted
         where wanted.type not in ('object', 'array')
           and not exists (select 1 from json_each(metadata) as held
                            where held.key = wanted.key and held.value is wanted.value
                              and (held.type = wanted.type
                                   or (held.type in ('integer', 'real') and wanted.type in ('integer', 'real'))))))

-- name: thread_labelled
select thread
  from clew_thread_label
 where tenant = ?1
   and label = (
        select substr(key || ' ' || case when type in ('integer', 'real') then cast(value as real)
                                         else type || coalesce(value, '') end, 1, 120) as wanted
          from json_each(?2)
         where type not in ('object', 'array')
         order by (select count(*) from (
                    select 1 from clew_thread_label as held where held.tenant = ?1 and held.label = wanted limit ?3))
         limit 1)
 limit ?3

-- name: run_drop_thread
delete from clew_run where tenant = ?1 and thread = ?2

-- name: event_drop_thread
delete from clew_event
 where tenant = ?1 and run_id in (select run_id from clew_run where tenant = ?1 and thread = ?2)

-- name: cron_drop_thread
delete from clew_cron where tenant = ?1 and thread = ?2

-- name: cron_body_list
select cron_id, user_id, body from clew_cron where tenant = ?1

-- name: thread_expired
select thread, coalesce(ttl_strategy, ?2), active_at, ttl_minutes
  from clew_thread
 where tenant = ?1 and ttl_minutes is not null and active_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer) - ttl_minutes * 60000000
   and (coalesce(ttl_strategy, ?2) = ?2 or swept_at is null or swept_at < active_at)
   and not exists (select 1 from clew_run
                    where clew_run.tenant = ?1 and clew_run.thread = clew_thread.thread
                      and (clew_run.status in ('pending', 'running')
                           or clew_run.updated_at > cast((julianday('now') - 2440587.5) * 86400000000 as integer) - clew_thread.ttl_minutes * 60000000))
 order by active_at, thread
 limit ?3

-- name: thread_expired_default
select thread, ?2, active_at, ?3
  from clew_thread
 where tenant = ?1 and archived in (0, 1) and ttl_minutes is null and active_at <= cast((julianday('now') - 2440587.5) * 86400000000 as integer) - ?3 * 60000000
   and (?2 = ?4 or swept_at is null or swept_at < active_at)
   and not exists (select 1 from clew_run
                    where clew_run.tenant = ?1 and clew_run.thread = clew_thread.thread
                      and (clew_run.status in ('pending', 'running')
                           or clew_run.updated_at > cast((julianday('now') - 2440587.5) * 86400000000 as integer) - ?3 * 60000000))
 order by active_at, thread
 limit ?5

-- name: thread_swept
update clew_thread set swept_at = ?3 where tenant = ?1 and thread = ?2

-- name: thread_busy
select count(*) from clew_run
 where tenant = ?1 and thread = ?2 and (status in ('pending', 'running') or updated_at > ?3)
