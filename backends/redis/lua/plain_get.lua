-- plain makes a Get by a holder in which nothing is out of the ordinary: it is the holder's next Take, in a queue that has no
-- priorities, expiry, limit in bytes, nothing due and nothing that came back, and nobody else waits. Anything else it leaves,
-- before it has written anything, to what follows.
local function plain()
  local max, lease, holder, take = tonumber(ARGV[2]), tonumber(ARGV[4]), ARGV[5], ARGV[6]
  local name = ARGV[10]
  -- MaxBytes, Again, waited, Fence, rooms, who waits
  if ARGV[3] .. ARGV[7] .. ARGV[8] .. ARGV[9] .. ARGV[11] .. ARGV[12] ~= '0000' or holder == '' or max <= 0 or lease <= 0 then return nil end
  local q = load(ARGV[1])
  if not q or #q.levels > 1 or q.levels[1] ~= 0 or q.bytes or q.ttls or not q.due or now >= q.due or now + lease < q.due
    or call('EXISTS', q.back) == 1 then
    return nil
  end
  local last, closed = string.match(call('HGET', key(q, 'ht'), holder) or '', '^(%d+) (%d+)$')
  if not last or tonumber(last) >= tonumber(take) then return nil end
  local waits = call('HGETALL', key(q, 'w'))
  if #waits > 2 or waits[1] and waits[1] ~= 'w' .. name then return nil end

  -- Out of memory, Redis refuses what needs some until a script has written something: this comes first.
  local members = call('LPOP', listOf(q, 0), max) or {}
  local n, u, a, taken = #members, heldBy(q, holder), key(q, 'a'), {}
  call('ZADD', key(q, 'h'), 'GT', text(now + lease), holder)
  call('HSET', key(q, 'ht'), holder, take .. ' ' .. closed)
  if n > 0 then
    keep(u, take, members)
    taken = { q.id, members, lookup(key(q, 'm'), members), call('EXISTS', a) == 1 and lookup(a, members) or {}, '' }
  end
  if name ~= '' and n < max then
    call('HSET', key(q, 'w'), 'w' .. name, text(max - n) .. ' 0 ')
  elseif waits[1] then
    call('HDEL', key(q, 'w'), waits[1])
  end
  if name ~= '' then call('ZREM', base .. 'log:' .. name, q.id) end
  local ready = call('LLEN', listOf(q, 0))
  return { '', taken, nowtext, ready, text(nextIn(q, ready)) }
end

tick()
local done = plain()
if done then return done end
