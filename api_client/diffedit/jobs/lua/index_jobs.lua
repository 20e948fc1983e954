#!lua flags=allow-oom
-- Add jobs that have ended to the indexes of ended jobs. Arguments: ids.
-- include prelude
for _, id in ipairs(args.ids) do
  job, args.job_id = keys.job .. id, id
  if type(server.pcall('HGET', job, 'outcome')) == 'string' then index_ended() end
end
return ''
