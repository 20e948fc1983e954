-- Included by every script. ARGV[1] is a JSON object of named arguments; `keys` holds the key names of keys.py.
-- The clock is the server's, so that the clocks of other hosts do not matter.
local args = cjson.decode(ARGV[1])
local job = keys.job .. (args.job_id or '')
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])

local function write(fields)
  local flat = {}
  for name, value in pairs(fields) do
    table.insert(flat, name)
    table.insert(flat, value)
  end
  redis.call('HSET', job, unpack(flat))
end

local function is_alive(worker)
  return redis.call('EXISTS', keys.heartbeat .. worker) == 1
end

-- Count a stage that was done or refused, for each minute (`JobStore.recent_stages`).
local function count_stage(result)
  local minute = keys.stages .. math.floor(now / 60)
  redis.call('HINCRBY', minute, result, 1)
  redis.call('EXPIRE', minute, 1200)
end

-- The job waits for a worker to start `stage`.
local function set_waiting(stage, queue)
  redis.call('HSET', job, 'next', stage, 'queue', queue)
  redis.call('ZADD', keys.waiting .. queue, now, args.job_id)
  redis.call('SADD', keys.waiting_queues, queue)
end

-- The job neither waits nor runs.
local function clear_open()
  redis.call('HDEL', keys.running, args.job_id)
  local queue = redis.call('HGET', job, 'queue')
  if queue then redis.call('ZREM', keys.waiting .. queue, args.job_id) end
end

-- A damaged record may have lost its retention; it is then kept for a week.
local function retention()
  return redis.call('HGET', job, 'retention') or 604800
end

local function end_job(outcome)
  redis.call('HSET', job, 'outcome', outcome, 'finished', now)
  redis.call('EXPIRE', job, retention())
  local idempotency = redis.call('HGET', job, 'idempotency')
  if idempotency then redis.call('EXPIRE', keys.idempotency .. idempotency, retention()) end
  redis.call('ZREM', keys.expiring, args.job_id)
  redis.call('ZREM', keys.refused, args.job_id)
  clear_open()
end
