-- Delete the record and everything that names the job. Its record may be missing, or no hash.
local function forget_record()
  forget_job()
  redis.call('ZREM', keys.index, args.job_id)
  if type(server.pcall('HGET', job, 'request')) == 'string' then
    local owner, idempotency = redis.call('HGET', job, 'owner'), redis.call('HGET', job, 'idempotency')
    if owner then
      extras().leave_open_jobs(owner)
      redis.call('ZREM', keys.owner .. owner, args.job_id)
    end
    -- A record that somebody has changed may name the key of another job.
    if idempotency and redis.call('GET', keys.idempotency .. idempotency) == args.job_id then
      redis.call('DEL', keys.idempotency .. idempotency)
    end
    redis.call('ZREM', keys.ended, args.job_id)
    for _, index in ipairs(indexes_of_ended(redis.call('HGET', job, 'outcome'))) do redis.call('ZREM', index, args.job_id) end
    for _, key in ipairs(extras().objects_of_job()) do
      if string.sub(key, 1, 7) == 'inputs/' then redis.call('ZREM', keys.uses .. key, args.job_id) end
    end
  end
  redis.call('DEL', keys.watched .. args.job_id)
  redis.call('DEL', keys.preview .. args.job_id)
  redis.call('DEL', job)
end
