-- The script goes on only if the job has not ended. Returns 'missing' if there is no record, else the outcome.
if not record.created and redis.call('EXISTS', job) == 0 then
  forget_job()
  return 'missing'
end
local outcome = record.outcome
if outcome then
  redis.call('ZREM', keys.refused, args.job_id)  -- a client of 0.2.0 that ended the job did not know of this set
  return outcome
end
local expires_at = redis.call('ZSCORE', keys.expiring, args.job_id)
if expires_at and tonumber(expires_at) <= tonumber(now) then
-- include ending
  end_job('expired')
  return 'expired'
end
local holder = redis.call('HGET', keys.running, args.job_id)
