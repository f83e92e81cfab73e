-- Update. ARGV: the session, then for each change record, operation, condition ('*' any, '+' exists, a revision), session, value.

drain()
local now = clock()
endSessions(now)
local function alive(session) return call('ZSCORE', base .. 'reg:sessions', session) end
if not alive(arg()) then return { 'session' } end

local changes, differ, writes = {}, {}, false
for i = 1, (#ARGV - 1) / 5 do
  local c = { name = arg(), op = arg(), want = arg(), session = arg(), value = arg() }
  c.rev = revision(c.name)
  if c.want ~= '*' and c.want ~= c.rev and not (c.want == '+' and c.rev ~= '0') then
    differ[#differ + 1] = c.name
    differ[#differ + 1] = c.rev
  end
  if c.op == 'w' and c.session ~= '' and not alive(c.session) then return { 'session' } end
  writes = writes or c.op ~= 'c'
  changes[i] = c
end
if #differ > 0 then return { 'conflict', differ } end

local rev = writes and nextRevision() or call('GET', base .. 'reg:revision') or '0'
for _, c in ipairs(changes) do
  local exists = revision(c.name) ~= '0'
  if c.op == 'd' and exists then deleteRecord(c.name, rev, now) end
  if c.op == 'w' or c.op == 't' and exists then
    call('HSET', base .. 'reg:rev', c.name, rev)
    call('ZADD', base .. 'reg:log', rev, c.name)
    if not exists then call('ZREM', base .. 'reg:deleted', c.name) end
  end
  if c.op == 'w' then
    call('HSET', base .. 'reg:value', c.name, c.value)
    unbind(c.name)
    if c.session ~= '' then
      call('HSET', base .. 'reg:of', c.name, c.session)
      call('SADD', base .. 'reg:by:' .. c.session, c.name)
    end
  end
end

-- Deleted records are forgotten after an hour, a few at a time.
for _, name in ipairs(call('ZRANGEBYSCORE', base .. 'reg:deleted', '-inf', text(now - FORGET), 'LIMIT', 0, 100)) do
  local gone = call('ZSCORE', base .. 'reg:log', name)
  local forgot = tonumber(call('GET', base .. 'reg:forgot') or '0')
  if tonumber(gone) > forgot then call('SET', base .. 'reg:forgot', text(tonumber(gone))) end
  call('ZREM', base .. 'reg:log', name)
  call('ZREM', base .. 'reg:deleted', name)
end
return { '', rev }
