#!lua flags=allow-oom
-- Make the worker the leader, or prolong its leadership. Arguments: worker, ttl_ms. Returns 1 if it is the leader now.
-- include prelude
local leader = redis.call('GET', keys.leader)
if leader and leader ~= args.worker then return 0 end
redis.call('SET', keys.leader, args.worker, 'PX', args.ttl_ms)
return 1
