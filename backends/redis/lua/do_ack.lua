-- Settle, where all are Acks, which is nearly always: no clock, no queue, nobody to wake. ARGV and the answer are as in Settle.

local stale, item = {}, 0
for _ = 1, int() do
  local id, holder, _, _, n, take = arg(), arg(), arg(), arg(), int(), arg()
  local members, m, good = args(n), base .. 'm:' .. id, {}
  local u = base .. 'u:' .. holder .. ':' .. id
  local function only(is)
    for i = 1, n do
      if is(i) then
        good[#good + 1] = members[i]
      else
        stale[#stale + 1] = item + i - 1
      end
    end
  end
  if take == '' then
    local held, tokens = lookup(base .. 'lt:' .. id, members), args(n)
    only(function(i) return held[i] == tokens[i] end)
    many('HDEL', base .. 'lt:' .. id, good)
    many('ZREM', base .. 'lo:' .. id, good)
    many('HDEL', m, good)
  else
    local f = call('HMGET', u, take .. '#', take .. '!')
    if not f[1] then
      only(function() return false end)
    elseif f[2] then
      local set = within(u, take)
      only(function(i) return set[members[i]] end)
    else
      good = members
    end
    if #good > 0 then less(u, take, many('HDEL', m, good)) end
  end
  local a = base .. 'a:' .. id
  if call('EXISTS', a) == 1 then many('HDEL', a, good) end
  item = item + n
end
return stale
