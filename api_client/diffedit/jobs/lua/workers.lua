-- The live workers, and which of them have refused a stage. A heartbeat of another version may have any form.
local function info_of(worker)
  local read, info = pcall(cjson.decode, redis.call('GET', keys.heartbeat .. worker) or '')
  return read and type(info) == 'table' and info or nil
end

local function contains(list, value)
  for _, each in ipairs(type(list) == 'table' and list or {}) do
    if each == value then return true end
  end
  return false
end

-- The names of the workers that refused a stage of this job. A worker that is started again keeps its name.
local function refusers(stage)
  return cjson.decode(redis.call('HGET', job, 'refused:' .. stage) or '[]')
end

local function name_of(worker)
  local info = info_of(worker)
  return info and info.name or worker
end

-- Version 0.2.0 has contract 1, and announces and records none.
local function contract_of(info)
  return tonumber(info.contract) or 1
end

local function contract_of_job()
  return tonumber(redis.call('HGET', job, 'contract') or 1) or 1
end

-- Whether a live worker takes jobs from the queue and has not refused the stage yet.
local function has_untried_worker(stage, queue)
  local refused, contract = refusers(stage), contract_of_job()
  for _, worker in ipairs(redis.call('SMEMBERS', keys.workers)) do
    local info = info_of(worker)
    if info and info.paused ~= true and contract_of(info) >= contract
        and contains(info.queues, queue) and not contains(refused, info.name) then
      return true
    end
  end
  return false
end
