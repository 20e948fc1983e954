#!lua flags=allow-oom
-- Fail a job that waits for a stage which a worker has refused, if all live workers of its queue are paused. If none is
-- live, the job waits: the next one may be well. Arguments: job_id.
-- include prelude
-- include only_open
-- include workers
-- include ending
local stage, queue = redis.call('HGET', job, 'next'), redis.call('HGET', job, 'queue')
local error = stage and redis.call('HGET', job, 'refused_error:' .. stage)
if holder or not error or not queue then return '' end
local workers = workers_of(queue)
if #workers == 0 or has_untried_worker(workers, {}) or not heartbeats_are_complete() then return '' end
redis.call('HSET', job, 'error', error)
end_job('failed')
return 'failed'
