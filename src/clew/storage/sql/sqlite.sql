-- Every query of the log, by name. Parameters in the order of the text; `clew.storage.memory` answers the same names.

-- name: head_read
select head.line, head.epoch, head.branch, head.seq, head.key_seq, head.top_branch, head.since, head.last_id,
       head.root_branch, head.root_seq, before.checkpoint_id,
       exists (select 1 from clew_step as newest
                where newest.tenant = head.tenant and newest.line = head.line and newest.checkpoint_id = head.last_id
                  and (newest.branch, newest.seq) <> (head.branch, head.seq))
  from clew_head as head
  left join clew_step as before
    on before.tenant = head.tenant and before.line = head.line
   and before.branch = head.branch and before.seq = head.seq - 1
 where head.tenant = ? and head.thread = ? and head.ns = ?

-- name: head_line
select line from clew_head where tenant = ? and thread = ? and ns = ?

-- name: head_add
insert into clew_head (tenant, thread, ns, epoch, branch, seq, key_seq, top_branch, since, updated_at)
values (?, ?, ?, ?, 0, 0, 0, 0, 0, 0)
on conflict (tenant, thread, ns) do nothing

-- name: head_claim
update clew_head
   set epoch = ?, top_branch = ?
 where tenant = ? and line = ? and epoch = ? and branch = ? and seq = ?

-- name: head_check
select 1 from clew_head where tenant = ? and line = ? and epoch = ?

-- name: head_move
update clew_head
   set epoch = ?, branch = ?, seq = ?, key_seq = coalesce(?, key_seq), top_branch = max(top_branch, ?), since = ?,
       last_id = ?,
       root_branch = ?, root_seq = ?, updated_at = ?
 where tenant = ? and line = ? and epoch = ? and branch = ? and seq = ?

-- name: step_add
insert into clew_step (tenant, line, branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body)
values (?1, ?2, ?3, ?4, coalesce(?5, (select key_seq from clew_head where line = ?2)), ?6, ?7, ?8, ?9, ?10, ?11)

-- name: step_chain
select branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body
  from clew_step
 where tenant = ? and line = ? and branch = ? and seq between ? and ?
 order by seq

-- name: step_find
select branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body
  from clew_step
 where tenant = ? and line = ? and checkpoint_id = ?

-- name: step_id
select checkpoint_id from clew_step where tenant = ? and line = ? and branch = ? and seq = ?

-- name: step_list
select branch, seq, key_seq, checkpoint_id
  from clew_step
 where tenant = ? and line = ? and checkpoint_id < coalesce(?, x'ffffffffffffffffffffffffffffffffff')
 order by checkpoint_id desc
 limit ?

-- name: step_roots
select branch, seq, root_branch, root_seq from clew_step where tenant = ? and line = ? order by checkpoint_id desc

-- name: fork_add
insert into clew_fork (tenant, line, branch, parent_branch, parent_seq)
values (?, ?, ?, ?, ?)
on conflict (tenant, line, branch)
   do update set parent_branch = excluded.parent_branch, parent_seq = excluded.parent_seq

-- name: fork_list
select branch, parent_branch, parent_seq from clew_fork where tenant = ? and line = ?

-- name: pending_put
insert into clew_pending (tenant, line, branch, seq, task_id, epoch, body)
values (?, ?, ?, ?, ?, ?, ?)
on conflict (tenant, line, branch, seq, task_id) do update set epoch = excluded.epoch, body = excluded.body

-- name: pending_read
select task_id, epoch, body from clew_pending where tenant = ? and line = ? and branch = ? and seq = ?

-- name: pending_task
select task_id, epoch, body
  from clew_pending
 where tenant = ? and line = ? and branch = ? and seq = ? and task_id = ?

-- name: pending_drop
delete from clew_pending where tenant = ? and line = ? and branch = ? and seq = ? and task_id = ?

-- name: pending_clear
delete from clew_pending where tenant = ? and line = ? and branch = ? and seq = ?

-- name: spill_add
insert into clew_spill (tenant, thread, hash, body) values (?, ?, ?, ?) on conflict (tenant, thread, hash) do nothing

-- name: spill_read
select body from clew_spill where tenant = ? and thread = ? and hash = ?

-- Maintenance

-- name: head_list
select line, ns, branch, seq, top_branch from clew_head where tenant = ? and thread = ? order by ns

-- name: head_place
select thread, ns, branch, seq, top_branch from clew_head where tenant = ? and line = ?

-- name: head_reset
update clew_head
   set branch = ?, seq = ?, key_seq = ?, top_branch = ?, since = ?, root_branch = ?, root_seq = ?
 where tenant = ? and line = ?

-- name: head_branch
update clew_head set top_branch = max(top_branch, ?) where tenant = ? and line = ?

-- name: head_drop
delete from clew_head where tenant = ? and line = ?

-- name: head_drop_thread
delete from clew_head where tenant = ? and thread = ?

-- name: head_copy
update clew_head
   set (branch, seq, key_seq, top_branch, since, last_id, root_branch, root_seq, updated_at) =
       (select branch, seq, key_seq, top_branch, since, last_id, root_branch, root_seq, updated_at
          from clew_head where tenant = ?1 and line = ?3)
 where tenant = ?1 and line = ?2

-- name: step_rows
select branch, seq, key_seq, checkpoint_id, run_id, created_at
  from clew_step where tenant = ? and line = ? order by branch, seq

