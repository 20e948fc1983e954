#!lua flags=allow-oom
-- Note that a worker could not run a stage for a reason of its own. The attempt does not count, and the job waits again.
-- The job fails with this error if enough different workers have refused the stage, or if the first refusal was longer ago
-- than the patience and no other live worker can try.
-- Arguments: job_id, worker, stage, queue, error (JSON), max_refusals, patience (seconds).
-- Returns {outcome or '', whether a live worker has not tried the stage yet (1 or 0)}.
-- include prelude
-- include only_open
-- include only_holder
-- include workers
local since = number(redis.call('HGET', job, 'refused_since:' .. args.stage))
-- Without a time these are names of workers that refused the stage before it was done and had to be done again.
local refused, name = since and refusers(args.stage) or {}, name_of(args.worker)
if not contains(refused, name) then table.insert(refused, name) end
since = since or now
redis.call('HSET', job, 'refused:' .. args.stage, cjson.encode(refused), 'refused_error:' .. args.stage, args.error,
  'refused_since:' .. args.stage, since)
count_stage('refused')
local others = has_untried_worker(workers_of(args.queue), refused)
local nobody = not others and heartbeats_are_complete()
if #refused >= args.max_refusals or (nobody and now - since >= args.patience) then
-- include ending
  redis.call('HSET', job, 'error', args.error)
  end_job('failed')
  return {'failed', 0}
end
redis.call('HINCRBY', job, 'attempts:' .. args.stage, -1)
clear_open()
set_waiting(args.stage, args.queue)
redis.call('ZADD', keys.refused, since, args.job_id)
return {'', others and 1 or 0}
