-- Let the record be that of a job of which nothing was done yet. What became of its events stays.
local function start_over(fields)
  local undone = {'outcome', 'error', 'finished', 'started', 'stage', 'step', 'steps', 'worker', 'retries', 'parked', 'held',
    'aged'}
  local by_stage = {attempts = 1, cause = 1, refused = 1, refused_since = 1, refused_error = 1, seconds = 1, created = 1,
    waited = 1, artifact = 1, content = 1}
  for _, name in ipairs(redis.call('HKEYS', job)) do
    if by_stage[string.match(name, '^([%l_]+):') or ''] then table.insert(undone, name) end
  end
  redis.call('HDEL', job, unpack(undone))
  local durations = redis.call('HGETALL', keys.durations .. args.profile)
  if #durations > 0 then fields.expected = table.concat(durations, ' ') end
  set_waiting(args.stage, args.queue, fields)
end
