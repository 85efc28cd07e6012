-- Queries on the table of threads, by name. As everywhere, `tenant` is in each of them.

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

-- name: thread_title
update clew_thread
   set title = $3, title_key = $4
 where tenant = $1 and thread = $2 and title is null and body is null

-- name: thread_remove
delete from clew_thread where tenant = $1 and thread = $2

-- name: thread_list_mine
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata::text, body
  from clew_thread
 where tenant = $1
   and user_id = $2
   and archived = $3
   and (active_at, thread) < ($4, $5)
   and ($6::text is null or status = $6)
   and ($7::text is null or position($7::text in title_key) > 0)
   and ($8::text is null or metadata @> $8::text::jsonb)
 order by active_at desc, thread desc
 limit $9

-- name: thread_list_everyone
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata::text, body
  from clew_thread
 where tenant = $1
   and ($2::text is null)
   and archived = $3
   and (active_at, thread) < ($4, $5)
   and ($6::text is null or status = $6)
   and ($7::text is null or position($7::text in title_key) > 0)
   and ($8::text is null or metadata @> $8::text::jsonb)
 order by active_at desc, thread desc
 limit $9

-- name: thread_search
select thread, user_id, status, archived, created_at, updated_at, active_at, last_message_at, archived_at, ttl_minutes, ttl_strategy, title, metadata::text, body
  from clew_thread
 where tenant = $1
   and ($2::text is null or user_id = $2::text)
   and ($3::integer is null or archived = $3::integer)
   and ($4::text is null or status = $4::text)
   and ($5::text is null or position($5::text in title_key) > 0)
   and ($6::text is null or metadata @> $6::text::jsonb)
   and ($7::text is null or thread in (select jsonb_array_elements_text($7::text::jsonb)))
 order by case when $9::integer = 0 then case $8::text when 'created_at' then created_at when 'updated_at' then updated_at when 'state_updated_at' then active_at end end asc,
          case when $9::integer = 1 then case $8::text when 'created_at' then created_at when 'updated_at' then updated_at when 'state_updated_at' then active_at end end desc,
          case when $9::integer = 0 then case $8::text when 'status' then status collate "C" when 'thread_id' then thread end end asc,
          case when $9::integer = 1 then case $8::text when 'status' then status collate "C" when 'thread_id' then thread end end desc,
          active_at desc, thread desc
 limit $10::bigint offset $11::bigint

-- name: thread_sought
select count(*)
  from clew_thread
 where tenant = $1
   and ($2::text is null or user_id = $2::text)
   and ($3::integer is null or archived = $3::integer)
   and ($4::text is null or status = $4::text)
   and ($5::text is null or position($5::text in title_key) > 0)
   and ($6::text is null or metadata @> $6::text::jsonb)
   and ($7::text is null or thread in (select jsonb_array_elements_text($7::text::jsonb)))

-- name: run_drop_thread
delete from clew_run where tenant = $1 and thread = $2

-- name: event_drop_thread
delete from clew_event
 where tenant = $1 and run_id in (select run_id from clew_run where tenant = $1 and thread = $2)

-- name: cron_drop_thread
delete from clew_cron where tenant = $1 and thread = $2

-- name: cron_body_list
select cron_id, user_id, body from clew_cron where tenant = $1
