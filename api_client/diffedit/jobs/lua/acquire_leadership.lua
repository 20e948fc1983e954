#!lua flags=allow-oom
-- Make the worker the leader, or prolong its leadership. A leader of an older contract loses it, because it cannot look
-- after the jobs of newer versions. Arguments: worker, ttl_ms, worker_ttl_ms, contract.
-- Returns 1 if the worker is the leader now.
-- include prelude
-- include workers
local leader = redis.call('GET', keys.leader)
if leader and leader ~= args.worker then
  redis.call('PEXPIRE', keys.leader, args.ttl_ms, 'NX')  -- a key without an expiry would let nobody lead any more
  local info = info_of(leader)
  if not info or contract_of(info) >= args.contract then return 0 end
end
redis.call('SET', keys.leader, args.worker, 'PX', args.ttl_ms)
-- A heartbeat without an expiry would keep the jobs of a dead worker.
for _, worker in ipairs(redis.call('SMEMBERS', keys.workers)) do
  redis.call('PEXPIRE', keys.heartbeat .. worker, args.worker_ttl_ms, 'NX')
end
return 1
