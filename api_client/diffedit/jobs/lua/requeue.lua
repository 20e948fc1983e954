#!lua flags=allow-oom
-- Let the job wait again, unless another live worker runs it.
-- Arguments: job_id, stage, queue, count_attempt, forget (fields of stages that must run again), worker, if one asks,
-- attempt: the job is left alone if another stage is next, or if this one was started another number of times, and
-- waited (seconds): a job that waits is left alone if it has waited for less.
-- include prelude
-- include only_open
if holder and holder ~= args.worker and is_alive(holder) then return 'elsewhere' end
if args.worker and holder ~= args.worker then return 'elsewhere' end
local started = args.attempt and (number(record['attempts:' .. args.stage]) or 0)
if started and (started ~= args.attempt or record.next ~= args.stage) then return 'elsewhere' end
local waiting = waiting_in(redis.call('HGET', job, 'queue'))
local since = args.waited and not holder and waiting and redis.call('ZSCORE', waiting, args.job_id)
if since and now - since < args.waited then return 'elsewhere' end
clear_open()
local owner = redis.call('HGET', job, 'owner')
if owner then extras().forget_parked(owner) end
if not args.count_attempt then redis.call('HINCRBY', job, 'attempts:' .. args.stage, -1) end
if #args.forget > 0 then redis.call('HDEL', job, unpack(args.forget)) end
set_waiting(args.stage, args.queue)
return ''
