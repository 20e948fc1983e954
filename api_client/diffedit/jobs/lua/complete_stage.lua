#!lua flags=allow-oom
-- Record a finished stage and release the locks of its artifacts. The job then waits for its next stage; after the last
-- one it has succeeded.
-- Arguments: job_id, worker, done (the finished stage), fields, artifacts (keys), contents (by artifact), profile, and
-- seconds if the stage had to make something, owner, device_seconds if it used the device, ran_in (the queue of the finished stage),
-- and stage and queue of the next stage, if there is one. ARGV[2] is the message for that queue, if it is sent.
-- Returns the jobs that wait for one of the artifacts.
-- include prelude
prefetch('created', 'outcome', 'attempts:' .. args.done, 'retention', 'used')
-- include only_open
-- include only_holder
local attempt = record['attempts:' .. args.done] or ''
for artifact, content in pairs(args.contents) do
  args.fields['content:' .. artifact] = content .. ' ' .. attempt
  redis.call('SET', keys.content .. args.fields['artifact:' .. artifact], content, 'EX', retention())
end
count_stage('done')
if args.seconds then
  local durations = keys.durations .. args.profile
  local before = number(redis.call('HGET', durations, args.done)) or args.seconds
  redis.call('HSET', durations, args.done, string.format('%.3f', before + (args.seconds - before) / 8))
end
if args.device_seconds then
  local used = (number(record.used) or 0) + args.device_seconds  -- counted when the job ends
  args.fields.used = string.format('%.6f', used)
end
if redis.call('ZREM', keys.refused, args.job_id) == 1 then
  redis.call('HDEL', job, 'refused_since:' .. args.done, 'refused_error:' .. args.done)
end
if args.stage then
  redis.call('HDEL', keys.running, args.job_id)
  redis.call('HDEL', keys.running_in .. args.ran_in, args.job_id)
  set_waiting(args.stage, args.queue, args.fields, args.queue == args.ran_in, args.owner or '')
else
  write(args.fields)
-- include ending
  end_job('succeeded')
end
-- include release
return waiters
