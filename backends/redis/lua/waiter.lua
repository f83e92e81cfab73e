-- Who waits for messages of a queue, and what is on its way to him. How that is kept says wake.

-- waiters calls f for each who waits, or was woken and may still come.
local function waiters(q, f)
  local all = call('HGETALL', key(q, 'w'))
  for i = 1, #all, 2 do
    local max, woken, rooms = parse(all[i + 1])
    if woken == 0 or now - woken < GRACE then f(all[i], max, woken, rooms) end
  end
end

-- owed returns how many messages are on their way.
local function owed(q)
  local n = 0
  waiters(q, function(_, max) n = n + max end)
  return n
end

-- owedUntil returns until when any is that is there.
local function owedUntil(q)
  local at = 0
  waiters(q, function(_, _, woken)
    if woken ~= 0 then at = math.max(at, woken + GRACE) end
  end)
  return at
end

-- strike removes what was recorded for a waiter.
local function strike(q, name)
  call('HDEL', key(q, 'w'), 'w' .. name)
  call('ZREM', base .. 'log:' .. name, q.id)
end

-- park records a waiter that could take max messages more than the n it took of its rooms.
local function park(q, name, max, rooms, n)
  if n >= max then return strike(q, name) end
  local left = {}
  max = max - n
  for p, r in string.gmatch(rooms, '(%-?%d+):(%d+)') do
    local k = math.min(n, tonumber(r))
    n = n - k
    left[#left + 1] = p .. ':' .. text(r - k)
  end
  call('HSET', key(q, 'w'), 'w' .. name, max .. ' 0 ' .. table.concat(left, ','))
  call('ZREM', base .. 'log:' .. name, q.id)
end

-- above returns how much room a waiter has for a priority higher than that.
local function above(max, rooms, priority)
  if rooms == '' then return priority < 0 and max or 0 end
  local n = 0
  for p, r in string.gmatch(rooms, '(%-?%d+):(%d+)') do
    if tonumber(p) > priority then n = n + tonumber(r) end
  end
  return n
end

-- share returns how many messages a Get may take, leaving those that are on their way to consumers of higher priority in
-- other processes, and when the first of these is given up, if there are any.
local function share(q, name, max, rooms)
  local n, till = 0, nil
  if rooms == '' then rooms = '0:' .. max end
  for p, r in string.gmatch(rooms, '(%-?%d+):(%d+)') do
    local others = 0
    waiters(q, function(field, theirs, woken, rooms)
      if string.sub(field, 1, 1) == 'g' or field == 'w' .. name then return end
      local k = above(theirs, rooms, tonumber(p))
      if k > 0 then
        others = others + k
        till = math.min(till or math.huge, (woken == 0 and now or woken) + GRACE)
      end
    end)
    if others > 0 then break end -- they come first: what there is beyond that is taken when they have been
    n = n + tonumber(r)
  end
  return math.min(n, max), till
end
