#!lua
-- Record a new job, which waits for its first stage.
-- Arguments: job_id, stage, queue, queues (all queues that share the limit), max_queued, fields, and optionally
-- idempotency_key, request_digest, start_timeout, deadline (seconds). ARGV[2] is the message for its queue, if it is sent.
-- Returns the id of the job that owns the idempotency key (this job's, if the key is new), {'conflict', its id} if that
-- job has another digest, or 'full'.
-- Without the flag allow-oom, a server whose memory is used up refuses this script: it takes no new jobs.
-- include prelude
if redis.call('EXISTS', job) == 1 then return args.job_id end  -- repeated, because the first answer was lost
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
if queued >= args.max_queued then return 'full' end

args.fields.created = now
if args.deadline then args.fields.deadline_at = now + args.deadline end
if args.idempotency_key then
  args.fields.idempotency, args.fields.request_digest = args.idempotency_key, args.request_digest
  redis.call('SET', keys.idempotency .. args.idempotency_key, args.job_id)
end
set_waiting(args.stage, args.queue, args.fields)
redis.call('ZADD', keys.index, now, args.job_id)
-- Two records that have expired leave the index for each job that comes, so that it does not grow for ever.
for _, oldest in ipairs(redis.call('ZRANGE', keys.index, 0, 1)) do
  if redis.call('EXISTS', keys.job .. oldest) == 0 then redis.call('ZREM', keys.index, oldest) end
end
if args.start_timeout or args.deadline then
  local first_limit = math.min(args.start_timeout or args.deadline, args.deadline or args.start_timeout)
  redis.call('ZADD', keys.expiring, now + first_limit, args.job_id)
end
return args.job_id
