-- Put and PutBounded. ARGV goes on with the groups, one for each queue: id, number of messages, whether they have priorities and
-- delays, whether they have TTLs, the limit, then the messages. Items are counted in the order of ARGV.

local groups = int()
local answered = admit()
if answered then return answered end

local failed, evicted, item = {}, {}, 0
for _ = 1, groups do
  local id, n, whole, ttls, l = arg(), int(), arg() == '1', arg(), limit()
  local q = find(id)
  if not q then
    for i = 1, n do
      failed[#failed + 1] = item + i - 1
      failed[#failed + 1] = 'gone'
    end
    args(n * (whole and 4 or 2))
  else
    -- Out of memory, this is refused, before anything is done.
    local seq = n > 0 and call('HINCRBY', q.meta, 's', n) - n
    if n == 0 then drain() end
    sweep(q)
    if ttls == '1' and not q.ttls then
      call('HSET', q.meta, 'ttls', 1)
      q.ttls = '1'
    end
    if l and l.bytes >= 0 then weighed(q) end
    if n > 0 and l and l.reject then
      for i = 1, n do
        local bytes, delay = tonumber(string.match(ARGV[read + 1], '^%d+')), whole and tonumber(ARGV[read + 4]) or 0
        if delay <= 0 and full(q, l, bytes, { n = 0, bytes = 0 }) then
          failed[#failed + 1] = item + i - 1
          failed[#failed + 1] = 'full'
          args(whole and 4 or 2)
        else
          append(q, seq + i - 1, 1, whole)
        end
      end
    elseif n > 0 then
      append(q, seq, n, whole)
    end
    evicted[#evicted + 1] = l and trim(q, l)
    wake(q)
    noteHead(q)
  end
  item = item + n
end
return answer(failed, evicted)
