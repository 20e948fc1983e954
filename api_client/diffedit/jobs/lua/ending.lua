-- The end of a job. Included where a job may end, so that other runs of a script need not make these functions.

-- Return the sorted sets, by the time of submission, that an ended job belongs to.
local function indexes_of_ended(outcome)
  local queue, error = record.queue, record.error
  local found = {keys.ended_by .. 'outcome:' .. (outcome or '')}
  local profile = queue and string.match(queue, '^diffedit%.([%w_-]+)%.')
  if profile then table.insert(found, keys.ended_by .. 'profile:' .. profile) end
  local read, reason = pcall(cjson.decode, error or 'null')
  for _, name in ipairs(read and type(reason) == 'table' and {'code', 'stage'} or {}) do
    if type(reason[name]) == 'string' then table.insert(found, keys.ended_by .. name .. ':' .. reason[name]) end
  end
  return found
end

-- Records that have expired leave the oldest entries of an index, so that it does not grow for ever.
local function trim(index)
  local oldest = redis.call('ZRANGE', index, 0, 31)
  local records = {}
  for i, id in ipairs(oldest) do records[i] = keys.job .. id end
  if #oldest == 0 or redis.call('EXISTS', unpack(records)) == #oldest then return end
  for i, id in ipairs(oldest) do
    if redis.call('EXISTS', records[i]) == 0 then redis.call('ZREM', index, id) end
  end
end

-- Let lists find the ended job. Each sixteenth end on average trims the indexes.
local function index_ended(outcome, finished)
  local indexes, created = indexes_of_ended(outcome), number(record.created) or now
  for _, index in ipairs(indexes) do redis.call('ZADD', index, created, args.job_id) end
  redis.call('ZADD', keys.ended, finished, args.job_id)
  if time[2] % 16 ~= 0 then return end
  for _, index in ipairs(indexes) do trim(index) end
  trim(keys.ended)
end

-- Return the day in UTC as YYYYMMDD, by the calendar of Hinnant's `civil_from_days`: scripts have no dates.
local function today()
  local days = math.floor(time[1] / 86400) + 719468
  local era = math.floor(days / 146097)
  local of_era = days - era * 146097
  local year = math.floor((of_era - math.floor(of_era / 1460) + math.floor(of_era / 36524) - math.floor(of_era / 146096)) / 365)
  local of_year = of_era - (365 * year + math.floor(year / 4) - math.floor(year / 100))
  local month = math.floor((5 * of_year + 2) / 153)
  local day = of_year - math.floor((153 * month + 2) / 5) + 1
  return (year + era * 400 + (month > 9 and 1 or 0)) * 10000 + (month > 9 and month - 9 or month + 3) * 100 + day
end

-- Add to what an owner has used. That never stops a job: the ACL of 0.2.0 does not allow the command.
local function add_usage(owner, profile, measure, amount)
  local key, field = keys.usage .. today(), cjson.encode({owner or '', profile, measure})
  local answer = server.pcall('HINCRBYFLOAT', key, field, amount)
  if type(answer) == 'table' then
    if string.find(answer.err, 'hash value', 1, true) or string.find(answer.err, 'would produce', 1, true) then
      server.pcall('HSET', key, field, amount)
    elseif string.find(answer.err, 'WRONGTYPE', 1, true) then
      redis.call('HSET', key, field, amount)
    end
  elseif tonumber(answer) == tonumber(amount) then  -- the first of this day
    redis.call('EXPIRE', key, 401 * 86400)
  end
end

-- The copy of the submission in the bucket is not needed any more. The leader deletes it.
local function settle()
  redis.call('ZADD', keys.settled, now, args.job_id)
end

local function end_job(outcome)
  prefetch('retention', 'idempotency', 'queue', 'owner', 'keep', 'used', 'pixels', 'webhook', 'error', 'created')
  redis.call('HSET', job, 'outcome', outcome, 'finished', now)
  settle()
  redis.call('EXPIRE', job, retention())
  local idempotency, owner, used, keep = record.idempotency, record.owner, number(record.used), number(record.keep)
  -- A record that somebody has changed may name the key of another job.
  if idempotency and redis.call('GET', keys.idempotency .. idempotency) == args.job_id then
    redis.call('EXPIRE', keys.idempotency .. idempotency, retention())
  end
  redis.call('ZREM', keys.expiring, args.job_id)
  redis.call('ZREM', keys.refused, args.job_id)
  local queue = clear_open()
  local profile = queue and string.match(queue, '^[^.]+%.([^.]+)%.')
  if profile then
    add_usage(owner, profile, outcome, 1)
    if used then
      add_usage(owner, profile, 'gpu_seconds', used)
      redis.call('HDEL', job, 'used')
    end
    local pixels = outcome == 'succeeded' and number(record.pixels)
    if pixels then add_usage(owner, profile, 'pixels', pixels) end
  end
  if owner then extras().leave_open_jobs(owner) end
  if keep then extras().keep_objects(now + keep) end
  if record.webhook then extras().queue_webhook(outcome) end
  index_ended(outcome, now)
end
