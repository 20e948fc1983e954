#!lua
-- Keep a preview of a job, unless the job was deleted meanwhile. Not if memory is short: a preview is no loss.
-- Arguments: job_id, preview, seconds.
-- include prelude
if redis.call('EXISTS', job) == 1 then
  redis.call('SET', keys.preview .. args.job_id, args.preview, 'EX', args.seconds)
end
return ''
