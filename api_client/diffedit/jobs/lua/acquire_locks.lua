#!lua flags=allow-oom
-- Lock artifacts for a job that is going to make them: all or none.
-- A lock is void when its worker is dead or no longer runs the job that it was taken for.
-- Arguments: job_id, worker, artifacts (keys), lock_timeout (seconds).
-- Returns 'locked' if another job holds one of the locks; this job is then noted as a waiter. Else returns 'acquired', or
-- 'recently_released' if another job may have made one of the artifacts in the last hour.
-- include prelude
local result = 'acquired'
for _, artifact in ipairs(args.artifacts) do
  local lock = redis.call('GET', keys.lock .. artifact) or ''
  local owner, owner_job = string.match(lock, '(%S+) (%S+)')
  if lock == 'released' then result = 'recently_released' end
  if owner and owner_job ~= args.job_id
      and redis.call('HGET', keys.running, owner_job) == owner and is_alive(owner) then
    redis.call('SADD', keys.waiters .. artifact, args.job_id)
    redis.call('EXPIRE', keys.waiters .. artifact, args.lock_timeout)
    return 'locked'
  end
end
for _, artifact in ipairs(args.artifacts) do
  redis.call('SREM', keys.waiters .. artifact, args.job_id)
  redis.call('SET', keys.lock .. artifact, args.worker .. ' ' .. args.job_id, 'EX', args.lock_timeout)
end
return result
