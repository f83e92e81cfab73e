-- When there is something to do.

local function first(zset)
  local f = call('ZRANGE', zset, 0, 0, 'WITHSCORES')
  return tonumber(f[2])
end

-- nextIn returns when something becomes ready by itself; 0 if nothing does, or there is something anyway.
local function nextIn(q, ready)
  if not q.due or ready > 0 then return 0 end
  local at = math.min(first(key(q, 'd')) or math.huge, first(key(q, 'lo')) or math.huge)
  local holders = call('ZRANGE', key(q, 'h'), 0, -1, 'WITHSCORES')
  for i = 1, #holders, 2 do
    local ends = tonumber(holders[i + 1])
    if ends >= at then break end
    if call('EXISTS', heldBy(q, holders[i])) == 1 then
      at = ends
      break
    end
  end
  return at < math.huge and math.max(1, at - now) or 0
end
