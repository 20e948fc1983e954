#!lua flags=allow-oom
-- Fail a job that waits for a stage which every live worker of its queue has refused. Arguments: job_id.
-- include prelude
-- include only_open
-- include workers
local stage, queue = redis.call('HGET', job, 'next'), redis.call('HGET', job, 'queue')
local error = redis.call('HGET', job, 'refused_error:' .. stage)
if holder or not error or has_untried_worker(stage, queue) then return '' end
redis.call('HSET', job, 'error', error)
end_job('failed')
return 'failed'
