#!lua
-- Put the message of a job that waits into its queue. Arguments: job_id, queue. ARGV[2] is the message.
-- Without the flag allow-oom, a server whose memory is used up refuses this script.
-- include prelude
if type(server.pcall('HGET', job, 'next')) ~= 'string' or not waiting_in(args.queue) then
  redis.call('LPUSH', args.queue, ARGV[2])  -- a worker finds out what is wrong with it
elseif not redis.call('ZSCORE', keys.backlog .. args.queue, args.job_id) then
  send(args.queue, args.job_id, ARGV[2], false, nil, redis.call('HGET', job, 'started'))
end
return ''
