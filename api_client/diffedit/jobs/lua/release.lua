-- Release the locks that this job holds through this worker, and collect the jobs that wait for one of the artifacts.
local waiters = {}
for _, artifact in ipairs(args.artifacts) do
  if redis.call('GET', keys.lock .. artifact) == args.worker .. ' ' .. args.job_id then
    local found = redis.call('SMEMBERS', keys.waiters .. artifact)
    for _, waiter in ipairs(found) do table.insert(waiters, waiter) end
    redis.call('SET', keys.lock .. artifact, 'released', 'EX', 3600)
    if #found > 0 then redis.call('DEL', keys.waiters .. artifact) end
  end
end
