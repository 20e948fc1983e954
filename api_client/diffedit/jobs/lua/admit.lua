#!lua flags=allow-oom
-- Find an API key, and count a request with it. Arguments: key_id, digest.
-- Returns {} if there is no such key, else its entry, and `remaining`, or `retry_after` if it was used too often.
--
-- The generic cell rate algorithm: requests count as if they came one by one, 60 / rate seconds apart, and those that
-- come earlier may be ahead of this by a minute.
-- include prelude
local entry = redis.call('HGET', keys.api_keys, args.key_id)
local readable, key = pcall(cjson.decode, entry or '')
local rate = readable and type(key) == 'table' and number(key.rate)
if not rate or rate < 1 or key.digest ~= args.digest then return '{}' end

local interval = 60 / rate
local time_now = tonumber(now)
local before = number(redis.call('GET', keys.rate .. args.key_id)) or 0
if before > time_now + 61 then before = 0 end  -- somebody has changed it
local after = math.max(time_now, before) + interval
local ahead = after - time_now
if ahead > 60.000001 then return cjson.encode({entry = entry, retry_after = ahead - 60}) end
redis.call('SET', keys.rate .. args.key_id, string.format('%.6f', after), 'EX', 61)
return cjson.encode({entry = entry, remaining = math.floor((60 - ahead) / interval + 0.000001)})
