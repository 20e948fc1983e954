#!lua flags=allow-oom
-- Count that the running stage waits for a service. Arguments: job_id, worker.
-- include prelude
-- include only_open
-- include only_holder
redis.call('HINCRBY', job, 'retries', 1)
return ''
