#!lua
-- Let a job that waits start over with another request: with another profile.
-- Arguments: job_id, stage, queue, profile, fields (of the record). ARGV[2] is the message for the new queue.
-- Returns '', 'missing', 'ended', or 'running' if a live worker runs a stage of it.
-- The message in the old queue stays. `moved` lets start_stage drop it.
-- include prelude
-- include restart
if redis.call('EXISTS', job) == 0 then return 'missing' end
if redis.call('HGET', job, 'outcome') then return 'ended' end
local holder = redis.call('HGET', keys.running, args.job_id)
if holder and is_alive(holder) then return 'running' end
clear_open()
redis.call('ZREM', keys.refused, args.job_id)
local owner = redis.call('HGET', job, 'owner')
if owner then
  extras().forget_parked(owner)
  redis.call('SREM', keys.started .. owner, args.job_id)
end
redis.call('HDEL', job, 'hints')
args.fields.moved = now
start_over(args.fields)
return ''
