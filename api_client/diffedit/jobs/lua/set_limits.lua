#!lua flags=allow-oom
-- Set the limits of an owner, or delete them, and send jobs that may start now. For the empty name, which stands for all
-- other owners, jobs are sent when another one of their owner ends. Arguments: owner, and limits (JSON), if there are any.
-- include prelude
if args.limits then
  redis.call('HSET', keys.limits, args.owner, args.limits)
else
  redis.call('HDEL', keys.limits, args.owner)
end
extras().unpark(args.owner)
return ''
