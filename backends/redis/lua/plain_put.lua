-- plain makes a Put in which nothing is out of the ordinary: no repeat, no limit, TTL or priority, no queue that is new or has
-- something due. Anything else it leaves, before it has written anything, to what follows.
local function plain()
  local producer, sequence, guarded = ARGV[1], ARGV[2], tonumber(ARGV[3])
  local mark = base .. 'p:' .. producer
  if producer ~= '' then
    local last = call('GET', mark)
    if last and tonumber(string.match(last, '^%d+')) >= tonumber(sequence) then return nil end
  end
  if guarded > 0 then
    local ends = call('ZRANGE', base .. 'reg:sessions', 0, 0, 'WITHSCORES')[2]
    if ends and tonumber(ends) <= now then return nil end
    local records = {}
    for i = 1, guarded do records[i] = ARGV[2 + 2 * i] end
    for i, rev in ipairs(lookup(base .. 'reg:rev', records)) do
      if (rev or '0') ~= ARGV[3 + 2 * i] then return nil end
    end
  end
  local at, groups = 4 + 2 * guarded, {}
  for i = 1, tonumber(ARGV[at]) do
    local n, q = tonumber(ARGV[at + 2]), load(ARGV[at + 1])
    if n == 0 or ARGV[at + 3] .. ARGV[at + 4] .. ARGV[at + 5] .. ARGV[at + 6] ~= '00-1-1'
      or not q or #q.levels > 1 or q.levels[1] ~= 0 or q.bytes or q.ttls or q.due and now >= q.due then
      return nil
    end
    groups[i] = { q = q, n = n, at = at + 8 }
    at = at + 8 + 2 * n
  end
  for _, g in ipairs(groups) do
    appendPlain(g.q, call('HINCRBY', g.q.meta, 's', g.n) - g.n, g.n, g.at)
    wake(g.q)
  end
  if producer ~= '' then call('SET', mark, sequence .. '\n', 'EX', 3600) end
  return { '' }
end

tick()
local done = plain()
if done then return done end
