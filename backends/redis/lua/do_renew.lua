-- Renew. ARGV: the holder, for how long, the queues. The answer are the numbers of those on which it is lost, from 0.

tick()
drain()
local holder, ends, lost = arg(), int() + now, {}
for i = 0, #ARGV - 3 do
  local q = load(arg())
  if q then sweep(q) end
  local state = q and call('HGET', key(q, 'ht'), holder)
  if not state then
    lost[#lost + 1] = i
  elseif not string.find(state, 'idle') then
    call('ZADD', key(q, 'h'), 'GT', text(ends), holder)
  end
end
return lost
