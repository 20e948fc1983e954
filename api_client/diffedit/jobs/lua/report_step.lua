#!lua flags=allow-oom
-- Record the progress of the running stage. Answers whether somebody asks for previews. Arguments: job_id, worker, step, steps.
-- include prelude
prefetch('created', 'outcome')
-- include only_open
-- include only_holder
redis.call('HSET', job, 'step', args.step, 'steps', args.steps)
return redis.call('EXISTS', keys.watched .. args.job_id) == 1 and 'watched' or ''
