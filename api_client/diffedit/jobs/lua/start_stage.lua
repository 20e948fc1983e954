#!lua flags=allow-oom
-- Let a worker start the stage that the job waits for. The job of a dead worker counts as waiting.
-- Arguments: job_id, worker, stage, max_attempts, contract (of the worker), alone (whether it runs nothing beside it).
-- Returns the record, 'max_attempts' if no attempt is left, 'newer' if only a worker of a newer contract can run the job,
-- 'refused' if this worker refused the stage before and another live worker has not tried it yet, 'alone' if the stage must
-- run alone: it was started before and not finished, or a lost worker would cost its only attempt; 'owner_busy' if as many jobs
-- of its owner have started as may run at the same time; or 'paused' if its queue is paused.
-- include prelude
local fields = redis.call('HGETALL', job)
setmetatable(record, nil)
for i = 1, #fields, 2 do record[fields[i]] = fields[i + 1] end
local queue = record.queue
local waiting = waiting_in(queue)
-- A message was taken from the queue, so another one may follow, whatever becomes of this one.
local special = waiting and specials(queue) or 0
local is_paused = special % 4 >= 2 and queueing().is_paused(queue)
if special % 2 == 1 and not is_paused then release(queue) end
if waiting and record.aged then queueing().release_beside(queue) end
if not waiting then queueing().release_all() end
-- include only_open
if record.next ~= args.stage then return 'elsewhere' end
if holder and holder ~= args.worker and is_alive(holder) then return 'elsewhere' end
if (tonumber(record.contract) or 1) > args.contract then return 'newer' end
if record.moved or record['refused:' .. args.stage] then
-- include workers
  -- The message that a job had before it was moved is in the queue of another profile.
  if record.moved and not contains((info_of(args.worker) or {}).queues, queue) then return 'elsewhere' end
  local refused = refusers(args.stage)
  if not is_paused and contains(refused, name_of(args.worker)) and has_untried_worker(workers_of(queue), refused) then
    return 'refused'
  end
end
if is_paused then return 'paused' end
local attempts = 'attempts:' .. args.stage
local started = number(record[attempts]) or 0
if started >= args.max_attempts then return 'max_attempts' end
if not args.alone and (started > 0 or args.max_attempts == 1) then return 'alone' end
local is_first, owner = not record.started, record.owner
if is_first and owner and extras().room_of(owner) < 1 then return 'owner_busy' end
local due_at, waited = waiting and redis.call('ZSCORE', waiting, args.job_id), 'waited:' .. args.stage
if waiting then
  redis.call('ZREM', waiting, args.job_id)
  redis.call('HSET', keys.running_in .. queue, args.job_id, args.worker)
end
redis.call('HSET', keys.running, args.job_id, args.worker)
local changes = {'stage', args.stage, 'step', 0, 'steps', 0, 'worker', args.worker, attempts, started + 1}
if due_at or record[waited] then
  table.insert(changes, waited)
  table.insert(changes, due_at and string.format('%.3f', math.max(now - due_at, 0)) or '')
end
if is_first then
  table.insert(changes, 'started')
  table.insert(changes, now)
end
redis.call('HSET', job, unpack(changes))
if is_first then
  if record.webhook then extras().queue_webhook('started') end
  if owner then
    redis.call('SADD', keys.started .. owner, args.job_id)
    extras().forget_parked(owner)
  end
  local deadline_at = number(record.deadline_at)
  if deadline_at then
    redis.call('ZADD', keys.expiring, deadline_at, args.job_id)
  else
    redis.call('ZREM', keys.expiring, args.job_id)
  end
end
if special >= 4 and not interactive_of(queue) then queueing().give_turn(queue) end
-- The caller takes the last value of a field.
for _, change in ipairs(changes) do table.insert(fields, tostring(change)) end
return fields
