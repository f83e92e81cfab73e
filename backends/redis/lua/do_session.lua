-- Sessions. ARGV: what, the session, for how long.

drain()
local now = clock()
local what, session = arg(), arg()
if what == 'end' then
  endSession(session, now)
  return 1
end
endSessions(now)
if what == 'list' then return call('ZRANGE', base .. 'reg:sessions', 0, -1) end

if call('ZSCORE', base .. 'reg:ended', session) then return 0 end
local ends = now + int()
local before = tonumber(call('ZSCORE', base .. 'reg:sessions', session) or nil)
call('ZADD', base .. 'reg:sessions', text(ends), session)
-- Who waits for changes must look at the end of this one, too.
if not before or ends < before then call('PUBLISH', base .. 'registry', '') end
return 1
