#!lua flags=allow-oom
-- Note that a worker could not run a stage for a reason of its own. The attempt does not count, and the job waits again.
-- If enough different workers have refused the stage, the job fails with the error of the last one.
-- Arguments: job_id, worker, stage, queue, error (JSON), max_refusals.
-- Returns {outcome or '', whether a live worker has not tried the stage yet (1 or 0)}.
-- include prelude
-- include only_open
-- include only_holder
-- include workers
local refused, name = refusers(args.stage), name_of(args.worker)
if not contains(refused, name) then table.insert(refused, name) end
redis.call('HSET', job, 'refused:' .. args.stage, cjson.encode(refused), 'refused_error:' .. args.stage, args.error)
redis.call('HSETNX', job, 'refused_since:' .. args.stage, now)
count_stage('refused')
if #refused >= args.max_refusals then
  redis.call('HSET', job, 'error', args.error)
  end_job('failed')
  return {'failed', 0}
end
redis.call('HINCRBY', job, 'attempts:' .. args.stage, -1)
clear_open()
set_waiting(args.stage, args.queue)
redis.call('ZADD', keys.refused, 'NX', now, args.job_id)
return {'', has_untried_worker(args.stage, args.queue) and 1 or 0}
