-- Get. The answer is { error, what was taken, clock, ready, next in }.

drain()
local id, max, maxBytes, lease = arg(), int(), int(), int()
local holder, number, again, waited = arg(), int(), arg() == '1', arg() == '1'
local fence, name, rooms = int(), arg(), arg()
local getter, channel = arg(), arg() -- of a Get that waits

local q = find(id)
if not q then return { 'gone' } end
sweep(q)

local function result(taken)
  local ready = count(q)
  return { '', taken or {}, nowtext, ready, text(nextIn(q, ready)) }
end

-- hold returns whether this Get of a holder was answered before, or an error. Its first one makes the holder.
local function hold()
  local state = call('HGET', key(q, 'ht'), holder)
  local last, closed, idle = 0, 0, false
  if state then
    last, closed, idle = string.match(state, '^(%d+) (%d+)(.*)$')
    last, closed, idle = tonumber(last), tonumber(closed), idle ~= ''
  elseif waited or number ~= 1 or call('ZSCORE', key(q, 'l'), holder) then
    return nil, 'holder'
  end
  if idle then
    call('ZADD', key(q, 'h'), text(now + lease), holder)
  else
    call('ZADD', key(q, 'h'), 'GT', text(now + lease), holder)
  end
  local done = number <= last
  if waited then done = number < last or number <= closed or call('HEXISTS', heldBy(q, holder), text(number)) == 1 end
  if again then closed = math.max(closed, number) end
  call('HSET', key(q, 'ht'), holder, text(math.max(last, number)) .. ' ' .. text(closed))
  return done
end

-- repeated hands out what a Take took. What is ready by then has woken nobody, so that who waits is told at once.
local function repeated()
  local members = takenBy(heldBy(q, holder), key(q, 'm'), text(number))
  table.sort(members, function(a, b) return place(a) < place(b) end)
  if name ~= '' then
    park(q, name, max, rooms, #members)
    if count(q) > 0 then wake(q) end
  end
  return result(bundle(q, members))
end

-- lend leases what was taken, or removes it.
local function lend(members)
  if #members == 0 then return nil end
  if lease <= 0 then
    local b = bundle(q, members)
    forgetAll(q, members)
    return b
  end
  if holder == '' then return bundle(q, members, text(lendLoose(q, members, lease))) end
  keep(heldBy(q, holder), text(number), members)
  schedule(q, now + lease)
  return bundle(q, members)
end

-- fitting takes up to n messages of no more than maxBytes, but one.
local function fitting(n)
  local members = take(q, n)
  if maxBytes <= 0 then return members, false end
  local bytes, fit, rest = 0, {}, {}
  for i, m in ipairs(members) do
    bytes = bytes + size(m)
    if i > 1 and bytes > maxBytes then rest[#rest + 1] = m else fit[#fit + 1] = m end
  end
  if #rest > 0 then putBack(q, rest) end
  return fit, #rest > 0
end

if fence ~= 0 then
  local seen = tonumber(call('HGET', q.meta, 'fence') or '0')
  if fence < seen then return { 'fence' } end
  call('HSET', q.meta, 'fence', text(fence))
end
if getter ~= '' then call('HDEL', key(q, 'w'), 'g' .. getter) end
if name ~= '' and max <= 0 then
  strike(q, name)
  noteHead(q)
  return result()
end
if holder ~= '' then
  local done, err = hold()
  if err then return { err } end
  if again then return repeated() end
  if done then return result() end -- and waits in vain, if it does
end

local most, till = max, nil
if name ~= '' then most, till = share(q, name, max, rooms) end
local members, cut = fitting(most)
local taken = lend(members)
if getter ~= '' and #members == 0 and max > 0 then
  call('HSET', key(q, 'w'), 'g' .. getter, text(max) .. ' 0 ' .. channel)
end
if name ~= '' then
  park(q, name, max, rooms, cut and 0 or #members)
  if count(q) > 0 then
    if till then
      local left = tonumber(call('HGET', q.meta, 'left') or nil)
      if not left or till < left then call('HSET', q.meta, 'left', text(till)) end
      schedule(q, till)
    end
    wake(q, 'w' .. name)
  end
end
noteHead(q)
return result(taken)
