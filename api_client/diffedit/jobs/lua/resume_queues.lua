#!lua flags=allow-oom
-- End the pause of queues. Arguments: queues. Returns those that were paused.
-- include prelude
local resumed = {}
for _, queue in ipairs(args.queues) do
  if redis.call('HDEL', keys.paused, queue) == 1 then table.insert(resumed, queue) end
  release(queue)
end
return resumed
