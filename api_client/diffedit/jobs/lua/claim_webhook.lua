#!lua flags=allow-oom
-- Claim an event that is due: it is due again after the lease, unless it is settled before. Also note that a sender lives.
-- Arguments: lease (seconds), sender_ttl (seconds after which a sender that does not come again counts as gone).
-- Returns its id and its fields, or nothing.
-- include prelude
local seen = number(redis.call('GET', keys.webhook_sender))
-- Idle senders look every second; a write at each look would only fill the log of the server.
if not seen or now - seen > args.sender_ttl / 3 or seen > tonumber(now) then
  redis.call('SET', keys.webhook_sender, now, 'EX', args.sender_ttl)
end
for _ = 1, 100 do
  local id, due = unpack(redis.call('ZRANGE', keys.webhooks, 0, 0, 'WITHSCORES'))
  if not id or tonumber(due) > tonumber(now) then break end
  local event = keys.webhook .. id
  local job_id, name = string.match(id, '^(%x+)%.(%l+)%.?%d*$')
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
