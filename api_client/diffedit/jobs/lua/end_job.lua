#!lua flags=allow-oom
-- End the job; the first outcome holds. A worker may end only the job that it runs; a client names no worker.
-- Arguments: job_id, outcome, and optionally worker and error (JSON).
-- include prelude
-- include only_open
-- include ending
if args.worker and holder ~= args.worker then return 'elsewhere' end
if args.error then redis.call('HSET', job, 'error', args.error) end
end_job(args.outcome)
return ''
