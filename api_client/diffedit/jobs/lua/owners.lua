-- The limits of owners.
-- An owner that has none of its own has those of the empty name.
local function limits_of(owner)
  local text = redis.call('HGET', keys.limits, owner) or redis.call('HGET', keys.limits, '')
  local read, limits = pcall(cjson.decode, text or '{}')
  return read and type(limits) == 'table' and limits or {}
end

-- A version that does not know of owners may have ended some of the jobs. They are the oldest.
local function forget_ended_jobs(owner)
  for _, oldest in ipairs(redis.call('ZRANGE', keys.open .. owner, 0, 9)) do
    local request = server.pcall('HGET', keys.job .. oldest, 'request')
    if type(request) ~= 'string' or redis.call('HGET', keys.job .. oldest, 'outcome') then
      redis.call('ZREM', keys.open .. owner, oldest)
      redis.call('SREM', keys.started .. owner, oldest)
    end
  end
end

-- Return how many jobs of the owner wait for their first stage.
local function queued_jobs_of(owner)
  return redis.call('ZCARD', keys.open .. owner) - redis.call('SCARD', keys.started .. owner)
end
