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

-- The fields of the record, each read once, when a script first needs it. False stands for one that is missing. What a script
-- has changed it must prefetch before it reads it from here.
local record = setmetatable({}, {__index = function(known, name)
  known[name] = redis.call('HGET', job, name)
  return known[name]
end})

-- Read fields of the record, whatever is known of them, with one command: it costs a fraction of one for each.
local function prefetch(...)
  local values = server.pcall('HMGET', job, ...)
  for i, name in ipairs({...}) do
    -- The ACL of an older version does not allow it, or the key is no hash.
    if values.err then record[name] = redis.call('HGET', job, name) else record[name] = values[i] end
  end
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

-- Return the limits of an owner. One that has none of its own has those of the empty name.
local known_limits = {}
local function limits_of(owner)
  if known_limits[owner] then return known_limits[owner] end
  local text = redis.call('HGET', keys.limits, owner) or redis.call('HGET', keys.limits, '')
  local read, limits = pcall(cjson.decode, text or '{}')
  known_limits[owner] = read and type(limits) == 'table' and limits or {}
  return known_limits[owner]
end

-- A Celery queue gets so many messages. Further ones are held back (queueing), so that owners take turns.
local WINDOW = 4

-- Return the interactive queue beside a batch queue; nil for one that is no batch queue.
local function interactive_of(queue)
  return string.match(queue, '^(.+)%.batch$')
end

-- Return what is special about a queue, as a sum: 1 messages are held back, 2 a queue is paused (this or another one), 4 batch
-- jobs have waited for too long somewhere. EXISTS counts a key as often as it is named. Nearly always the sum is 0.
local function specials(queue)
  return redis.call('EXISTS', keys.backlog .. queue, keys.paused, keys.paused,
    keys.batch_turns, keys.batch_turns, keys.batch_turns, keys.batch_turns)
end

-- Put messages that were held back into the queue, until it has `most` of them.
local function release(queue, most)
  local places = (most or WINDOW) - redis.call('LLEN', queue)
  while places > 0 do
    local ids = redis.call('ZRANGE', keys.backlog .. queue, 0, math.min(places, 100) - 1)
    if #ids == 0 then return end
    redis.call('ZREM', keys.backlog .. queue, unpack(ids))
    for _, id in ipairs(ids) do
      local message = server.pcall('HGET', keys.job .. id, 'held')
      if type(message) == 'string' then
        server.call('HDEL', keys.job .. id, 'held')
        redis.call('LPUSH', queue, message)
        places = places - 1
      end
    end
  end
end

-- include queueing

-- Put the message of a job into its queue, or hold it back if the queue has enough messages or is paused. `goes_on`: a stage
-- of a started job that follows one of the same queue is never held back but by a pause. `turn`: see hold in queueing.lua.
local function send(queue, id, message, goes_on, owner, turn)
  local interactive = interactive_of(queue)
  if interactive and redis.call('HGET', keys.job .. id, 'aged') then
    queue = queueing().lane_of_aged(queue, interactive)
  end
  local special = specials(queue)
  if special % 4 < 2 and (goes_on or special % 2 == 0 and redis.call('LLEN', queue) < WINDOW) then
    redis.call('LPUSH', queue, message)
  else
    queueing().send(queue, id, message, special, goes_on, owner, turn)
  end
end

-- The job waits for a worker to start `stage`. Its message, if the script was given one, goes into the queue.
local function set_waiting(stage, queue, fields, goes_on, owner)
  write(fields or {}, {'next', stage, 'queue', queue})
  redis.call('ZADD', keys.waiting .. queue, now, args.job_id)
  if not goes_on then redis.call('SADD', keys.waiting_queues, queue) end
  if ARGV[2] then
    send(queue, args.job_id, ARGV[2], goes_on, owner)
  else
    redis.call('LLEN', queue)  -- deletes what is no list, so that the message can be sent
  end
end

-- The job neither waits nor runs. Returns its queue, if it is one of ours.
local function clear_open()
  redis.call('HDEL', keys.running, args.job_id)
  local queue = record.queue
  local waiting = waiting_in(queue)
  if not waiting then return end
  redis.call('HDEL', keys.running_in .. queue, args.job_id)
  if redis.call('ZREM', waiting, args.job_id) == 1 and redis.call('ZREM', keys.backlog .. queue, args.job_id) == 1 then
    redis.call('HDEL', job, 'held')
  end
  return queue
end

-- Nothing names the job as one to look after. Its record is missing or cannot be read, so its queue is not known.
function forget_job()
  redis.call('HDEL', keys.running, args.job_id)
  redis.call('ZREM', keys.expiring, args.job_id)
  redis.call('ZREM', keys.refused, args.job_id)
  for _, queue in ipairs(redis.call('SMEMBERS', keys.waiting_queues)) do
    local waiting = waiting_in(queue)
    if waiting then redis.call('ZREM', waiting, args.job_id) end
    redis.call('HDEL', keys.running_in .. queue, args.job_id)
    redis.call('ZREM', keys.backlog .. queue, args.job_id)
    redis.call('ZREM', keys.parked .. queue, args.job_id)
  end
end

-- A damaged record may have lost its retention; it is then kept for a week.
local function retention()
  local seconds = number(record.retention)
  return seconds and seconds >= 1 and seconds <= 1e9 and math.floor(seconds) or 604800
end

-- include extras
