-- The script goes on only if args.worker runs the job.
if holder ~= args.worker then return 'elsewhere' end
