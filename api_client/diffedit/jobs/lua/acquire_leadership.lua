#!lua flags=allow-oom
-- Make the worker the leader, or prolong its leadership. A leader of an older contract loses it, because it cannot look
-- after the jobs of newer versions. Arguments: worker, ttl_ms, contract. Returns 1 if the worker is the leader now.
-- include prelude
-- include workers
local leader = redis.call('GET', keys.leader)
if leader and leader ~= args.worker then
  local info = info_of(leader)
  if not info or contract_of(info) >= args.contract then return 0 end
end
redis.call('SET', keys.leader, args.worker, 'PX', args.ttl_ms)
return 1
