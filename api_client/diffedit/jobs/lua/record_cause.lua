#!lua flags=allow-oom
-- Record why the current attempt at a stage fails, if the job has not ended. Arguments: job_id, stage, cause.
-- include prelude
-- include only_open
redis.call('HSET', job, 'cause:' .. args.stage, args.cause)
return ''
