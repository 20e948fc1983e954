#!lua flags=allow-oom
-- Claim an event that is due: it is due again after the lease, unless it is settled before. Arguments: lease (seconds).
-- Returns its id and its fields, or nothing.
-- include prelude
for _ = 1, 100 do
  local id, due = unpack(redis.call('ZRANGE', keys.webhooks, 0, 0, 'WITHSCORES'))
  if not id or tonumber(due) > tonumber(now) then break end
  local event = keys.webhook .. id
  local job_id, name = string.match(id, '^(%x+)%.(%l+)$')
  if name and redis.call('HGET', event, 'webhook') then
    local attempts = (number(redis.call('HGET', event, 'attempts')) or 0) + 1
    local first = redis.call('HGET', event, 'first') or now
    redis.call('HSET', event, 'attempts', attempts, 'first', first)
    redis.call('ZADD', keys.webhooks, now + args.lease, id)
    extras().note_delivery(job_id, name, 'pending', attempts, now + args.lease)
    local found = redis.call('HGETALL', event)
    table.insert(found, 1, id)
    return found
  end
  redis.call('ZREM', keys.webhooks, id)
end
return {}
