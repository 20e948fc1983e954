#!lua flags=allow-oom
-- Record what came of an attempt to send an event, unless another sender has claimed it meanwhile.
-- Arguments: id, job_id, event, attempt, delay (seconds until the next attempt), patience (seconds after the first one), and
-- error if it was not delivered.
-- include prelude
local event = keys.webhook .. args.id
if redis.call('HGET', event, 'attempts') ~= args.attempt then return '' end
local first, at, state = number(redis.call('HGET', event, 'first')) or 0, now + args.delay, 'pending'
if not args.error or at > first + args.patience then
  redis.call('ZREM', keys.webhooks, args.id)
  redis.call('DEL', event)
  at, state = now, args.error and 'given_up' or 'delivered'
else
  redis.call('ZADD', keys.webhooks, at, args.id)
end
extras().note_delivery(args.job_id, args.event, state, args.attempt, at, args.error)
return ''
