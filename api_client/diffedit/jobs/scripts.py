"""The board's atomic steps, as Lua for Redis.

A job that has not ended either waits for its next stage, in the sorted set of that stage's queue since some time, or is
held by a worker, in one hash for all. Each script reads that, decides and writes in one round trip; the clock is the
server's, so that hosts need not agree on the time. All of them answer "" (done), the outcome that ended the job before,
"missing" (no record) or "elsewhere" (another worker has the job, or it is past this stage).

KEYS are always: the job's record, the hash of held jobs, the sorted set of jobs by when their time is over. ARGV begins
with: the job's id, the prefix of the waiting sets, the worker's id ("" for none), the prefix of the workers' signs of
life, the seconds that the record of an ended job is kept.
"""

# A server whose memory is used up takes no new jobs; those that it has come to their end all the same.
_GOES_ON = "#!lua flags=allow-oom\n"

_PRELUDE = """
local job, running, expiring = KEYS[1], KEYS[2], KEYS[3]
local id, waiting, worker, alive, retention = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
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

local function finish(outcome)
  redis.call('HSET', job, 'outcome', outcome, 'finished', now)
  redis.call('EXPIRE', job, retention)
  local idempotency = redis.call('HGET', job, 'idempotency')
  if idempotency and idempotency ~= '' then redis.call('EXPIRE', idempotency, retention) end
  redis.call('ZREM', expiring, id)
  no_longer_open()
end
"""

_ONLY_OPEN = """
if redis.call('EXISTS', job) == 0 then
  redis.call('ZREM', expiring, id)
  return 'missing'
end
local outcome = redis.call('HGET', job, 'outcome')
if outcome then return outcome end
local time_is_over = redis.call('ZSCORE', expiring, id)
if time_is_over and tonumber(time_is_over) <= tonumber(now) then
  finish('expired')
  return 'expired'
end
local holder = redis.call('HGET', running, id)
"""

_ONLY_HOLDER = "if holder ~= worker then return 'elsewhere' end"

# Further KEYS: index, and the idempotency key if there is one ("" would be no key that an ACL allows). Further ARGV:
# prefix of records, how many jobs may wait, seconds to begin in and to end in ("" for any time), stage, its queue, how
# many further queues share the limit, these, field, value, ... Answers the id of the job that holds the idempotency
# key, or "full".
# A repetition, because the first answer was lost, changes nothing.
OPEN = f"""{_PRELUDE}
if redis.call('EXISTS', job) == 1 then return id end
local index, idempotency, records, limit = KEYS[4], KEYS[5] or '', ARGV[6], tonumber(ARGV[7])
if idempotency ~= '' then
  local first = redis.call('GET', idempotency)
  if first and redis.call('EXISTS', records .. first) == 1 then return first end
end
local fields, queued = 13 + ARGV[12], redis.call('ZCARD', waiting .. ARGV[11])
for other = 13, fields - 1 do queued = queued + redis.call('ZCARD', waiting .. ARGV[other]) end
if queued >= limit then return 'full' end

redis.call('HSET', job, 'created', now, 'idempotency', idempotency, unpack(ARGV, fields))
if idempotency ~= '' then redis.call('SET', idempotency, id) end
redis.call('ZADD', index, now, id)
for _, oldest in ipairs(redis.call('ZRANGE', index, 0, 1)) do
  if redis.call('EXISTS', records .. oldest) == 0 then redis.call('ZREM', index, oldest) end
end
local begin_in, end_in = tonumber(ARGV[8]), tonumber(ARGV[9])
if end_in then redis.call('HSET', job, 'end_by', now + end_in) end
if begin_in or end_in then redis.call('ZADD', expiring, now + math.min(begin_in or end_in, end_in or begin_in), id) end
wait(ARGV[10], ARGV[11])
return id
"""

# Further KEYS: index.
DISCARD = f"""{_GOES_ON}{_PRELUDE}
no_longer_open()
redis.call('DEL', job)
redis.call('ZREM', expiring, id)
redis.call('ZREM', KEYS[4], id)
return ''
"""

# Ends the job if its time is over.
EXPIRE = f"{_GOES_ON}{_PRELUDE}{_ONLY_OPEN} return ''"

# Further ARGV: stage, attempts allowed. Answers "spent" as well: no attempt is left. Else the record, outcome included.
BEGIN = f"""{_GOES_ON}{_PRELUDE}{_ONLY_OPEN}
if redis.call('HGET', job, 'next') ~= ARGV[6] then return 'elsewhere' end
if holder and holder ~= worker and redis.call('EXISTS', alive .. holder) == 1 then return 'elsewhere' end
local attempts = 'attempts:' .. ARGV[6]
if tonumber(redis.call('HGET', job, attempts) or 0) >= tonumber(ARGV[7]) then return 'spent' end
redis.call('ZREM', waiting .. redis.call('HGET', job, 'queue'), id)
redis.call('HSET', running, id, worker)
redis.call('HSET', job, 'stage', ARGV[6], 'step', 0, 'steps', 0, 'worker', worker)
redis.call('HINCRBY', job, attempts, 1)
if redis.call('HSETNX', job, 'started', now) == 1 then
  local end_by = redis.call('HGET', job, 'end_by')
  if end_by then redis.call('ZADD', expiring, end_by, id) else redis.call('ZREM', expiring, id) end
end
return redis.call('HGETALL', job)
"""

