#!lua flags=allow-oom
-- Return how many events are due, at most `most`, since when the first of them is, as seconds or '', and whether a sender
-- lives, as 1 or 0. Arguments: most.
-- include prelude
local due = redis.call('ZRANGE', keys.webhooks, '-inf', now, 'BYSCORE', 'LIMIT', 0, args.most)
local age = ''
if due[1] then
  local first = redis.call('ZSCORE', keys.webhooks, due[1])
  age = string.format('%.6f', math.max(0, now - first))
end
return {#due, age, redis.call('EXISTS', keys.webhook_sender)}
