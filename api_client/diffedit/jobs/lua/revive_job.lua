#!lua
-- Let a job that has ended, but not succeeded, wait for its first stage again. Its artifacts are found by their keys.
-- Arguments: job_id, stage, queue, profile, fields (the record's), inputs (the keys of its pictures), keep_limits (whether
-- its deadline holds), and optionally start_timeout (seconds after the submission). ARGV[2] is the message for the queue.
-- Returns '', 'missing', 'open' if it has not ended, 'ended' if it has succeeded, or 'overdue' if its deadline is over.
-- Without the flag allow-oom, a server whose memory is used up refuses this script: it takes no jobs.
-- include prelude
-- include ending
-- include restart
if redis.call('EXISTS', job) == 0 then return 'missing' end
local outcome = redis.call('HGET', job, 'outcome')
if not outcome then return 'open' end
if outcome == 'succeeded' then return 'ended' end
local created = number(redis.call('HGET', job, 'created')) or now
local deadline_at = args.keep_limits and number(redis.call('HGET', job, 'deadline_at')) or nil
local start_at = args.start_timeout and created + args.start_timeout
local expires_at = math.min(deadline_at or 1e15, start_at or 1e15)
if expires_at <= tonumber(now) then return 'overdue' end

redis.call('ZREM', keys.settled, args.job_id)  -- its copy is there again
redis.call('ZREM', keys.ended, args.job_id)
for _, index in ipairs(indexes_of_ended(outcome)) do redis.call('ZREM', index, args.job_id) end
-- If a process of 0.2.0 ends it, a list must look for it again.
local indexed = number(redis.call('GET', keys.indexed))
if indexed and indexed >= created then redis.call('SET', keys.indexed, string.format('%.6f', created - 0.000001)) end
redis.call('PERSIST', job)
if not deadline_at then redis.call('HDEL', job, 'deadline_at') end
if expires_at < 1e15 then redis.call('ZADD', keys.expiring, expires_at, args.job_id) end
-- Its next events are others than those that were sent before, so a receiver does not take them for repetitions.
redis.call('HINCRBY', job, 'revived', 1)
local idempotency, owner = redis.call('HGET', job, 'idempotency'), redis.call('HGET', job, 'owner')
if idempotency then
  redis.call('SET', keys.idempotency .. idempotency, args.job_id, 'NX')
  if redis.call('GET', keys.idempotency .. idempotency) == args.job_id then
    redis.call('PERSIST', keys.idempotency .. idempotency)
  end
end
local lifetime = retention() + 30 * 86400
for _, input in ipairs(args.inputs) do
  redis.call('ZADD', keys.uses .. input, created, args.job_id)
  extras().extend(keys.uses .. input, lifetime)
end
redis.call('ZADD', keys.index, created, args.job_id)
if owner then
  redis.call('ZADD', keys.owner .. owner, created, args.job_id)
  extras().extend(keys.owner .. owner, lifetime)
  redis.call('ZADD', keys.open .. owner, created, args.job_id)
end
start_over(args.fields)
return ''
