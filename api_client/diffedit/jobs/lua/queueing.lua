-- What concerns queues that are long or paused; made when it is needed, as `extras`.
--
-- Start-time fair queueing: the tag of a message is when its owner's turn begins, on a clock that counts turns. The next
-- message is that with the lowest tag. The tag of an owner's next message is higher by 1 / weight. An owner that had
-- none waiting begins where the queue is now.
local function queueing()
  local this = {}

  function this.is_paused(queue)
    return redis.call('HGET', keys.paused, queue)
  end

  -- Return the queues that workers of 0.2.0 read. They would release no message, so none is held back there.
  function this.queues_of_old_workers()
    local found = {}
    for _, worker in ipairs(redis.call('SMEMBERS', keys.workers)) do
      local read, info = pcall(cjson.decode, redis.call('GET', keys.heartbeat .. worker) or '')
      if read and type(info) == 'table' and (tonumber(info.contract) or 1) < 2 and type(info.queues) == 'table' then
        for _, queue in ipairs(info.queues) do
          if type(queue) == 'string' then found[queue] = true end
        end
      end
    end
    return found
  end

  function this.may_hold(queue)
    local answer = redis.call('GET', keys.holding .. queue)
    if not answer then
      answer = this.queues_of_old_workers()[queue] and 'no' or 'yes'
      redis.call('SET', keys.holding .. queue, answer, 'EX', 10)
    end
    return answer ~= 'no'
  end

  -- Hold the message of a job back. `first` is for a stage that goes on: it comes before all others. `turn` is for a job
  -- that returns: it waits one turn and its owner pays none. `lowest` is the first entry, if it is known.
  function this.hold(queue, id, message, owner, first, turn, lowest)
    local backlog, turns, key = keys.backlog .. queue, keys.turns .. queue, keys.job .. id
    lowest = lowest or redis.call('ZRANGE', backlog, 0, 0, 'WITHSCORES')
    local tag = number(lowest[2]) or 0
    if first then
      tag = tag - 1
    elseif turn then
      tag = tag + 1
    else
      if not lowest[1] then redis.call('DEL', turns) end
      local weight = owner ~= '' and number(limits_of(owner).weight) or 1
      tag = math.max(tag, number(redis.call('ZSCORE', turns, owner)) or tag)
      redis.call('ZADD', turns, tag + 1 / math.min(math.max(weight, 0.01), 100), owner)
    end
    if type(server.pcall('HSET', key, 'held', message)) == 'number' then redis.call('ZADD', backlog, tag, id) end
  end

  -- A message of the interactive queue beside a batch queue was taken, by an aged job.
  function this.release_beside(batch)
    local interactive = interactive_of(batch)
    if interactive and not this.is_paused(interactive) then release(interactive) end
  end

  -- A message was taken from any queue, because its job is gone.
  function this.release_all()
    for _, queue in ipairs(redis.call('SMEMBERS', keys.waiting_queues)) do
      if waiting_in(queue) and not this.is_paused(queue) then release(queue) end
    end
  end

  -- As `send`, for a queue that is special or long.
  function this.send(queue, id, message, special, goes_on, owner, turn)
    local is_paused = special % 4 >= 2 and this.is_paused(queue)
    if not is_paused and goes_on then
      redis.call('LPUSH', queue, message)
      return
    end
    local lowest = redis.call('ZRANGE', keys.backlog .. queue, 0, 0, 'WITHSCORES')
    -- While others are held back, the leader sees to it that they may be.
    if not is_paused and not lowest[1] and (redis.call('LLEN', queue) < WINDOW or not this.may_hold(queue)) then
      redis.call('LPUSH', queue, message)
    else
      this.hold(queue, id, message, owner or server.pcall('HGET', keys.job .. id, 'owner') or '', goes_on, turn, lowest)
    end
  end

  -- Hold back all messages that are in the queue, before all others. What is no message of a job stays. The Redis user of a
  -- client may not read queues; then the leader does it.
  function this.hold_all(queue)
    local messages = server.pcall('LRANGE', queue, 0, -1)
    if messages.err then return end
    redis.call('DEL', queue)
    local others = {}
    for _, message in ipairs(messages) do  -- the last one is the next one
      local id = string.match(message, '"job_id": ?"(%x+)"')
      if id and type(server.pcall('HGET', keys.job .. id, 'next')) == 'string' then
        this.hold(queue, id, message, '', true)
      elseif not id then
        table.insert(others, message)
      end
    end
    for i = #others, 1, -1 do redis.call('LPUSH', queue, others[i]) end
  end

  -- Note whether a batch job has waited for too long beside this interactive queue. Only then are its stages counted.
  function this.note_age(queue, batch_age)
    local oldest = redis.call('ZRANGE', keys.waiting .. queue .. '.batch', 0, 0, 'WITHSCORES')
    if oldest[2] and now - oldest[2] >= batch_age then
      redis.call('HSETNX', keys.batch_turns, queue, 0)
    else
      redis.call('HDEL', keys.batch_turns, queue)
    end
  end

  -- Forget owners whose turns are over: they begin where the queue is now.
  function this.forget_turns(queue)
    local lowest = redis.call('ZRANGE', keys.backlog .. queue, 0, 0, 'WITHSCORES')
    if not lowest[1] then
      redis.call('DEL', keys.turns .. queue)
      return
    end
    local oldest = redis.call('ZRANGE', keys.turns .. queue, 0, 999, 'WITHSCORES')
    for i = 1, #oldest, 2 do
      if tonumber(oldest[i + 1]) <= tonumber(lowest[2]) then redis.call('ZREM', keys.turns .. queue, oldest[i]) end
    end
  end

  -- A stage of an interactive queue starts while a batch job has waited for too long. After three of them, one message of
  -- the batch queue goes into the interactive one. The job is marked, so that its later stages go there, too.
  function this.give_turn(queue)
    local batch = queue .. '.batch'
    if redis.call('HINCRBY', keys.batch_turns, queue, 1) < 3 or this.is_paused(batch) then return end
    if redis.call('LLEN', batch) == 0 then release(batch) end
    local message = server.pcall('RPOP', batch)
    if type(message) ~= 'string' then return end  -- the ACL of 0.2.0 has no RPOP
    redis.call('HINCRBY', keys.batch_turns, queue, -3)
    local id = string.match(message, '"job_id": ?"(%x+)"')
    if id and type(server.pcall('HGET', keys.job .. id, 'next')) == 'string' then
      server.call('HSET', keys.job .. id, 'aged', now)
    end
    redis.call('LPUSH', queue, message)
    release(batch)
  end

  -- Return the queue for a stage of a batch job that has waited for too long: the interactive one, unless a queue is paused.
  -- Then it is the turn of three interactive stages.
  function this.lane_of_aged(queue, interactive)
    if this.is_paused(queue) or this.is_paused(interactive) then return queue end
    server.pcall('HINCRBY', keys.batch_turns, interactive, -3)
    return interactive
  end

  return this
end