# Further ARGV: field, value, ...
WRITE = f"""{_GOES_ON}{_PRELUDE}{_ONLY_OPEN}{_ONLY_HOLDER}
redis.call('HSET', job, unpack(ARGV, 6))
return ''
"""

COUNT_RETRY = f"""{_GOES_ON}{_PRELUDE}{_ONLY_OPEN}{_ONLY_HOLDER}
redis.call('HINCRBY', job, 'retries', 1)
return ''
"""

_UNCLAIM = """
local parked = {}
for making = 4, #KEYS, 2 do
  if redis.call('GET', KEYS[making]) == worker .. ' ' .. id then
    for _, one in ipairs(redis.call('SMEMBERS', KEYS[making + 1])) do table.insert(parked, one) end
    redis.call('SET', KEYS[making], 'made', 'EX', 3600)
    redis.call('DEL', KEYS[making + 1])
  end
end
return parked
"""

# Further KEYS: as CLAIM. Further ARGV: next stage and its queue ("" after the last stage: the job has
# succeeded), field, value, ... Answers, where others answer "", the jobs that wait for one of the artifacts.
ADVANCE = f"""{_GOES_ON}{_PRELUDE}{_ONLY_OPEN}{_ONLY_HOLDER}
redis.call('HSET', job, unpack(ARGV, 8))
if ARGV[6] == '' then
  finish('succeeded')
else
  redis.call('HDEL', running, id)
  wait(ARGV[6], ARGV[7])
end
{_UNCLAIM}"""

# The job waits again, if nobody alive but this worker has it. Further ARGV: stage, queue, whether its attempt is given
# back ("1"), fields to forget, ...
HAND_BACK = f"""{_GOES_ON}{_PRELUDE}{_ONLY_OPEN}
if holder and holder ~= worker and redis.call('EXISTS', alive .. holder) == 1 then return 'elsewhere' end
if worker ~= '' and holder ~= worker then return 'elsewhere' end
no_longer_open()
if ARGV[8] == '1' then redis.call('HINCRBY', job, 'attempts:' .. ARGV[6], -1) end
if #ARGV > 8 then redis.call('HDEL', job, unpack(ARGV, 9)) end
wait(ARGV[6], ARGV[7])
return ''
"""

# Further ARGV: outcome, error ("" for none). The first ending wins. A worker ends only what it holds; others (a client
# that cancels) give no worker.
FINISH = f"""{_GOES_ON}{_PRELUDE}{_ONLY_OPEN}
if worker ~= '' and holder ~= worker then return 'elsewhere' end
if ARGV[7] ~= '' then redis.call('HSET', job, 'error', ARGV[7]) end
finish(ARGV[6])
return ''
"""

# Further KEYS: for each artifact who makes it, and the jobs that wait for it. Further ARGV: seconds that making them
# may take. Answers "taken" if somebody alive makes one, for another job that it still holds; the job then waits for
# that. Answers "just made" if somebody made one within an hour.
CLAIM = f"""{_GOES_ON}{_PRELUDE}
local answer = ''
for making = 4, #KEYS, 2 do
  local before = redis.call('GET', KEYS[making]) or ''
  local maker, cause = string.match(before, '(%S+) (%S+)')
  if before == 'made' then answer = 'just made' end
  if maker and cause ~= id
      and redis.call('HGET', running, cause) == maker and redis.call('EXISTS', alive .. maker) == 1 then
    redis.call('SADD', KEYS[making + 1], id)
    redis.call('EXPIRE', KEYS[making + 1], ARGV[6])
    return 'taken'
  end
end
for making = 4, #KEYS, 2 do redis.call('SET', KEYS[making], worker .. ' ' .. id, 'EX', ARGV[6]) end
return answer
"""

# Further KEYS: as CLAIM. Answers the jobs that wait for one of the artifacts.
UNCLAIM = f"{_GOES_ON}{_PRELUDE}{_UNCLAIM}"

# Further KEYS: the set of workers, this worker's sign of life. Further ARGV: what it says, milliseconds that it holds.
ANNOUNCE = f"""{_GOES_ON}{_PRELUDE}
redis.call('SADD', KEYS[4], worker)
redis.call('SET', KEYS[5], ARGV[6], 'PX', ARGV[7])
return ''
"""
