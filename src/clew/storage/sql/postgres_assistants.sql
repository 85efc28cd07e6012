-- Queries on the tables of assistants, by name.

-- name: assistant_add
insert into clew_assistant (tenant, user_id, assistant, version, top, created_at, updated_at)
values ($1, $2, $3, 1, 1, $4, $4)
on conflict (tenant, user_id, assistant) do nothing

-- name: assistant_get
select head.assistant, head.version, head.top, head.created_at, head.updated_at, said.body
  from clew_assistant as head
  join clew_assistant_version as said using (tenant, user_id, assistant, version)
 where head.tenant = $1 and head.user_id = $2 and head.assistant = $3

-- name: assistant_get_locked
select head.assistant, head.version, head.top, head.created_at, head.updated_at, said.body
  from clew_assistant as head
  join clew_assistant_version as said using (tenant, user_id, assistant, version)
 where head.tenant = $1 and head.user_id = $2 and head.assistant = $3
   for update of head

-- name: assistant_list
select head.assistant, head.version, head.top, head.created_at, head.updated_at, said.body
  from clew_assistant as head
  join clew_assistant_version as said using (tenant, user_id, assistant, version)
 where head.tenant = $1 and head.user_id = $2

-- name: assistant_set
update clew_assistant
   set version = $4, top = $5, updated_at = $6
 where tenant = $1 and user_id = $2 and assistant = $3

-- name: assistant_remove
delete from clew_assistant where tenant = $1 and user_id = $2 and assistant = $3

-- name: assistant_version_add
insert into clew_assistant_version (tenant, user_id, assistant, version, created_at, body)
values ($1, $2, $3, $4, $5, $6)

-- name: assistant_version_list
select version, created_at, body
  from clew_assistant_version
 where tenant = $1 and user_id = $2 and assistant = $3
 order by version desc

-- name: assistant_version_remove
delete from clew_assistant_version where tenant = $1 and user_id = $2 and assistant = $3

-- name: assistant_body_list
select user_id, assistant, version, body from clew_assistant_version where tenant = $1

-- name: assistant_body_set
update clew_assistant_version
   set body = $5
 where tenant = $1 and user_id = $2 and assistant = $3 and version = $4
