#!lua flags=allow-oom
-- Delete a job that never reached its queue. Arguments: job_id.
-- include prelude
forget_job()
redis.call('DEL', job)
redis.call('ZREM', keys.index, args.job_id)
return ''
