#!lua flags=allow-oom
-- Look for jobs that have ended and are in no index of ended jobs: a process of 0.2.0 ended them.
-- Arguments: before, after (the times of submission between which to look, the newest first), offset (jobs of the time
-- `before` that were looked at already), count.
-- Returns the ids; the next `before` ('' if all were looked at) and the next offset; the time of submission of the newest
-- job and that of the oldest one that has not ended ('' if there is none), of those that were looked at.
-- include prelude
local ids = redis.call('ZRANGE', keys.index, args.before, args.after, 'BYSCORE', 'REV', 'LIMIT', args.offset, args.count)
if #ids == 0 then return {{}, '', 0, '', ''} end
local found, open = {}, ''
local ended = redis.call('ZMSCORE', keys.ended, unpack(ids))
for i, id in ipairs(ids) do
  if not ended[i] then
    local outcome = server.pcall('HGET', keys.job .. id, 'outcome')
    if type(outcome) == 'string' then
      table.insert(found, id)
    elseif redis.call('EXISTS', keys.job .. id) == 1 then
      open = redis.call('ZSCORE', keys.index, id)
    end
  end
end
local newest = redis.call('ZSCORE', keys.index, ids[1])
if #ids < args.count then return {found, '', 0, newest, open} end
local last, same = redis.call('ZSCORE', keys.index, ids[#ids]), 1
while same < #ids and redis.call('ZSCORE', keys.index, ids[#ids - same]) == last do same = same + 1 end
if last == args.before then same = same + args.offset end
return {found, last, same, newest, open}
