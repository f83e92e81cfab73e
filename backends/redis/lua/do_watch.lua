-- What a process does that waits: sweeps what is due, and looks for waiters whose wake-up seems lost. ARGV are the waiters.
-- The answer is { due in, waiter, queue, … }.

tick()
drain()
local at = sweepAll()
local out = { at and text(math.max(1, at - now)) or '0' }
for _, name in ipairs(ARGV) do
  for _, id in ipairs(call('ZRANGEBYSCORE', base .. 'log:' .. name, '-inf', text(now - GRACE))) do
    out[#out + 1] = name
    out[#out + 1] = id
  end
end
return out
