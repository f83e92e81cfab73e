-- Settle. ARGV are groups, as in settle. The answer are the numbers of the takings that are stale, from 0, in the order of ARGV.

tick()
drain()
local stale, item = {}, 0
for _ = 1, int() do
  local s = answers()
  local q = load(s.id)
  if q then
    sweep(q)
    for _, i in ipairs(settle(q, s)) do stale[#stale + 1] = item + i - 1 end
  else
    for i = 1, s.n do stale[#stale + 1] = item + i - 1 end
  end
  item = item + s.n
end
return stale
