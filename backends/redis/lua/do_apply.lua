-- Apply: as Put, with a part before the groups: the number of settlements' groups and those, as in Settle. First all that stands in the
-- way is looked for, then all is done.

tick()
local settlements, groups = {}, {}
local failed, item = {}, 0

for i = 1, int() do settlements[i] = answers() end
local messages = 0
for i = 1, int() do
  local g = { id = arg(), n = int(), whole = arg() == '1', ttls = arg(), limit = limit(), read = read }
  args(g.n * (g.whole and 4 or 2))
  groups[i] = g
  messages = messages + g.n
end
local answered = admit()
if answered then return answered end
-- Out of memory, a request with messages is refused, before anything is done.
if messages > 0 then call('SET', base .. '-', '') end
drain()

-- refused reads the messages of a group and notes those that a limit refuses.
local function refused(g, q)
  local ahead = { n = 0, bytes = 0 }
  for i = 1, g.n do
    local at = g.read + (i - 1) * (g.whole and 4 or 2)
    local size, delay = tonumber(string.match(ARGV[at + 1], '^%d+')), g.whole and tonumber(ARGV[at + 4]) or 0
    if delay <= 0 and full(q, g.limit, size, ahead) then
      failed[#failed + 1] = item + i - 1
      failed[#failed + 1] = 'full'
    end
  end
end

-- One queue is one table, however often it is named.
local queues = {}
local function the(id, finder)
  if not queues[id] then
    queues[id] = finder(id)
    if queues[id] then sweep(queues[id]) end
  end
  return queues[id]
end

for _, g in ipairs(groups) do
  local q = the(g.id, find)
  if not q then
    for i = 1, g.n do
      failed[#failed + 1] = item + i - 1
      failed[#failed + 1] = 'gone'
    end
  elseif g.limit then
    if g.limit.bytes >= 0 then weighed(q) end
    if g.limit.reject then refused(g, q) end
  end
  item = item + g.n
end
local seen = {}
for _, s in ipairs(settlements) do
  local q = the(s.id, load)
  local held = q and valid(q, s)
  for i, m in ipairs(s.members) do
    local name = s.id .. ' ' .. m
    if not held or not held[i] or seen[name] then
      failed[#failed + 1] = item + i - 1
      failed[#failed + 1] = 'stale'
    end
    if s.kind ~= 'e' then seen[name] = true end
  end
  item = item + #s.members
end
if #failed > 0 then return answer(failed, {}) end

local evicted = {}
for _, s in ipairs(settlements) do settle(queues[s.id], s) end
for _, g in ipairs(groups) do
  local q = queues[g.id]
  if g.ttls == '1' and not q.ttls then
    call('HSET', q.meta, 'ttls', 1)
    q.ttls = '1'
  end
  read = g.read
  if g.n > 0 then append(q, call('HINCRBY', q.meta, 's', g.n) - g.n, g.n, g.whole) end
  evicted[#evicted + 1] = g.limit and trim(q, g.limit)
  wake(q)
  noteHead(q)
end
return answer(failed, evicted)
