-- What time does to a queue: delays that are due, leases that end, heads that expire.

-- head returns the member that a Get would take next.
local function head(q) return peek(q, 1)[1] end

-- expiry returns when the head expires, if it does. One on its way to a waiter is left alone for that long.
local function expiry(q)
  local m = head(q)
  if not m then return nil end
  local put, ttl = string.match(m, '^%-?%d+:(%d+):%d+:(%-?%d+)$')
  if not ttl then return nil end
  return math.max(put + math.max(0, math.ceil(ttl / 1000)), owedUntil(q))
end

-- noteHead has an expired head noticed in time, whatever became the head.
local function noteHead(q)
  if not q.ttls then return end
  local at = expiry(q)
  if not at then return end
  local noted = call('ZSCORE', base .. 'expire', q.id)
  if noted and tonumber(noted) <= at then return end
  call('ZADD', base .. 'expire', text(at), q.id)
  publish('expire', q.id)
end

-- lose ends the lease of a holder: what it held is ready again, and its name is never used again. One that has nothing
-- is forgotten an hour later.
local function lose(q, holder)
  local members = takenByAny(heldBy(q, holder), key(q, 'm'))
  local state = call('HGET', key(q, 'ht'), holder) or ''
  if #members == 0 and not string.find(state, 'idle') then
    call('HSET', key(q, 'ht'), holder, state .. ' idle')
    call('ZADD', key(q, 'h'), text(now + FORGET), holder)
    return members
  end
  call('ZREM', key(q, 'h'), holder)
  call('HDEL', key(q, 'ht'), holder)
  call('DEL', heldBy(q, holder))
  if #members > 0 then
    local lost = key(q, 'l')
    call('ZREMRANGEBYSCORE', lost, '-inf', text(now - FORGET))
    call('ZADD', lost, nowtext, holder)
  end
  return members
end

-- due removes from a sorted set what has come to its time, and returns it.
local function due(zset)
  local members = call('ZRANGEBYSCORE', zset, '-inf', nowtext)
  if #members > 0 then call('ZREMRANGEBYSCORE', zset, '-inf', nowtext) end
  return members
end

-- sweep makes ready what is due.
local function sweep(q)
  if not q.due or now < q.due then return end
  drain()
  local delayed, loose, n = due(key(q, 'd')), due(key(q, 'lo')), 0
  putBack(q, delayed)
  many('HDEL', key(q, 'lt'), loose)
  handed(q, loose)
  putBack(q, loose)
  n = #delayed + #loose
  for _, holder in ipairs(call('ZRANGEBYSCORE', key(q, 'h'), '-inf', nowtext)) do
    local members = lose(q, holder)
    handed(q, members)
    putBack(q, members)
    n = n + #members
  end
  -- Up: those for whom something was left did not come.
  local left = tonumber(call('HGET', q.meta, 'left') or nil)
  if left and left <= now then
    call('HDEL', q.meta, 'left')
    n, left = n + count(q), nil
  end
  local at = math.min(first(key(q, 'd')) or math.huge, first(key(q, 'lo')) or math.huge, first(key(q, 'h')) or math.huge, left or math.huge)
  if at == math.huge then
    q.due = nil
    call('HDEL', q.meta, 'due')
    call('ZREM', base .. 'due', q.id)
  else
    q.due = at
    call('HSET', q.meta, 'due', text(at))
    call('ZADD', base .. 'due', text(at), q.id)
  end
  if n > 0 then
    wake(q)
    noteHead(q)
  end
end

-- sweepAll sweeps every queue that is due and returns when the next one is.
local function sweepAll()
  for _, id in ipairs(call('ZRANGEBYSCORE', base .. 'due', '-inf', nowtext)) do
    local q = load(id)
    if q then
      q.due = q.due or 0
      sweep(q)
    else
      call('ZREM', base .. 'due', id)
    end
  end
  return first(base .. 'due')
end
