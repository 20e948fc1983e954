"""The board's atomic steps, as Lua for Redis.

A job that has not ended either waits for its next stage, in the sorted set of that stage's queue since some time, or is
held by a worker, in one hash for all. Each script reads that, decides and writes in one round trip; the clock is the
server's, so that hosts need not agree on the time. All of them answer "" (done), the outcome that ended the job before,
"missing" (no record) or "elsewhere" (another worker has the job, or it is past this stage).

KEYS are always: the job's record, the hash of held jobs. ARGV begins with: the job's id, the prefix of the waiting
sets, the worker's id ("" for none), the prefix of the workers' signs of life.
"""

_PRELUDE = """
local job, running = KEYS[1], KEYS[2]
local id, waiting, worker, alive = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local time = redis.call('TIME')
local now = string.format('%d.%06d', time[1], time[2])

local function wait(stage, queue)
  redis.call('HSET', job, 'next', stage, 'queue', queue)
  redis.call('ZADD', waiting .. queue, now, id)
  redis.call('SADD', waiting .. 'queues', queue)
end

local function no_longer_open()
  redis.call('HDEL', running, id)
  local queue = redis.call('HGET', job, 'queue')
  if queue then redis.call('ZREM', waiting .. queue, id) end
end

local function finish(outcome, retention)
  redis.call('HSET', job, 'outcome', outcome, 'finished', now)
  redis.call('EXPIRE', job, retention)
  local idempotency = redis.call('HGET', job, 'idempotency')
  if idempotency and idempotency ~= '' then redis.call('EXPIRE', idempotency, retention) end
  no_longer_open()
end
"""

_ONLY_OPEN = """
if redis.call('EXISTS', job) == 0 then return 'missing' end
local outcome = redis.call('HGET', job, 'outcome')
if outcome then return outcome end
local holder = redis.call('HGET', running, id)
"""

_ONLY_HOLDER = "if holder ~= worker then return 'elsewhere' end"

# Further KEYS: index, idempotency key ("" for none). Further ARGV: prefix of records, request, stage, queue. Answers
# the id of the job that holds the idempotency key. A repetition, because the first answer was lost, changes nothing.
OPEN = f"""{_PRELUDE}
if redis.call('EXISTS', job) == 1 then return id end
if KEYS[4] ~= '' then
  local first = redis.call('GET', KEYS[4])
  if first and redis.call('EXISTS', ARGV[5] .. first) == 1 then return first end
  redis.call('SET', KEYS[4], id)
end
redis.call('HSET', job, 'request', ARGV[6], 'created', now, 'idempotency', KEYS[4])
redis.call('ZADD', KEYS[3], now, id)
wait(ARGV[7], ARGV[8])
return id
"""

# Further KEYS: index.
DISCARD = f"""{_PRELUDE}
no_longer_open()
redis.call('DEL', job)
redis.call('ZREM', KEYS[3], id)
return ''
"""

# Further ARGV: stage, attempts allowed. Answers "spent" as well: no attempt is left.
BEGIN = f"""{_PRELUDE}{_ONLY_OPEN}
if redis.call('HGET', job, 'next') ~= ARGV[5] then return 'elsewhere' end
if holder and holder ~= worker and redis.call('EXISTS', alive .. holder) == 1 then return 'elsewhere' end
local attempts = 'attempts:' .. ARGV[5]
if tonumber(redis.call('HGET', job, attempts) or 0) >= tonumber(ARGV[6]) then return 'spent' end
redis.call('ZREM', waiting .. redis.call('HGET', job, 'queue'), id)
redis.call('HSET', running, id, worker)
redis.call('HSET', job, 'stage', ARGV[5], 'step', 0, 'steps', 0, 'worker', worker)
redis.call('HSETNX', job, 'started', now)
redis.call('HINCRBY', job, attempts, 1)
return ''
"""

# Further ARGV: field, value, ...
WRITE = f"""{_PRELUDE}{_ONLY_OPEN}{_ONLY_HOLDER}
redis.call('HSET', job, unpack(ARGV, 5))
return ''
"""

COUNT_RETRY = f"""{_PRELUDE}{_ONLY_OPEN}{_ONLY_HOLDER}
redis.call('HINCRBY', job, 'retries', 1)
return ''
"""

# Further ARGV: retention, next stage and its queue ("" after the last stage: the job has succeeded), field, value, ...
ADVANCE = f"""{_PRELUDE}{_ONLY_OPEN}{_ONLY_HOLDER}
redis.call('HSET', job, unpack(ARGV, 8))
if ARGV[6] == '' then
  finish('succeeded', ARGV[5])
else
  redis.call('HDEL', running, id)
  wait(ARGV[6], ARGV[7])
end
return ''
"""

# The job waits again, if nobody alive but this worker has it. Further ARGV: stage, queue, whether its attempt is given
# back ("1"), fields to forget, ...
HAND_BACK = f"""{_PRELUDE}{_ONLY_OPEN}
if holder and holder ~= worker and redis.call('EXISTS', alive .. holder) == 1 then return 'elsewhere' end
if worker ~= '' and holder ~= worker then return 'elsewhere' end
no_longer_open()
if ARGV[7] == '1' then redis.call('HINCRBY', job, 'attempts:' .. ARGV[5], -1) end
if #ARGV > 7 then redis.call('HDEL', job, unpack(ARGV, 8)) end
wait(ARGV[5], ARGV[6])
return ''
"""

# Further ARGV: outcome, error ("" for none), retention. The first ending wins. A worker ends only what it holds; others
# (a client that cancels) give no worker.
FINISH = f"""{_PRELUDE}{_ONLY_OPEN}
if worker ~= '' and holder ~= worker then return 'elsewhere' end
if ARGV[6] ~= '' then redis.call('HSET', job, 'error', ARGV[6]) end
finish(ARGV[5], ARGV[7])
return ''
"""

# Further KEYS: who makes the artifact, the jobs that wait for it. Further ARGV: seconds that making it may take.
# Answers "taken" if somebody alive makes it; the job is then among those that wait.
CLAIM = f"""{_PRELUDE}
local maker = redis.call('GET', KEYS[3])
if maker and maker ~= worker and redis.call('EXISTS', alive .. maker) == 1 then
  redis.call('SADD', KEYS[4], id)
  redis.call('EXPIRE', KEYS[4], ARGV[5])
  return 'taken'
end
redis.call('SET', KEYS[3], worker, 'EX', ARGV[5])
return ''
"""

# Further KEYS: as CLAIM. Answers the jobs that wait for the artifact.
UNCLAIM = f"""{_PRELUDE}
if redis.call('GET', KEYS[3]) ~= worker then return {{}} end
local parked = redis.call('SMEMBERS', KEYS[4])
redis.call('DEL', KEYS[3], KEYS[4])
return parked
"""
