-- What is about a queue as a whole. ARGV: what, the queue, and for peek how many.

tick()
drain()
local what, id = arg(), arg()
if what == 'create' then return find(id) and 1 or 0 end

local q = load(id)
if what == 'delete' then
  call('ZREMRANGEBYSCORE', base .. 'gone', '-inf', text(now - FORGET))
  call('ZADD', base .. 'gone', nowtext, id)
end
if not q then return what == 'peek' and {} or 0 end
sweep(q)
if what == 'peek' then return { bundle(q, (peek(q, int()))), nowtext } end

local n = count(q)
if what == 'size' then return n end

local function dropReady()
  for _, l in ipairs(q.levels) do call('UNLINK', listOf(q, l)) end
  call('UNLINK', q.back)
end

if what == 'purge' then
  if n == call('HLEN', key(q, 'm')) then
    call('UNLINK', key(q, 'm'), key(q, 'a'))
  else
    forgetAll(q, (peek(q, n)))
  end
  dropReady()
  if q.bytes then call('HSET', q.meta, 'bytes', 0) end
  return n
end

-- delete
wake(q)
dropReady()
for _, holder in ipairs(call('HKEYS', key(q, 'ht'))) do call('UNLINK', heldBy(q, holder)) end
for _, kind in ipairs({ 'm', 'a', 'd', 'lo', 'lt', 'h', 'ht', 'l', 'w' }) do call('UNLINK', key(q, kind)) end
call('UNLINK', q.meta)
call('SREM', base .. 'queues', id)
call('ZREM', base .. 'due', id)
call('ZREM', base .. 'expire', id)
return n
