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
  local text = record['refused:' .. stage]
  if not text then return {} end
  local read, names = pcall(cjson.decode, text)
  return read and type(names) == 'table' and names or {}
end

local function name_of(worker)
  local info = info_of(worker)
  return info and type(info.name) == 'string' and info.name or worker
end

-- Version 0.2.0 has contract 1, and announces and records none.
local function contract_of(info)
  return tonumber(info.contract) or 1
end

local function contract_of_job()
  return tonumber(record.contract or 1) or 1
end

-- Return the live workers that read the queue and can serve the job.
local function workers_of(queue)
  local found, contract = {}, contract_of_job()
  for _, worker in ipairs(redis.call('SMEMBERS', keys.workers)) do
    local info = info_of(worker)
    if info and contract_of(info) >= contract and contains(info.queues, queue) then table.insert(found, info) end
  end
  return found
end

-- Whether one of these workers takes jobs and its name is not among those that refused the stage.
local function has_untried_worker(workers, refused)
  for _, info in ipairs(workers) do
    if info.paused ~= true and not contains(refused, info.name) then return true end
  end
  return false
end
