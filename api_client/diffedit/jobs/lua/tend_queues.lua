#!lua flags=allow-oom
-- What the leader does for all queues: release messages, in case one of those in a queue was lost; send all of them while a
-- worker of 0.2.0 reads the queue; hold back what came into a paused queue; and correct which jobs run in a queue, because
-- such workers do not note it.
-- include prelude
local running, this = {}, queueing()
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
    local holds = this.find_holding(queue) == 'yes'
    if this.is_paused(queue) then
      this.hold_all(queue)
    else
      this.release(queue, not holds and 1000 or nil)
    end
    this.forget_turns(queue)
  end
end
return ''
