-- Settle, where all are Acks, which is nearly always: no clock, no queue, nobody to wake. ARGV and the answer are as in Settle.

local stale, item = {}, 0
for _ = 1, int() do
  local id, holder, _, _, n = arg(), arg(), arg(), arg(), int()
  local members, tokens = args(n), args(n)
  local leases = holder == '' and base .. 'lt:' .. id or base .. 'u:' .. holder .. ':' .. id
  local held, good = lookup(leases, members), {}
  for i, m in ipairs(members) do
    if held[i] == tokens[i] then
      good[#good + 1] = m
    else
      stale[#stale + 1] = item + i - 1
    end
  end
  many('HDEL', leases, good)
  if holder == '' then many('ZREM', base .. 'lo:' .. id, good) end
  many('HDEL', base .. 'm:' .. id, good)
  local a = base .. 'a:' .. id
  if call('EXISTS', a) == 1 then many('HDEL', a, good) end
  item = item + n
end
return stale
