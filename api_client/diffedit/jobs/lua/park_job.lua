#!lua flags=allow-oom
-- Let a job wait, without a message in its queue, until another job of its owner has ended, or until its queue is resumed.
-- That sends the message, unless it can be sent now. Arguments: job_id. ARGV[2] is the message.
-- include prelude
-- include only_open
local owner, queue = redis.call('HGET', job, 'owner'), redis.call('HGET', job, 'queue')
if holder or not waiting_in(queue) then return 'elsewhere' end
if not owner or extras().room_of(owner) >= 1 then
  send(queue, args.job_id, ARGV[2], true)
  return ''
end
redis.call('HSET', job, 'parked', ARGV[2])
redis.call('ZADD', keys.parked .. queue, now, args.job_id)
redis.call('ZADD', keys.parked_of .. owner, now, args.job_id)
return ''
