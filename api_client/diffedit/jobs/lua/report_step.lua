#!lua flags=allow-oom
-- Record the progress of the running stage. Arguments: job_id, worker, step, steps.
-- include prelude
-- include only_open
-- include only_holder
redis.call('HSET', job, 'step', args.step, 'steps', args.steps)
return ''
