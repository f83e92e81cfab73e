-- answers reads a group of ARGV: takings of one queue that are answered in one way, by one holder and of one Take, or of none ('').
-- kind is a Ack, q Requeue, r Return, e Extend; after or for the time wait.
local function answers()
  local s = { id = arg(), holder = arg(), kind = arg(), wait = int(), n = int(), take = arg() }
  s.members = args(s.n)
  if s.take == '' then s.tokens = args(s.n) end
  return s
end

-- valid tells of each taking whether it still holds its message.
local function valid(q, s)
  local good = {}
  if s.take == '' then
    local held = lookup(key(q, 'lt'), s.members)
    for i = 1, s.n do good[i] = held[i] == s.tokens[i] end
    return good
  end
  local set, m = within(heldBy(q, s.holder), s.take), key(q, 'm')
  for i, member in ipairs(s.members) do good[i] = set[member] and call('HEXISTS', m, member) == 1 end
  return good
end

-- settle answers takings of a queue. It returns the numbers of those that are stale, from 1.
local function settle(q, s)
  local held, good, stale, seen = valid(q, s), {}, {}, {}
  for i, m in ipairs(s.members) do
    if held[i] and not seen[m] then
      seen[m] = true
      good[#good + 1] = m
    else
      stale[#stale + 1] = i
    end
  end
  if #good == 0 then return stale end
  local at = text(now + s.wait)
  local function by(zset)
    local list = {}
    for i, m in ipairs(good) do list[2 * i - 1], list[2 * i] = at, m end
    many('ZADD', zset, list)
    schedule(q, now + s.wait)
  end
  if s.kind == 'e' then
    if s.take == '' then by(key(q, 'lo')) else call('ZADD', key(q, 'h'), 'GT', at, s.holder) end
    return stale
  end
  if s.take == '' then
    many('HDEL', key(q, 'lt'), good)
    many('ZREM', key(q, 'lo'), good)
  elseif s.kind == 'a' then
    less(heldBy(q, s.holder), s.take, #good)
  else
    leave(heldBy(q, s.holder), s.take, good)
  end
  if s.kind == 'a' then
    forgetAll(q, good)
    return stale
  end
  if s.kind == 'q' then handed(q, good) end
  if s.wait > 0 then
    by(key(q, 'd'))
    return stale
  end
  putBack(q, good)
  wake(q)
  noteHead(q)
  return stale
end
