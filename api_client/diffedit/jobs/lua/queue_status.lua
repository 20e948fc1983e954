#!lua flags=allow-oom
-- Return the record of a job, how many jobs are ahead of it in the queue in which it waits (-1 if it does not wait), and
-- how many stages the live workers of that queue run at once. Arguments: job_id.
-- include prelude
-- include workers
local queue = redis.call('HGET', job, 'queue')
local waiting = waiting_in(queue)
local ahead = waiting and redis.call('ZRANK', waiting, args.job_id)
local held = ahead and redis.call('ZRANK', keys.backlog .. queue, args.job_id)
if held then ahead = redis.call('LLEN', queue) + held end  -- whose turn comes before
local at_once = 0
if ahead then
  for _, info in ipairs(workers_of(queue)) do
    if info.paused ~= true then at_once = at_once + (number(info.batch_jobs) or 1) end
  end
end
return {redis.call('HGETALL', job), ahead or -1, at_once}
