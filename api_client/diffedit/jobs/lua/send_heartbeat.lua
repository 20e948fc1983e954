#!lua flags=allow-oom
-- Announce a live worker. Returns 'drain' if it shall take no jobs any more and end.
-- Arguments: worker, info (JSON), queues, ttl_ms, profile, profile_params (JSON), profile_presets (JSON).
-- include prelude
-- include epoch
-- Workers send several heartbeats in half their time to live. If there was none, no worker could send any: the server was
-- away, or it has lost its data. From then on each worker has its whole time until it counts as dead.
if redis.call('EXISTS', keys.beating) == 0 then
  redis.call('SET', keys.outage, now, 'PX', args.ttl_ms)
else
  redis.call('PEXPIRE', keys.outage, args.ttl_ms, 'NX')
end
redis.call('SET', keys.beating, '', 'PX', math.ceil(args.ttl_ms / 2))
redis.call('SADD', keys.workers, args.worker)
redis.call('SET', keys.heartbeat .. args.worker, args.info, 'PX', args.ttl_ms)
redis.call('HSET', keys.profiles, args.profile, args.profile_params)
redis.call('HSET', keys.presets, args.profile, args.profile_presets)
for _, queue in ipairs(args.queues) do
  redis.call('SADD', keys.waiting_queues, queue)  -- in case somebody has deleted the set
  redis.call('LLEN', queue)  -- deletes what is no list, because no message can be taken from it
end
-- The ACL of an earlier version has no SISMEMBER.
return server.pcall('SISMEMBER', keys.draining, args.worker) == 1 and 'drain' or ''
