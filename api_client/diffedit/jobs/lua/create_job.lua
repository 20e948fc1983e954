#!lua
-- Record a new job, which waits for its first stage.
-- Arguments: job_id, stage, queue, queues (all queues that share the limit), max_queued, fields, profile, inputs (the keys
-- of its pictures), steps, and optionally pixels, idempotency_key, request_digest, start_timeout, deadline (seconds),
-- and created if the job is restored: no limit refuses what was admitted then, and its time runs since then.
-- ARGV[2] is the message for its queue, if it is sent.
-- Returns the id of the job that owns the idempotency key (this job's, if the key is new), {'conflict', its id} if that
-- job has another digest, {'limit', its name, its value} if the job would exceed one of its owner, 'full', or 'settled' if
-- the job is restored and has ended.
-- Without the flag allow-oom, a server whose memory is used up refuses this script: it takes no new jobs.
-- include prelude
-- include epoch
if redis.call('EXISTS', job) == 1 then return args.job_id end  -- repeated, because the first answer was lost
if args.created and redis.call('ZSCORE', keys.settled, args.job_id) then return 'settled' end
if args.idempotency_key then
  local first = redis.call('GET', keys.idempotency .. args.idempotency_key)
  -- A key is free if it names no record, or one of another type, which would be an error here.
  local request = first and server.pcall('HGET', keys.job .. first, 'request')
  if type(request) == 'string' then
    local recorded = redis.call('HGET', keys.job .. first, 'request_digest')
    -- Version 0.2.0 records no digest.
    if recorded and args.request_digest and recorded ~= args.request_digest then return {'conflict', first} end
    return first
  end
end
local queued = 0
for _, queue in ipairs(args.queues) do queued = queued + redis.call('ZCARD', keys.waiting .. queue) end
if queued >= args.max_queued and not args.created then return 'full' end
local owner = args.fields.owner
-- Return how many jobs of the owner wait for their first stage.
local function queued_jobs_of(owner)
  return redis.call('ZCARD', keys.open .. owner) - redis.call('SCARD', keys.started .. owner)
end
if owner and not args.created then
  local limits = limits_of(owner)
  local queued_at_most = number(limits.max_queued)
  if queued_at_most and queued_jobs_of(owner) >= queued_at_most then
    extras().forget_ended_jobs(owner, redis.call('ZRANGE', keys.open .. owner, 0, 9))
    if queued_jobs_of(owner) >= queued_at_most then return {'limit', 'max_queued', queued_at_most} end
  end
  for name, wanted in pairs({max_pixels = args.pixels or 0, max_steps = args.steps}) do
    local limit = number(limits[name])
    if limit and wanted > limit then return {'limit', name, limit} end
  end
end

local created = args.created or now
args.fields.created = created
args.fields.pixels = args.pixels
if args.deadline then args.fields.deadline_at = created + args.deadline end
if args.idempotency_key then
  args.fields.idempotency, args.fields.request_digest = args.idempotency_key, args.request_digest
  redis.call('SET', keys.idempotency .. args.idempotency_key, args.job_id)
end
local durations = redis.call('HGETALL', keys.durations .. args.profile)
if #durations > 0 then args.fields.expected = table.concat(durations, ' ') end
set_waiting(args.stage, args.queue, args.fields, false, owner or '')
-- Two records that have expired leave an index for each job that comes, so that it does not grow for ever. What belongs to
-- one owner or one picture is gone some time after its last job.
local function add_to_index(index)
  redis.call('ZADD', index, created, args.job_id)
  local oldest = redis.call('ZRANGE', index, 0, 1)
  if redis.call('EXISTS', keys.job .. oldest[1], keys.job .. (oldest[2] or oldest[1])) == 2 then return end
  for _, id in ipairs(oldest) do
    if redis.call('EXISTS', keys.job .. id) == 0 then redis.call('ZREM', index, id) end
  end
end
local extend, lifetime = extras().extend, retention() + 30 * 86400
add_to_index(keys.index)
for _, input in ipairs(args.inputs) do
  add_to_index(keys.uses .. input)
  extend(keys.uses .. input, lifetime)
end
if owner then
  add_to_index(keys.owner .. owner)
  extend(keys.owner .. owner, lifetime)
  redis.call('ZADD', keys.open .. owner, created, args.job_id)
end
if args.start_timeout or args.deadline then
  local first_limit = math.min(args.start_timeout or args.deadline, args.deadline or args.start_timeout)
  redis.call('ZADD', keys.expiring, created + first_limit, args.job_id)
end
return args.job_id
