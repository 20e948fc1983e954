-- The data of this server begin now, if it has none. After it has lost them all they begin again, at another time.
if redis.call('EXISTS', keys.epoch) == 0 then
  local id = string.sub(server.sha1hex(now .. (args.job_id or args.worker)), 1, 16)
  redis.call('SET', keys.epoch, cjson.encode({id = id, since = now}))
end
