-- The parts of a Put: the producer's mark, what a limit refuses and evicts, the messages.

local producer, sequence = arg(), arg()
local guarded = args(2 * int())

-- admit answers a request that is repeated, behind its producer, or whose guard does not hold.
local function admit()
  if producer ~= '' then
    local mark = call('GET', base .. 'p:' .. producer)
    if mark then
      local last, outcome = string.match(mark, '^(%d+)\n(.*)$')
      if tonumber(sequence) < tonumber(last) then return { 'behind' } end
      if sequence == last then
        call('EXPIRE', base .. 'p:' .. producer, 3600) -- a write of this connection, for WAIT
        return outcome == '' and { '' } or cmsgpack.unpack(outcome)
      end
    end
  end
  local differ = guard(guarded, now)
  if #differ > 0 then return { 'guard', differ } end
end

-- answer keeps the outcome as the producer's mark and returns it.
local function answer(failed, evicted)
  local plain = #failed == 0 and #evicted == 0
  local outcome = plain and { '' } or { '', failed, evicted, text(now) }
  if producer ~= '' then
    call('SET', base .. 'p:' .. producer, sequence .. '\n' .. (plain and '' or cmsgpack.pack(outcome)), 'EX', 3600)
  end
  return outcome
end

-- append stores the next n messages of ARGV behind the place seq. whole says that they have a priority and a delay.
local function append(q, seq, n, whole)
  if not whole then
    weigh(q, appendPlain(q, seq, n, read), 1)
    read = read + 2 * n
    return addLevel(q, 0)
  end
  local stored, lists, delayed, soonest = {}, {}, {}, math.huge
  for i = 1, n do
    local tail, value, level, delay = arg(), arg(), int(), int()
    local m = text(seq + i - level * LEVEL) .. ':' .. nowtext .. ':' .. tail
    stored[2 * i - 1], stored[2 * i] = m, value
    if delay > 0 then
      delayed[#delayed + 1] = text(now + delay)
      delayed[#delayed + 1] = m
      soonest = math.min(soonest, now + delay)
    else
      lists[level] = lists[level] or {}
      table.insert(lists[level], m)
    end
  end
  many('HSET', key(q, 'm'), stored)
  for level, members in pairs(lists) do
    addLevel(q, level)
    many('RPUSH', listOf(q, level), members)
    weigh(q, members, 1)
  end
  many('ZADD', key(q, 'd'), delayed)
  if soonest < math.huge then schedule(q, soonest) end
end

-- limit reads the limit of a group: nil, or what it bounds. A lease below 0 is none.
local function limit()
  local l = { len = int(), bytes = int(), reject = arg() == '1', lease = int() }
  if l.len < 0 and l.bytes < 0 then return nil end
  return l
end

-- weighed has a queue that is bounded in bytes weighed from now on.
local function weighed(q)
  if q.bytes then return end
  q.bytes = 0
  weigh(q, (peek(q, count(q))), 1)
end

local function sum(members)
  local n = 0
  for _, m in ipairs(members) do n = n + size(m) end
  return n
end

-- full reports whether a queue that rejects has no room for a message of that size, behind others of its request that are not
-- there yet; else it is one of those. ahead has how many they are, and the bytes of those behind what is on its way.
local function full(q, l, bytes, ahead)
  local n, coming = count(q) + ahead.n, owed(q)
  if n < coming then -- it is on its way itself
    bytes = 0
  elseif l.len >= 0 and n + 1 > l.len + coming then
    return true
  elseif l.bytes >= 0 and q.bytes + ahead.bytes + bytes > l.bytes
    and q.bytes + ahead.bytes + bytes - sum((peek(q, coming))) > l.bytes then
    return true
  end
  ahead.n, ahead.bytes = ahead.n + 1, ahead.bytes + bytes
  return false
end

-- trim takes messages from the head, behind what is on its way, until the queue keeps its limit, and returns them as a
-- bundle, or nil. Those of a limit with a holder are leased, the others are gone.
local function trim(q, l)
  if l.reject then return nil end
  local n = count(q)
  local over = function() return n > 0 and (l.len >= 0 and n > l.len or l.bytes >= 0 and q.bytes > l.bytes) end
  if not over() then return nil end
  local aside, out = take(q, math.min(n, owed(q))), {}
  n = n - #aside
  while over() do
    local members = take(q, l.len >= 0 and n > l.len and n - l.len or 1)
    for _, m in ipairs(members) do out[#out + 1] = m end
    n = n - #members
  end
  putBack(q, aside)
  if #out == 0 then return nil end
  if l.lease >= 0 then return bundle(q, out, text(lendLoose(q, out, l.lease))) end
  local b = bundle(q, out)
  forgetAll(q, out)
  return b
end
