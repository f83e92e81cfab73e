-- Settle. ARGV are groups: id, holder, kind, time, number, members, tokens. The answer are the numbers of the takings that
-- are stale, from 0, in the order of ARGV.

tick()
drain()
local stale, item = {}, 0
for _ = 1, int() do
  local id, holder, kind, wait, n = arg(), arg(), arg(), int(), int()
  local members, tokens = args(n), args(n)
  local q = load(id)
  if q then
    sweep(q)
    for _, i in ipairs(settle(q, holder, kind, wait, members, tokens)) do stale[#stale + 1] = item + i - 1 end
  else
    for i = 1, n do stale[#stale + 1] = item + i - 1 end
  end
  item = item + n
end
return stale
