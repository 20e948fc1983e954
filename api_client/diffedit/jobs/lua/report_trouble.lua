#!lua flags=allow-oom
-- Note the trouble of a worker. Arguments: name, trouble (JSON), ttl (seconds).
-- include prelude
redis.call('SADD', keys.troubles, args.name)
redis.call('SET', keys.trouble .. args.name, args.trouble, 'EX', args.ttl)
return ''
