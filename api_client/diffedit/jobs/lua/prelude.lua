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
  end
end

-- A damaged record may have lost its retention; it is then kept for a week.
local function retention()
  local seconds = number(redis.call('HGET', job, 'retention'))
  return seconds and seconds >= 1 and seconds <= 1e9 and math.floor(seconds) or 604800
end

local function end_job(outcome)
  redis.call('HSET', job, 'outcome', outcome, 'finished', now)
  redis.call('EXPIRE', job, retention())
  local idempotency = redis.call('HGET', job, 'idempotency')
  -- A record that somebody has changed may name the key of another job.
  if idempotency and redis.call('GET', keys.idempotency .. idempotency) == args.job_id then
    redis.call('EXPIRE', keys.idempotency .. idempotency, retention())
  end
  redis.call('ZREM', keys.expiring, args.job_id)
  redis.call('ZREM', keys.refused, args.job_id)
  clear_open()
end
