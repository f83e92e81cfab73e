-- Changes. ARGV: since. The answer is { "lost" } or { revision, reset, when the next session ends in, record, revision, exists, session, value, … }.

drain()
local now, since = clock(), int()
local ends = endSessions(now)
local is = call('MGET', base .. 'reg:revision', base .. 'reg:first')
if since > tonumber(is[1] or '0') or since ~= 0 and since < tonumber(is[2] or '0') then return { 'lost' } end
local reset = since ~= 0 and since < tonumber(call('GET', base .. 'reg:forgot') or '0')
if reset then since = 0 end
local out = { is[1] or '0', reset and '1' or '0', ends and text(math.max(1, ends - now)) or '0' }
local log = call('ZRANGEBYSCORE', base .. 'reg:log', '(' .. text(since), '+inf', 'WITHSCORES')
for i = 1, #log, 2 do
  local name = log[i]
  local value = call('HGET', base .. 'reg:value', name)
  if value or since ~= 0 then
    out[#out + 1] = name
    out[#out + 1] = text(tonumber(log[i + 1]))
    out[#out + 1] = value and '1' or '0'
    out[#out + 1] = value and call('HGET', base .. 'reg:of', name) or ''
    out[#out + 1] = value or ''
  end
end
return out
