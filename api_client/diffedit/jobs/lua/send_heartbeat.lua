#!lua flags=allow-oom
-- Announce a live worker. Arguments: worker, info (JSON), ttl_ms, profile, profile_params (JSON).
-- include prelude
redis.call('SADD', keys.workers, args.worker)
redis.call('SET', keys.heartbeat .. args.worker, args.info, 'PX', args.ttl_ms)
redis.call('HSET', keys.profiles, args.profile, args.profile_params)
return ''
