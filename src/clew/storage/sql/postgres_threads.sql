-- Queries on the table of threads, by name. As everywhere, `tenant` is in each of them.
--
-- Lists come in several orders, each of which has an index. A name with braces is one query for each of the words that
-- are told here; `.where` and `.order` are the two halves of a word's text.
--
-- {whose} mine: user_id = $2::text
-- {whose} everyones: $2::text is null
-- {kind} recent: true order by active_at desc, thread desc
-- {kind} recent_before: (active_at, thread) < ($10::bigint, $11::text) order by active_at desc, thread desc
-- {kind} recent_of_status: status collate "C" = $4::text order by active_at desc, thread desc
-- {kind} recent_of_status_before: status collate "C" = $4::text and (active_at, thread) < ($10::bigint, $11::text) order by active_at desc, thread desc
-- {kind} oldest: true order by active_at, thread
-- {kind} oldest_of_status: status collate "C" = $4::text order by active_at, thread
-- {kind} created_at_up: true order by created_at, thread
-- {kind} created_at_down: true order by created_at desc, thread desc
-- {kind} updated_at_up: true order by updated_at, thread
-- {kind} updated_at_down: true order by updated_at desc, thread desc
-- {kind} thread_id_up: true order by thread
-- {kind} thread_id_down: true order by thread desc
-- {kind} status_up: true order by status collate "C", active_at, thread
-- {kind} status_down: true order by status collate "C" desc, active_at desc, thread desc

-- name: thread_add
insert into clew_thread (tenant, thread, user_id, status, archived, created_at, updated_at, active_at, ttl_minutes,
                         ttl_strategy, title, title_key, metadata, body)
values ($1, $2, $3, $4, 0, $5, $5, $5, $6, $7, $8, $9, $10::text::jsonb, $11)
on conflict (tenant, thread) do nothing

-- name: thread_get
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata::text, body
  from clew_thread where tenant = $1 and thread = $2

-- name: thread_get_locked
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata::text, body
  from clew_thread where tenant = $1 and thread = $2 for update

-- name: thread_set
update clew_thread
   set user_id = $3, status = $4, archived = $5, updated_at = $6, archived_at = $7, ttl_minutes = $8,
       ttl_strategy = $9, title = $10, title_key = $11, metadata = $12::text::jsonb, body = $13
 where tenant = $1 and thread = $2

-- name: thread_touch
update clew_thread
   set last_message_at = $3, active_at = $3, updated_at = $3
 where tenant = $1 and thread = $2

-- name: thread_active
update clew_thread set active_at = $3 where tenant = $1 and thread = $2

-- name: thread_title
update clew_thread
   set title = $3, title_key = $4
 where tenant = $1 and thread = $2 and title is null and body is null

-- name: thread_remove
delete from clew_thread where tenant = $1 and thread = $2

-- name: thread_page_{whose}_{kind}
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata::text, body
  from clew_thread
 where tenant = $1::text
   and {whose}
   and archived = $3::integer
   and {kind.where}
   and ($4::text is null or status = $4::text)
   and ($5::text is null or position($5::text in title_key) > 0)
   and ($6::text is null or metadata @> $6::text::jsonb)
   and $9::bigint is null
 {kind.order}
 limit $7::bigint offset $8::bigint

-- name: thread_window_{whose}_{kind}
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata::text, body
  from (select *
          from clew_thread
         where tenant = $1::text
           and {whose}
           and archived = $3::integer
           and {kind.where}
         {kind.order}
         limit $9::bigint) as windowed
 where true
   and ($4::text is null or status = $4::text)
   and ($5::text is null or position($5::text in title_key) > 0)
   and ($6::text is null or metadata @> $6::text::jsonb)
 {kind.order}
 limit $7::bigint offset $8::bigint

-- name: thread_chosen_{kind}
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata::text, body
  from clew_thread
 where tenant = $1::text
   and thread = any (array(select jsonb_array_elements_text($9::text::jsonb)))
   and ($2::text is null or user_id = $2::text)
   and ($3::integer is null or archived = $3::integer)
   and {kind.where}
   and ($4::text is null or status = $4::text)
   and ($5::text is null or position($5::text in title_key) > 0)
   and ($6::text is null or metadata @> $6::text::jsonb)
 {kind.order}
 limit $7::bigint offset $8::bigint

