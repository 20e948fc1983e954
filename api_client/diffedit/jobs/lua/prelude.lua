-- Included by every script. ARGV[1] is a JSON object of named arguments. What is written as keys.job, for example, becomes
-- the name itself before the script is loaded.
-- The clock is the server's, so that the clocks of other hosts do not matter.
local args = cjson.decode(ARGV[1])
local job = keys.job .. (args.job_id or '')
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])

-- Whatever a key holds, the script goes on. What has another type, or is no number where one is counted, is noted and
-- deleted, and the command is repeated. Only a record of a job is never deleted: the script ends with an error.
local server, forget_job = redis
local redis = {}
function redis.call(command, key, ...)
  local answer = server.pcall(command, key, ...)
  if type(answer) ~= 'table' or not answer.err then return answer end
  local wrong_type = string.find(answer.err, 'WRONGTYPE', 1, true)
  if not wrong_type and not string.find(answer.err, 'hash value is not an integer', 1, true)
      and not string.find(answer.err, 'would overflow', 1, true) then
    error(answer)
  end
  server.pcall('ZADD', keys.damaged, now, key)
  server.pcall('EXPIRE', keys.damaged, 3600)
  if string.sub(key, 1, #keys.job) == keys.job then
    if wrong_type and key == job then forget_job() end
    error({err = 'DAMAGED ' .. key})
  end
  server.call('DEL', key)
  return server.call(command, key, ...)
end

-- Return the number that the text stands for, if there is one that can be used; else nil.
local function number(text)
  local value = tonumber(text or nil)
  return value and value > -1e15 and value < 1e15 and value or nil  -- NaN is neither
end

local function write(fields, more)
  local flat = more or {}
  for name, value in pairs(fields) do
    table.insert(flat, name)
    table.insert(flat, value)
  end
  redis.call('HSET', job, unpack(flat))
end

-- Whether each live worker has had the time to send a heartbeat. It has not if the server was away (send_heartbeat.lua).
local function heartbeats_are_complete()
  return redis.call('EXISTS', keys.beating) == 1 and redis.call('EXISTS', keys.outage) == 0
end

-- Whether the worker may be running its stage: its heartbeat is there, or cannot be expected to be there.
local function is_alive(worker)
  return redis.call('GET', keys.heartbeat .. worker) or not heartbeats_are_complete()
end

-- Count a stage that was done or refused, for each minute (`JobStore.recent_stages`).
local function count_stage(result)
  local minute = keys.stages .. math.floor(now / 60)
  if redis.call('HINCRBY', minute, result, 1) == 1 then redis.call('EXPIRE', minute, 1200) end
end

-- Return the key of the jobs that wait in a queue; nil if a record or a set names what is no queue of ours.
local function waiting_in(queue)
  return queue and string.sub(queue, 1, #keys.queue) == keys.queue and keys.waiting .. queue or nil
end

-- The job waits for a worker to start `stage`. Its message, if the script was given one, goes into the queue.
local function set_waiting(stage, queue, fields)
  write(fields or {}, {'next', stage, 'queue', queue})
  redis.call('ZADD', keys.waiting .. queue, now, args.job_id)
  redis.call('SADD', keys.waiting_queues, queue)
  if ARGV[2] then
    redis.call('LPUSH', queue, ARGV[2])
  else
    redis.call('LLEN', queue)  -- deletes what is no list, so that the message can be sent
  end
end

-- The job neither waits nor runs.
local function clear_open()
  redis.call('HDEL', keys.running, args.job_id)
  local waiting = waiting_in(redis.call('HGET', job, 'queue'))
  if waiting then redis.call('ZREM', waiting, args.job_id) end
end

-- Nothing names the job as one to look after. Its record is missing or cannot be read, so its queue is not known.
function forget_job()
  redis.call('HDEL', keys.running, args.job_id)
  redis.call('ZREM', keys.expiring, args.job_id)
  redis.call('ZREM', keys.refused, args.job_id)
  for _, queue in ipairs(redis.call('SMEMBERS', keys.waiting_queues)) do
    local waiting = waiting_in(queue)
    if waiting then redis.call('ZREM', waiting, args.job_id) end
    redis.call('ZREM', keys.parked .. queue, args.job_id)
  end
end

-- A damaged record may have lost its retention; it is then kept for a week.
local function retention()
  local seconds = number(redis.call('HGET', job, 'retention'))
  return seconds and seconds >= 1 and seconds <= 1e9 and math.floor(seconds) or 604800
end

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

  -- Return the limits of an owner. One that has none of its own has those of the empty name.
  function this.limits_of(owner)
    local text = redis.call('HGET', keys.limits, owner) or redis.call('HGET', keys.limits, '')
    local read, limits = pcall(cjson.decode, text or '{}')
    return read and type(limits) == 'table' and limits or {}
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
    local limit = number(this.limits_of(owner).max_running)
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
        redis.call('LPUSH', queue, message)
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
  function this.queue_webhook(event)
    local key = keys.webhook .. args.job_id .. '.' .. event
    local attempts = number(redis.call('HGET', key, 'attempts')) or 0
    redis.call('HSET', key, 'attempts', attempts)
    redis.call('HDEL', key, 'first')
    for _, name in ipairs({'webhook', 'owner', 'tags', 'error', 'created', 'started', 'finished', 'outcome'}) do
      local value = redis.call('HGET', job, name)
      if value then redis.call('HSET', key, name, value) end
    end
    redis.call('EXPIRE', key, 30 * 86400)
    redis.call('ZADD', keys.webhooks, now, args.job_id .. '.' .. event)
    this.note_delivery(args.job_id, event, 'pending', attempts, now)
  end

  return this
end

-- The copy of the submission in the bucket is not needed any more. The leader deletes it.
local function settle()
  redis.call('ZADD', keys.settled, now, args.job_id)
end

local function end_job(outcome)
  redis.call('HSET', job, 'outcome', outcome, 'finished', now)
  settle()
  redis.call('EXPIRE', job, retention())
  local idempotency = redis.call('HGET', job, 'idempotency')
  -- A record that somebody has changed may name the key of another job.
  if idempotency and redis.call('GET', keys.idempotency .. idempotency) == args.job_id then
    redis.call('EXPIRE', keys.idempotency .. idempotency, retention())
  end
  redis.call('ZREM', keys.expiring, args.job_id)
  redis.call('ZREM', keys.refused, args.job_id)
  clear_open()
  local owner, keep = redis.call('HGET', job, 'owner'), number(redis.call('HGET', job, 'keep'))
  if owner then extras().leave_open_jobs(owner) end
  if keep then extras().keep_objects(now + keep) end
  if redis.call('HGET', job, 'webhook') then extras().queue_webhook(outcome) end
end