-- name: step_rewrite
update clew_step set key_seq = ?, body = ? where tenant = ? and line = ? and branch = ? and seq = ?

-- name: step_rekey
update clew_step set key_seq = ? where tenant = ? and line = ? and branch = ? and seq between ? and ?

-- name: step_drop
delete from clew_step where tenant = ? and line = ? and branch = ? and seq = ?

-- name: step_drop_span
delete from clew_step where tenant = ? and line = ? and branch = ? and seq between ? and ?

-- name: step_drop_all
delete from clew_step where tenant = ? and line = ?

-- name: step_drop_thread
delete from clew_step
 where tenant = ?1 and line in (select line from clew_head where tenant = ?1 and thread = ?2)

-- name: step_copy
insert into clew_step (tenant, line, branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body)
select tenant, ?2, branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body
  from clew_step where tenant = ?1 and line = ?3 order by branch, seq

-- name: step_keys
select branch, seq, key_seq, checkpoint_id, run_id, created_at, length(body)
  from clew_step
 where tenant = ? and line = ? and (branch, seq) > (?, ?)
 order by branch, seq
 limit ?

-- name: step_page
select branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body
  from clew_step
 where tenant = ? and line = ? and (branch, seq) > (?, ?)
 order by branch, seq
 limit ?

-- name: step_branches
select distinct branch from clew_step where tenant = ? and line = ?

-- name: chain_size
select coalesce(sum(length(body)), 0)
  from clew_step where tenant = ? and line = ? and branch = ? and seq between ? and ?

-- name: run_steps
select line, branch, seq from clew_step where tenant = ? and run_id = ?

-- name: fork_drop_all
delete from clew_fork where tenant = ? and line = ?

-- name: fork_drop
delete from clew_fork where tenant = ? and line = ? and branch = ?

-- name: fork_drop_thread
delete from clew_fork
 where tenant = ?1 and line in (select line from clew_head where tenant = ?1 and thread = ?2)

-- name: fork_copy
insert into clew_fork (tenant, line, branch, parent_branch, parent_seq)
select tenant, ?2, branch, parent_branch, parent_seq from clew_fork where tenant = ?1 and line = ?3

-- name: pending_list
select branch, seq, task_id, epoch, body from clew_pending where tenant = ? and line = ?

-- name: pending_drop_span
delete from clew_pending where tenant = ? and line = ? and branch = ? and seq between ? and ?

-- name: pending_drop_thread
delete from clew_pending
 where tenant = ?1 and line in (select line from clew_head where tenant = ?1 and thread = ?2)

-- name: pending_drop_all
delete from clew_pending where tenant = ? and line = ?

-- name: pending_copy
insert into clew_pending (tenant, line, branch, seq, task_id, epoch, body)
select tenant, ?2, branch, seq, task_id, epoch, body from clew_pending where tenant = ?1 and line = ?3

-- name: spill_list
select hash from clew_spill where tenant = ? and thread = ?

-- name: spill_sizes
select hash, length(body) from clew_spill where tenant = ? and thread = ?

-- name: spill_drop
delete from clew_spill where tenant = ? and thread = ? and hash = ?

-- name: spill_drop_all
delete from clew_spill where tenant = ? and thread = ?

-- name: spill_copy
insert into clew_spill (tenant, thread, hash, body)
select tenant, ?2, hash, body from clew_spill where tenant = ?1 and thread = ?3

-- name: thread_names
select distinct thread from clew_head where tenant = ? order by thread

-- name: thread_list
select head.thread, sum(head.ns = ''), count(*), count(distinct head.line), min(step.created_at), max(step.created_at)
  from clew_head as head
  join clew_step as step on step.tenant = head.tenant and step.line = head.line
 where head.tenant = ?
 group by head.thread
 order by max(step.created_at) desc, head.thread

-- Retention. Of the steps of a namespace go those with an id below `cut` and those made before `since`, but never the
-- newest one.

-- name: now
select cast((julianday('now') - 2440587.5) * 86400000000 as integer)

-- name: tenant_next
select min(tenant)
  from (select min(tenant) as tenant from clew_head where tenant > ?1
        union all
        select min(tenant) from clew_thread where tenant > ?1
        union all
        select min(tenant) from clew_assistant_version where tenant > ?1)

-- name: thread_count
select count(distinct thread) from clew_head where tenant = ?

-- name: thread_page
select distinct thread from clew_head where tenant = ? and thread > ? order by thread limit ?

-- name: thread_touched
select max(updated_at) from clew_head where tenant = ? and thread = ?

-- name: line_usage
select head.thread, head.line, head.ns, head.updated_at,
       count(step.seq), coalesce(sum(length(step.body)), 0), min(step.created_at), max(step.created_at)
  from clew_head as head
  left join clew_step as step on step.tenant = head.tenant and step.line = head.line
 where head.tenant = ? and head.thread between ? and ?
 group by head.thread, head.line, head.ns, head.updated_at
 order by head.thread, head.line

-- name: step_doomed
select count(*), coalesce(sum(length(body)), 0)
  from clew_step
 where tenant = ? and line = ? and checkpoint_id <> ? and (checkpoint_id < ? or created_at < ?)

-- name: step_oldest_kept
select checkpoint_id
  from clew_step
 where tenant = ? and line = ? and (checkpoint_id = ? or (checkpoint_id >= ? and created_at >= ?))
 order by checkpoint_id
 limit 1
