#!lua flags=allow-oom
-- Add jobs that have ended to the indexes of ended jobs. Arguments: ids.
-- include prelude
-- include ending
for _, id in ipairs(args.ids) do
  job, args.job_id = keys.job .. id, id
  for name in pairs(record) do record[name] = nil end
  local outcome = server.pcall('HGET', job, 'outcome')
  if type(outcome) == 'string' then index_ended(outcome, number(redis.call('HGET', job, 'finished')) or now) end
end
return ''
