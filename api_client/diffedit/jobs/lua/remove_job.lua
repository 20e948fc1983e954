#!lua flags=allow-oom
-- Delete the record of a job and everything that names the job. A job that has not ended is cancelled.
-- Arguments: job_id, most_siblings.
-- Returns false if there is no record, else {the keys of its objects, the other jobs that use its pictures}. The objects
-- are left to garbage collection, unless the caller deletes them. If more than most_siblings use a picture, the second
-- value is false.
-- include prelude
-- include ending
-- include removal
local outcome = server.pcall('HGET', job, 'outcome')
if type(outcome) == 'table' then
  forget_record()  -- it is no hash
  return {{}, {}}
end
if redis.call('EXISTS', job) == 0 then
  forget_record()
  return false
end
if not outcome then end_job('cancelled') end
settle()
local objects, siblings = extras().objects_of_job(), {}
for _, key in ipairs(objects) do redis.call('ZADD', keys.kept, 'NX', now, key) end
forget_record()
for _, key in ipairs(objects) do
  if string.sub(key, 1, 7) == 'inputs/' then
    for _, other in ipairs(redis.call('ZRANGE', keys.uses .. key, 0, args.most_siblings)) do
      table.insert(siblings, other)
    end
  end
end
return {objects, #siblings <= args.most_siblings and siblings}
