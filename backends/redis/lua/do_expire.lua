-- Expire. ARGV: the queue or '', how many, the lease. The answer is { what was taken of each queue, clock, next in }.

tick()
drain()
local only, max, lease = arg(), int(), int()
sweepAll()
local out = {}

local function expire(id)
  call('ZREM', base .. 'expire', id)
  local q = load(id)
  if not q then return end
  local members = {}
  while max > 0 do
    local at = expiry(q)
    if not at or at > now then break end
    members[#members + 1] = take(q, 1)[1]
    max = max - 1
  end
  if #members > 0 then out[#out + 1] = bundle(q, members, text(lendLoose(q, members, lease))) end
  noteHead(q)
end

local at
if only ~= '' then
  expire(only)
  at = tonumber(call('ZSCORE', base .. 'expire', only) or nil)
else
  while max > 0 do
    local heads = call('ZRANGE', base .. 'expire', 0, 0, 'WITHSCORES')
    if not heads[1] or tonumber(heads[2]) > now then break end
    expire(heads[1])
  end
  at = first(base .. 'expire')
end
return { out, nowtext, at and text(math.max(1, at - now)) or '0' }
