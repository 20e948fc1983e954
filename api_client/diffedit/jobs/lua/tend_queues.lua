#!lua flags=allow-oom
-- What the leader does for all queues: release messages, in case one of those in a queue was lost; send all of them while a
-- worker of 0.2.0 reads the queue; hold back what came into a paused queue; and correct which jobs run in a queue, because
-- such workers do not note it. Arguments: batch_age (seconds after which a batch job takes turns with interactive ones).
-- include prelude
local running, this = {}, queueing()
local is_old = this.queues_of_old_workers()
local holders = redis.call('HGETALL', keys.running)
for i = 1, #holders, 2 do
  local queue = server.pcall('HGET', keys.job .. holders[i], 'queue')
  if type(queue) == 'string' and waiting_in(queue) then
    running[queue] = running[queue] or {}
    running[queue][holders[i]] = holders[i + 1]
  end
end
for _, queue in ipairs(redis.call('SMEMBERS', keys.waiting_queues)) do
  if waiting_in(queue) then
    local right, noted = running[queue] or {}, redis.call('HGETALL', keys.running_in .. queue)
    for i = 1, #noted, 2 do
      if right[noted[i]] == noted[i + 1] then
        right[noted[i]] = nil
      else
        redis.call('HDEL', keys.running_in .. queue, noted[i])
      end
    end
    for id, worker in pairs(right) do redis.call('HSET', keys.running_in .. queue, id, worker) end
    redis.call('SET', keys.holding .. queue, is_old[queue] and 'no' or 'yes', 'EX', 10)
    if this.is_paused(queue) then
      this.hold_all(queue)
    else
      release(queue, is_old[queue] and 1000 or nil)
    end
    this.forget_turns(queue)
    if not interactive_of(queue) then this.note_age(queue, args.batch_age) end
  end
end
return ''
