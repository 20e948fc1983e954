-- What concerns owners and kept objects. Lua makes each function anew whenever a script runs, and most scripts need none of
-- these, so they are made when they are needed.
local function extras()
  local this = {}

  -- Return the keys of the objects that the record names as the job's own. What users wrote is not searched.
  function this.objects_of_job()
    local found = {}
    local read, request = pcall(cjson.decode, redis.call('HGET', job, 'request') or '')
    for _, name in ipairs({'image', 'mask'}) do
      local key = read and type(request) == 'table' and request[name]
      if type(key) == 'string' and string.match(key, '^inputs/%x%x/%x+%.%l+$') then table.insert(found, key) end
    end
    local fields = redis.call('HGETALL', job)
    for i = 1, #fields, 2 do
      if string.match(fields[i], '^artifact:') and string.match(fields[i + 1], '^artifacts/[a-z_]+/%x%x/%x+%.%l+$') then
        table.insert(found, fields[i + 1])
      end
    end
    return found
  end

  -- Keep the objects of the job until this time. Then garbage collection deletes those that no record names any more.
  function this.keep_objects(until_when)
    for _, key in ipairs(this.objects_of_job()) do redis.call('ZADD', keys.kept, 'GT', until_when, key) end
  end

  -- A key that has a time to live keeps the longer one.
  function this.extend(key, seconds)
    if redis.call('EXPIRE', key, seconds, 'NX') == 0 then redis.call('EXPIRE', key, seconds, 'GT') end
  end

  -- A version that does not know of owners may have ended some of these jobs.
  function this.forget_ended_jobs(owner, ids)
    for _, id in ipairs(ids) do
      local request = server.pcall('HGET', keys.job .. id, 'request')
      if type(request) ~= 'string' or server.call('HGET', keys.job .. id, 'outcome') then
        redis.call('ZREM', keys.open .. owner, id)
        redis.call('SREM', keys.started .. owner, id)
      end
    end
  end

  -- Return how many more jobs of the owner may start. It may be below 0.
  function this.room_of(owner)
    local limit = number(limits_of(owner).max_running)
    if not limit then return 100 end
    local started = redis.call('SCARD', keys.started .. owner)
    if started >= limit then
      this.forget_ended_jobs(owner, redis.call('SMEMBERS', keys.started .. owner))
      started = redis.call('SCARD', keys.started .. owner)
    end
    return limit - started
  end

  -- The job is none that waits until others of its owner have ended.
  function this.forget_parked(owner)
    if redis.call('ZREM', keys.parked_of .. owner, args.job_id) == 0 then return end
    redis.call('ZREM', keys.parked .. (redis.call('HGET', job, 'queue') or ''), args.job_id)
    redis.call('HDEL', job, 'parked')
  end

  -- Send as many of the owner's jobs that wait for others of the owner as may start now.
  function this.unpark(owner)
    local room = redis.call('ZCARD', keys.parked_of .. owner) > 0 and this.room_of(owner) or 0
    if room < 1 then return end
    for _, id in ipairs(redis.call('ZRANGE', keys.parked_of .. owner, 0, room - 1)) do
      redis.call('ZREM', keys.parked_of .. owner, id)
      local message = server.pcall('HGET', keys.job .. id, 'parked')
      local queue = type(message) == 'string' and server.call('HGET', keys.job .. id, 'queue')
      if waiting_in(queue) then
        redis.call('ZREM', keys.parked .. queue, id)
        server.call('HDEL', keys.job .. id, 'parked')
        send(queue, id, message, true)
      end
    end
  end

  -- The job has ended, so it is not one of the open jobs of its owner any more.
  function this.leave_open_jobs(owner)
    this.forget_parked(owner)
    redis.call('ZREM', keys.open .. owner, args.job_id)
    redis.call('SREM', keys.started .. owner, args.job_id)
    this.unpark(owner)
    -- The owner may have been away for longer than the index lives.
    redis.call('ZADD', keys.owner .. owner, number(redis.call('HGET', job, 'created')) or now, args.job_id)
    this.extend(keys.owner .. owner, retention())
  end

  -- Note in the record of a job, if it is there, what became of an event.
  function this.note_delivery(job_id, event, state, attempts, at, reason)
    local key = keys.job .. job_id
    if type(server.pcall('HGET', key, 'request')) ~= 'string' then return end
    local delivery = {state = state, attempts = tonumber(attempts), at = string.format('%.6f', at), error = reason}
    server.call('HSET', key, 'delivery:' .. event, cjson.encode(delivery))
  end

  -- Put an event into the outbox, with all that is sent: the record may be gone before it is delivered.
  -- The events of a job that was retried in place have ids of their own.
  function this.queue_webhook(event)
    local revived = redis.call('HGET', job, 'revived')
    local id = args.job_id .. '.' .. event .. (revived and '.' .. revived or '')
    local key = keys.webhook .. id
    local attempts = number(redis.call('HGET', key, 'attempts')) or 0
    redis.call('HSET', key, 'attempts', attempts)
    redis.call('HDEL', key, 'first')
    local copied = {'webhook', 'owner', 'tags', 'error', 'created', 'started', 'finished', 'outcome', 'traceparent'}
    for _, name in ipairs(copied) do
      local value = redis.call('HGET', job, name)
      if value then redis.call('HSET', key, name, value) end
    end
    redis.call('EXPIRE', key, 30 * 86400)
    redis.call('ZADD', keys.webhooks, now, id)
    this.note_delivery(args.job_id, event, 'pending', attempts, now)
  end

  return this
end
