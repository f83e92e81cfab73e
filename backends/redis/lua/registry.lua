-- Records and sessions. Hashes by record: rev (of those that exist), value, of (the session it goes with). Sorted sets: log
-- (records by revision, deleted ones too), sessions (by their end), ended (by when), deleted (records by when).

local function revision(name) return call('HGET', base .. 'reg:rev', name) or '0' end

-- Revisions of a registry that is new, or has lost all it had, begin above all that were before.
local function nextRevision()
  local rev = call('INCR', base .. 'reg:revision')
  if rev == 1 then
    rev = clock()
    call('SET', base .. 'reg:revision', text(rev))
    call('SET', base .. 'reg:first', text(rev))
  end
  rev = text(rev)
  call('PUBLISH', base .. 'registry', rev)
  return rev
end

local function unbind(name)
  local session = call('HGET', base .. 'reg:of', name)
  if not session then return end
  call('HDEL', base .. 'reg:of', name)
  call('SREM', base .. 'reg:by:' .. session, name)
end

local function deleteRecord(name, rev, now)
  unbind(name)
  call('HDEL', base .. 'reg:rev', name)
  call('HDEL', base .. 'reg:value', name)
  call('ZADD', base .. 'reg:log', rev, name)
  call('ZADD', base .. 'reg:deleted', text(now), name)
end

local function endSession(session, now)
  if call('ZREM', base .. 'reg:sessions', session) == 0 then return end
  call('ZREMRANGEBYSCORE', base .. 'reg:ended', '-inf', text(now - FORGET))
  call('ZADD', base .. 'reg:ended', text(now), session)
  local names = call('SMEMBERS', base .. 'reg:by:' .. session)
  if #names == 0 then return end
  local rev = nextRevision()
  for _, name in ipairs(names) do deleteRecord(name, rev, now) end
end

-- endSessions ends those whose time is over, and returns when the next one ends.
local function endSessions(now)
  while true do
    local s = call('ZRANGE', base .. 'reg:sessions', 0, 0, 'WITHSCORES')
    local ends = tonumber(s[2])
    if not ends or ends > now then return ends end
    endSession(s[1], now)
  end
end

-- guard returns the records that have not the revisions of a guard: name, revision, …
local function guard(pairs, now)
  local differ = {}
  if #pairs == 0 then return differ end
  endSessions(now)
  for i = 1, #pairs, 2 do
    local rev = revision(pairs[i])
    if rev ~= pairs[i + 1] then
      differ[#differ + 1] = pairs[i]
      differ[#differ + 1] = rev
    end
  end
  return differ
end
