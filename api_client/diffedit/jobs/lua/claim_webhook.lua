#!lua flags=allow-oom
-- Claim an event that is due: it is due again after the lease, unless it is settled before. Arguments: lease (seconds).
-- Returns its id and its fields, or nothing.
-- include prelude
for _, id in ipairs(redis.call('ZRANGEBYSCORE', keys.webhooks, '-inf', now, 'LIMIT', 0, 100)) do
  local event = keys.webhook .. id
  if redis.call('HGET', event, 'webhook') then
    local attempt = redis.call('HINCRBY', event, 'attempts', 1)
    redis.call('HSETNX', event, 'first', now)
    redis.call('ZADD', keys.webhooks, now + args.lease, id)
    local job_id, name = string.match(id, '^(%x+)%.(%l+)$')
    extras().note_delivery(job_id, name, 'pending', attempt, now + args.lease)
    local found = redis.call('HGETALL', event)
    table.insert(found, 1, id)
    return found
  end
  redis.call('ZREM', keys.webhooks, id)
end
return {}
