#!lua flags=allow-oom
-- Look for jobs that have ended and are in no index of ended jobs: a process of 0.2.0 ended them.
-- Arguments: before (the time of submission to begin at), offset (jobs of this time that were looked at), count.
-- Returns the next `before` ('' if all were looked at), the next offset, and the ids.
-- include prelude
local entries = redis.call('ZRANGE', keys.index, args.before, '-inf', 'BYSCORE', 'REV', 'LIMIT', args.offset, args.count,
  'WITHSCORES')
local ids, found = {}, {}
for i = 1, #entries, 2 do table.insert(ids, entries[i]) end
if #ids == 0 then return {'', 0, {}} end
local ended = redis.call('ZMSCORE', keys.ended, unpack(ids))
for i, id in ipairs(ids) do
  if not ended[i] and type(server.pcall('HGET', keys.job .. id, 'outcome')) == 'string' then table.insert(found, id) end
end
if #ids < args.count then return {'', 0, found} end
local last, same = entries[#entries], 0
for i = 2, #entries, 2 do
  if entries[i] == last then same = same + 1 end
end
if last == args.before then same = same + args.offset end
return {last, same, found}
