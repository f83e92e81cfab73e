-- settle answers takings of one queue by one holder ('' for none) in one way: a Ack, q Requeue, r Return, e Extend; after or for
-- the time wait. It returns the numbers of the takings that are stale, from 1.
local function settle(q, holder, kind, wait, members, tokens)
  local leases = holder == '' and key(q, 'lt') or heldBy(q, holder)
  local held, good, stale, seen = lookup(leases, members), {}, {}, {}
  for i, m in ipairs(members) do
    if held[i] == tokens[i] and not seen[m] then
      seen[m] = true
      good[#good + 1] = m
    else
      stale[#stale + 1] = i
    end
  end
  if #good == 0 then return stale end
  if kind == 'e' then
    local list, ends = {}, text(now + wait)
    if holder ~= '' then
      call('ZADD', key(q, 'h'), 'GT', ends, holder)
      return stale
    end
    for i, m in ipairs(good) do list[2 * i - 1], list[2 * i] = ends, m end
    many('ZADD', key(q, 'lo'), list)
    schedule(q, now + wait)
    return stale
  end
  many('HDEL', leases, good)
  if holder == '' then many('ZREM', key(q, 'lo'), good) end
  if kind == 'a' then
    forgetAll(q, good)
    return stale
  end
  if kind == 'q' then handed(q, good) end
  if wait > 0 then
    local list, at = {}, text(now + wait)
    for i, m in ipairs(good) do list[2 * i - 1], list[2 * i] = at, m end
    many('ZADD', key(q, 'd'), list)
    schedule(q, now + wait)
    return stale
  end
  putBack(q, good)
  wake(q)
  noteHead(q)
  return stale
end
