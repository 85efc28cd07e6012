-- Every query of the log in PostgreSQL, by the names of sqlite.sql. Only what CockroachDB, YugabyteDB and Citus have too.
-- A query called `X_locked` stands in for `X` in a transaction that writes: what it has read stays as it is.

-- name: head_read
select head.line, head.epoch, head.branch, head.seq, head.key_seq, head.top_branch, head.since, head.last_id,
       head.root_branch, head.root_seq, before.checkpoint_id, false
  from clew_head as head
  left join clew_step as before
    on before.tenant = head.tenant and before.line = head.line
   and before.branch = head.branch and before.seq = head.seq - 1
 where head.tenant = $1 and head.thread = $2 and head.ns = $3

-- name: head_read_locked
select head.line, head.epoch, head.branch, head.seq, head.key_seq, head.top_branch, head.since, head.last_id,
       head.root_branch, head.root_seq, before.checkpoint_id, false
  from clew_head as head
  left join clew_step as before
    on before.tenant = head.tenant and before.line = head.line
   and before.branch = head.branch and before.seq = head.seq - 1
 where head.tenant = $1 and head.thread = $2 and head.ns = $3
   for update of head

-- name: head_load
select head.line, head.epoch, head.branch, head.seq, head.key_seq, head.top_branch, head.since, head.last_id,
       head.root_branch, head.root_seq, before.checkpoint_id, false, pending.task_id, pending.epoch, pending.body
  from clew_head as head
  left join clew_step as before
    on before.tenant = head.tenant and before.line = head.line
   and before.branch = head.branch and before.seq = head.seq - 1
  left join clew_pending as pending
    on pending.tenant = head.tenant and pending.line = head.line
   and pending.branch = head.branch and pending.seq = head.seq
 where head.tenant = $1 and head.thread = $2 and head.ns = $3

-- name: head_line
select line from clew_head where tenant = $1 and thread = $2 and ns = $3

-- name: head_add
insert into clew_head (tenant, thread, ns, epoch, line, branch, seq, key_seq, top_branch, since, updated_at)
values ($1, $2, $3, $4, $5, 0, 0, 0, 0, 0, 0)
on conflict (tenant, thread, ns) do nothing

-- name: head_claim
update clew_head
   set epoch = $1, top_branch = $2
 where tenant = $3 and line = $4 and epoch = $5 and branch = $6 and seq = $7

-- name: head_check
select 1 from clew_head where tenant = $1 and line = $2 and epoch = $3

-- name: head_check_locked
select 1 from clew_head where tenant = $1 and line = $2 and epoch = $3 for share

-- name: head_move
update clew_head
   set epoch = $1, branch = $2, seq = $3, key_seq = coalesce($4, key_seq), top_branch = greatest(top_branch, $5), since = $6,
       last_id = $7,
       root_branch = $8, root_seq = $9, updated_at = $10
 where tenant = $11 and line = $12 and epoch = $13 and branch = $14 and seq = $15

-- name: step_add
insert into clew_step (tenant, line, branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body)
values ($1, $2, $3, $4, coalesce($5, (select key_seq from clew_head where tenant = $1 and line = $2)), $6, $7, $8, $9, $10, $11)

-- name: step_chain
select branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body
  from clew_step
 where tenant = $1 and line = $2 and branch = $3 and seq between $4 and $5
 order by seq

-- name: step_find
select branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body
  from clew_step
 where tenant = $1 and line = $2 and checkpoint_id = $3

-- name: step_id
select checkpoint_id from clew_step where tenant = $1 and line = $2 and branch = $3 and seq = $4

-- name: step_list
select branch, seq, key_seq, checkpoint_id
  from clew_step
 where tenant = $1 and line = $2 and checkpoint_id < coalesce($3, '\xffffffffffffffffffffffffffffffffff'::bytea)
 order by checkpoint_id desc
 limit case when $4::bigint < 0 then null else $4::bigint end

-- name: step_roots
select branch, seq, root_branch, root_seq from clew_step where tenant = $1 and line = $2 order by checkpoint_id desc