-- name: thread_titled_{whose}
select thread
  from clew_thread
 where tenant = $1::text
   and {whose}
   and octet_length(title_key) <= 300
   and position($3::text in title_key) > 0
union all
select thread
  from clew_thread
 where tenant = $1::text
   and {whose}
   and octet_length(title_key) > 300
   and position($3::text in title_key) > 0
 limit $4::bigint

-- name: thread_of_status_{whose}
select thread
  from clew_thread
 where tenant = $1::text
   and {whose}
   and archived in (0, 1)
   and status collate "C" = $3::text
 limit $4::bigint

-- name: thread_count_{whose}
select count(*)
  from clew_thread
 where tenant = $1::text
   and {whose}
   and archived = $3::integer

-- name: thread_count_of_status_{whose}
select count(*)
  from clew_thread
 where tenant = $1::text
   and {whose}
   and archived = $3::integer
   and status collate "C" = $4::text

-- name: thread_count_filtered_{whose}
select count(*)
  from clew_thread
 where tenant = $1::text
   and {whose}
   and archived = $3::integer
   and ($4::text is null or status = $4::text)
   and ($5::text is null or position($5::text in title_key) > 0)
   and ($6::text is null or metadata @> $6::text::jsonb)

-- name: thread_count_chosen
select count(*)
  from clew_thread
 where tenant = $1::text
   and thread = any (array(select jsonb_array_elements_text($7::text::jsonb)))
   and ($2::text is null or user_id = $2::text)
   and ($3::integer is null or archived = $3::integer)
   and ($4::text is null or status = $4::text)
   and ($5::text is null or position($5::text in title_key) > 0)
   and ($6::text is null or metadata @> $6::text::jsonb)

-- name: thread_labelled
select thread
  from clew_thread
 where tenant = $1::text
   and metadata @> $2::text::jsonb
 limit $3::bigint

-- name: run_drop_thread
delete from clew_run where tenant = $1 and thread = $2

-- name: event_drop_thread
delete from clew_event
 where tenant = $1 and run_id in (select run_id from clew_run where tenant = $1 and thread = $2)

-- name: cron_drop_thread
delete from clew_cron where tenant = $1 and thread = $2

-- name: cron_body_list
select cron_id, user_id, body from clew_cron where tenant = $1

-- name: thread_expired
select thread, coalesce(ttl_strategy, $2::text), active_at, ttl_minutes
  from clew_thread
 where tenant = $1 and ttl_minutes is not null and active_at <= (extract(epoch from clock_timestamp()) * 1000000)::bigint - ttl_minutes::bigint * 60000000
   and (coalesce(ttl_strategy, $2::text) = $2::text or swept_at is null or swept_at < active_at)
   and not exists (select 1 from clew_run
                    where clew_run.tenant = $1 and clew_run.thread = clew_thread.thread
                      and (clew_run.status in ('pending', 'running')
                           or clew_run.updated_at > (extract(epoch from clock_timestamp()) * 1000000)::bigint - clew_thread.ttl_minutes::bigint * 60000000))
 order by active_at, thread
 limit $3

-- name: thread_expired_default
select thread, $2::text, active_at, $3::bigint
  from clew_thread
 where tenant = $1 and archived in (0, 1) and ttl_minutes is null and active_at <= (extract(epoch from clock_timestamp()) * 1000000)::bigint - $3::bigint * 60000000
   and ($2::text = $4::text or swept_at is null or swept_at < active_at)
   and not exists (select 1 from clew_run
                    where clew_run.tenant = $1 and clew_run.thread = clew_thread.thread
                      and (clew_run.status in ('pending', 'running')
                           or clew_run.updated_at > (extract(epoch from clock_timestamp()) * 1000000)::bigint - $3::bigint * 60000000))
 order by active_at, thread
 limit $5

-- name: thread_swept
update clew_thread set swept_at = $3 where tenant = $1 and thread = $2

-- name: thread_busy
select count(*) from clew_run
 where tenant = $1 and thread = $2 and (status in ('pending', 'running') or updated_at > $3)
