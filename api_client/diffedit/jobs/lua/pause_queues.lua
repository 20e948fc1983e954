#!lua flags=allow-oom
-- Pause queues: no stage of them starts. Their messages are held back. Arguments: queues, and reason, if one is given.
-- include prelude
for _, queue in ipairs(args.queues) do
  local before = redis.call('HGET', keys.paused, queue)
  local read, pause = pcall(cjson.decode, before or '')
  local since = read and type(pause) == 'table' and number(pause.since) or tonumber(now)
  redis.call('HSET', keys.paused, queue, cjson.encode({since = since, reason = args.reason or ''}))
  queueing().hold_all(queue)
end
return ''