-- name: fork_add
insert into clew_fork (tenant, line, branch, parent_branch, parent_seq)
values ($1, $2, $3, $4, $5)
on conflict (tenant, line, branch)
   do update set parent_branch = excluded.parent_branch, parent_seq = excluded.parent_seq

-- name: fork_list
select branch, parent_branch, parent_seq from clew_fork where tenant = $1 and line = $2

-- name: pending_put
insert into clew_pending (tenant, line, branch, seq, task_id, epoch, body)
values ($1, $2, $3, $4, $5, $6, $7)
on conflict (tenant, line, branch, seq, task_id) do update set epoch = excluded.epoch, body = excluded.body

-- name: pending_read
select task_id, epoch, body from clew_pending where tenant = $1 and line = $2 and branch = $3 and seq = $4

-- name: pending_task
select task_id, epoch, body
  from clew_pending
 where tenant = $1 and line = $2 and branch = $3 and seq = $4 and task_id = $5

-- name: pending_drop
delete from clew_pending where tenant = $1 and line = $2 and branch = $3 and seq = $4 and task_id = $5

-- name: pending_clear
delete from clew_pending where tenant = $1 and line = $2 and branch = $3 and seq = $4

-- name: spill_add
insert into clew_spill (tenant, thread, hash, body) values ($1, $2, $3, $4) on conflict (tenant, thread, hash) do nothing

-- name: spill_read
select body from clew_spill where tenant = $1 and thread = $2 and hash = $3

-- Maintenance

-- name: head_list
select line, ns, branch, seq, top_branch from clew_head where tenant = $1 and thread = $2 order by ns

-- name: head_list_locked
select line, ns, branch, seq, top_branch from clew_head where tenant = $1 and thread = $2 order by ns for update

-- name: head_place
select thread, ns, branch, seq, top_branch from clew_head where tenant = $1 and line = $2

-- name: head_place_locked
select thread, ns, branch, seq, top_branch from clew_head where tenant = $1 and line = $2 for update

-- name: head_reset
update clew_head
   set branch = $1, seq = $2, key_seq = $3, top_branch = $4, since = $5, root_branch = $6, root_seq = $7
 where tenant = $8 and line = $9

-- name: head_branch
update clew_head set top_branch = greatest(top_branch, $1) where tenant = $2 and line = $3

-- name: head_drop
delete from clew_head where tenant = $1 and line = $2

-- name: head_copy
update clew_head
   set (branch, seq, key_seq, top_branch, since, last_id, root_branch, root_seq, updated_at) =
       (select branch, seq, key_seq, top_branch, since, last_id, root_branch, root_seq, updated_at
          from clew_head where tenant = $1 and line = $3)
 where tenant = $1 and line = $2

-- name: step_rows
select branch, seq, key_seq, checkpoint_id, run_id, created_at
  from clew_step where tenant = $1 and line = $2 order by branch, seq

-- name: step_rewrite
update clew_step set key_seq = $1, body = $2 where tenant = $3 and line = $4 and branch = $5 and seq = $6

-- name: step_rekey
update clew_step set key_seq = $1 where tenant = $2 and line = $3 and branch = $4 and seq between $5 and $6

-- name: step_drop
delete from clew_step where tenant = $1 and line = $2 and branch = $3 and seq = $4

-- name: step_drop_all
delete from clew_step where tenant = $1 and line = $2

-- name: step_copy
insert into clew_step (tenant, line, branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body)
select tenant, $2::bigint, branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body
  from clew_step where tenant = $1 and line = $3 order by branch, seq

-- name: run_steps
select line, branch, seq from clew_step where tenant = $1 and run_id = $2

-- name: fork_drop_all
delete from clew_fork where tenant = $1 and line = $2

-- name: fork_copy
insert into clew_fork (tenant, line, branch, parent_branch, parent_seq)
select tenant, $2::bigint, branch, parent_branch, parent_seq from clew_fork where tenant = $1 and line = $3

-- name: pending_list
select branch, seq, task_id, epoch, body from clew_pending where tenant = $1 and line = $2

-- name: pending_drop_all
delete from clew_pending where tenant = $1 and line = $2

-- name: pending_copy
insert into clew_pending (tenant, line, branch, seq, task_id, epoch, body)
select tenant, $2::bigint, branch, seq, task_id, 0, body from clew_pending where tenant = $1 and line = $3

