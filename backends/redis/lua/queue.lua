-- A queue: what is ready in it, and what becomes ready by itself.
--
-- A member stands for a message in all of a queue's keys: "place:put:size", or "place:put:size:ttl". Its place orders the
-- queue: the number of the message, less 2^45 for each priority. Times are microseconds, the TTL nanoseconds.

local LEVEL = 35184372088832 -- 2^45

local function place(m) return tonumber(string.match(m, '^%-?%d+')) end
local function size(m) return tonumber(string.match(m, '^%-?%d+:%d+:(%d+)')) end

-- find returns a queue, making it at first use; nil if it was deleted.
local function find(id)
  local q = load(id)
  if q then return q end
  if call('ZSCORE', base .. 'gone', id) then return nil end
  call('SADD', base .. 'queues', id)
  call('HSET', base .. 'q:' .. id, 's', 0, 'levels', '0')
  return load(id)
end

local function addLevel(q, level)
  for _, l in ipairs(q.levels) do
    if l == level then return end
  end
  q.levels[#q.levels + 1] = level
  table.sort(q.levels, function(a, b) return a > b end)
  call('HSET', q.meta, 'levels', table.concat(q.levels, ' '))
end

local function count(q)
  local n = call('ZCARD', q.back)
  for _, l in ipairs(q.levels) do n = n + call('LLEN', listOf(q, l)) end
  return n
end

-- weigh keeps the sum of the sizes of what is ready, in queues that need it.
local function weigh(q, members, sign)
  if not q.bytes then return end
  local sum = 0
  for _, m in ipairs(members) do sum = sum + size(m) end
  q.bytes = q.bytes + sign * sum
  call('HSET', q.meta, 'bytes', text(q.bytes))
end

-- putBack makes ready at their old places what was leased or delayed.
local function putBack(q, members)
  local list = {}
  for _, m in ipairs(members) do
    list[#list + 1] = string.match(m, '^%-?%d+')
    list[#list + 1] = m
  end
  many('ZADD', q.back, list)
  weigh(q, members, 1)
end

-- handed counts a handing out of members that come back.
local function handed(q, members)
  local a = key(q, 'a')
  if call('EXISTS', a) == 1 then
    for _, m in ipairs(members) do call('HINCRBY', a, m, 1) end
    return
  end
  local list = {}
  for i, m in ipairs(members) do list[2 * i - 1], list[2 * i] = m, 1 end
  many('HSET', a, list)
end

-- peek returns the first n members, how many of them stand in each list, and how many among those that came back.
local function peek(q, n)
  local out, listed, b = {}, {}, 1
  if n <= 0 then return out, listed, 0 end
  local back = call('ZRANGE', q.back, 0, n - 1)
  for _, l in ipairs(q.levels) do
    if #out >= n then break end
    for _, m in ipairs(call('LRANGE', listOf(q, l), 0, n - #out - 1)) do
      local p = place(m)
      while b <= #back and #out < n and place(back[b]) < p do
        out[#out + 1] = back[b]
        b = b + 1
      end
      if #out >= n then break end
      out[#out + 1] = m
      listed[l] = (listed[l] or 0) + 1
    end
  end
  while b <= #back and #out < n do
    out[#out + 1] = back[b]
    b = b + 1
  end
  return out, listed, b - 1
end

-- take removes the first n members from what is ready.
local function take(q, n)
  if n <= 0 then return {} end
  local out
  if #q.levels == 1 and call('EXISTS', q.back) == 0 then
    out = call('LPOP', listOf(q, q.levels[1]), n) or {}
  else
    local listed, back
    out, listed, back = peek(q, n)
    if back > 0 then call('ZREMRANGEBYRANK', q.back, 0, back - 1) end
    for l, k in pairs(listed) do call('LPOP', listOf(q, l), k) end
  end
  weigh(q, out, -1)
  return out
end

-- forgetAll removes messages that nobody holds any more.
local function forgetAll(q, members)
  many('HDEL', key(q, 'm'), members)
  local a = key(q, 'a')
  if call('EXISTS', a) == 1 then many('HDEL', a, members) end
end

-- bundle is what the client makes messages of. token is that of the first of those that are leased by themselves.
local function bundle(q, members, token)
  local a = key(q, 'a')
  local attempts = call('EXISTS', a) == 1 and lookup(a, members) or {}
  return { q.id, members, lookup(key(q, 'm'), members), attempts, token or '' }
end

-- schedule has the queue looked at no later than at, and told who sleeps for longer.
local function schedule(q, at)
  if q.due and q.due <= at then return end
  q.due = at
  local before = first(base .. 'due')
  call('HSET', q.meta, 'due', text(at))
  call('ZADD', base .. 'due', text(at), q.id)
  if not before or at < before then publish('due', text(at - now) .. ' ' .. q.id) end
end

-- lendLoose leases members each by itself and returns the token of the first; the others follow.
local function lendLoose(q, members, lease)
  if #members == 0 then return nil end
  local token = call('HINCRBY', q.meta, 'token', #members) - #members + 1
  local ends, tokens, at = {}, {}, text(now + lease)
  for i, m in ipairs(members) do
    ends[2 * i - 1], ends[2 * i] = at, m
    tokens[2 * i - 1], tokens[2 * i] = m, text(token + i - 1)
  end
  many('ZADD', key(q, 'lo'), ends)
  many('HSET', key(q, 'lt'), tokens)
  schedule(q, now + lease)
  return token
end
