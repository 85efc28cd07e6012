-- Every query of the log, by name. Parameters in the order of the text; `clew.storage.memory` answers the same names.

-- name: head_read
select head.line, head.epoch, head.branch, head.seq, head.key_seq, head.top_branch, head.since, head.last_id,
       head.root_branch, head.root_seq, before.checkpoint_id
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
   set epoch = ?, branch = ?, seq = ?, key_seq = ?, top_branch = max(top_branch, ?), since = ?, last_id = ?,
       root_branch = ?, root_seq = ?, updated_at = ?
 where tenant = ? and line = ? and epoch = ? and branch = ? and seq = ?

-- name: step_add
insert into clew_step (tenant, line, branch, seq, key_seq, checkpoint_id, root_branch, root_seq, run_id, created_at, body)
values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)

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
insert into clew_fork (tenant, line, branch, parent_branch, parent_seq) values (?, ?, ?, ?, ?)

-- name: fork_list
select branch, parent_branch, parent_seq from clew_fork where tenant = ? and line = ?

-- name: pending_put
insert into clew_pending (tenant, line, branch, seq, task_id, epoch, body)
values (?, ?, ?, ?, ?, ?, ?)
on conflict (tenant, line, branch, seq, task_id) do update set epoch = excluded.epoch, body = excluded.body

-- name: pending_read
select epoch, body from clew_pending where tenant = ? and line = ? and branch = ? and seq = ?

-- name: pending_clear
delete from clew_pending where tenant = ? and line = ? and branch = ? and seq = ?

-- name: spill_add
insert into clew_spill (tenant, thread, hash, body) values (?, ?, ?, ?) on conflict (tenant, thread, hash) do nothing

-- name: spill_read
select body from clew_spill where tenant = ? and thread = ? and hash = ?
