#!lua flags=allow-oom
-- Record a finished stage and release the locks of its artifacts. The job then waits for its next stage; after the last
-- one it has succeeded.
-- Arguments: job_id, worker, fields, artifacts (keys), contents (by key), and stage and queue of the next stage, if there is one.
-- Returns the jobs that wait for one of the artifacts.
-- include prelude
-- include only_open
-- include only_holder
write(args.fields)
count_stage('done')
redis.call('ZREM', keys.refused, args.job_id)
for key, content in pairs(args.contents) do redis.call('SET', keys.content .. key, content, 'EX', retention()) end
if args.stage then
  redis.call('HDEL', keys.running, args.job_id)
  set_waiting(args.stage, args.queue)
else
  end_job('succeeded')
end
-- include release
return waiters
