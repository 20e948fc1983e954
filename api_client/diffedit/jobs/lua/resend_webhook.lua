#!lua flags=allow-oom
-- Put the last event of a job into the outbox again. Arguments: job_id.
-- Returns 'missing' if there is no record, 'nothing' if the job has no webhook or no event yet.
-- include prelude
if redis.call('EXISTS', job) == 0 then return 'missing' end
local event = redis.call('HGET', job, 'outcome') or (redis.call('HGET', job, 'started') and 'started')
if not event or not redis.call('HGET', job, 'webhook') then return 'nothing' end
extras().queue_webhook(event)
return ''