-- name: spill_list
select hash from clew_spill where tenant = $1 and thread = $2

-- name: spill_drop
delete from clew_spill where tenant = $1 and thread = $2 and hash = $3

-- name: spill_drop_all
delete from clew_spill where tenant = $1 and thread = $2

-- name: spill_copy
insert into clew_spill (tenant, thread, hash, body)
select tenant, $2::text, hash, body from clew_spill where tenant = $1 and thread = $3

-- name: thread_names
select distinct thread from clew_head where tenant = $1 order by thread

-- name: thread_list
select head.thread, count(*) filter (where head.ns = ''), count(*), count(distinct head.line), min(step.created_at), max(step.created_at)
  from clew_head as head
  join clew_step as step on step.tenant = head.tenant and step.line = head.line
 where head.tenant = $1
 group by head.thread
 order by max(step.created_at) desc, head.thread

-- name: head_drop_thread
delete from clew_head where tenant = $1 and thread = $2

-- name: step_drop_span
delete from clew_step where tenant = $1 and line = $2 and branch = $3 and seq between $4 and $5

-- name: step_drop_thread
delete from clew_step
 where tenant = $1 and line in (select line from clew_head where tenant = $1 and thread = $2)

-- name: step_keys
select branch, seq, key_seq, checkpoint_id, run_id, created_at, length(body)
  from clew_step
 where tenant = $1 and line = $2 and (branch, seq) > ($3, $4)
 order by branch, seq
 limit $5

-- name: step_page
select branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body
  from clew_step
 where tenant = $1 and line = $2 and (branch, seq) > ($3, $4)
 order by branch, seq
 limit $5

-- name: step_branches
select distinct branch from clew_step where tenant = $1 and line = $2

-- name: chain_size
select coalesce(sum(length(body)), 0)
  from clew_step where tenant = $1 and line = $2 and branch = $3 and seq between $4 and $5

-- name: fork_drop
delete from clew_fork where tenant = $1 and line = $2 and branch = $3

-- name: fork_drop_thread
delete from clew_fork
 where tenant = $1 and line in (select line from clew_head where tenant = $1 and thread = $2)

-- name: pending_drop_span
delete from clew_pending where tenant = $1 and line = $2 and branch = $3 and seq between $4 and $5

-- name: pending_drop_thread
delete from clew_pending
 where tenant = $1 and line in (select line from clew_head where tenant = $1 and thread = $2)

-- name: spill_sizes
select hash, length(body) from clew_spill where tenant = $1 and thread = $2

-- name: now
select (extract(epoch from clock_timestamp()) * 1000000)::bigint

-- name: tenant_next
select min(tenant)
  from (select min(tenant) as tenant from clew_head where tenant > $1
        union all
        select min(tenant) from clew_thread where tenant > $1
        union all
        select min(tenant) from clew_assistant_version where tenant > $1) as found

-- name: thread_count
select count(distinct thread) from clew_head where tenant = $1

-- name: thread_page
select distinct thread from clew_head where tenant = $1 and thread > $2 order by thread limit $3

-- name: thread_touched
select max(updated_at) from clew_head where tenant = $1 and thread = $2

-- name: line_usage
select head.thread, head.line, head.ns, head.updated_at,
       count(step.seq), coalesce(sum(length(step.body)), 0), min(step.created_at), max(step.created_at)
  from clew_head as head
  left join clew_step as step on step.tenant = head.tenant and step.line = head.line
 where head.tenant = $1 and head.thread between $2 and $3
 group by head.thread, head.line, head.ns, head.updated_at
 order by head.thread, head.line

-- name: step_doomed
select count(*), coalesce(sum(length(body)), 0)
  from clew_step
 where tenant = $1 and line = $2 and checkpoint_id <> $3 and (checkpoint_id < $4 or created_at < $5)

-- name: step_oldest_kept
select checkpoint_id
  from clew_step
 where tenant = $1 and line = $2 and (checkpoint_id = $3 or (checkpoint_id >= $4 and created_at >= $5))
 order by checkpoint_id
 limit 1
