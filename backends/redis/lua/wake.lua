-- Waking who waits for messages of a queue.
--
-- A field of the hash w is "w" and a waiter's name, or "g" and that of a Get that waits; its value is "max woken rooms": how many
-- he could take, when he was woken (0: not yet), and of a waiter max by priority, "priority:room,…", of a Get the channel.

local function parse(value)
  local max, woken, rooms = string.match(value, '^(%d+) (%d+) (.*)$')
  return tonumber(max), tonumber(woken), rooms
end

-- publish says something under the vhost's name, whatever the part.
local function publish(channel, message)
  call('PUBLISH', (string.gsub(base, '#%d+}part:$', '}:')) .. channel, message)
end

local function wakeOne(q, field, max, rooms)
  call('HSET', key(q, 'w'), field, max .. ' ' .. nowtext .. ' ' .. rooms)
  local name = string.sub(field, 2)
  if string.sub(field, 1, 1) == 'g' then
    publish('get:' .. rooms, name)
    return
  end
  -- What is published may get lost: the waiter looks into its log now and then.
  call('ZADD', base .. 'log:' .. name, nowtext, q.id)
  call('EXPIRE', base .. 'log:' .. name, 3600)
  publish('wake:' .. name, q.id)
end

-- wake tells everybody who has not been told, but for one.
local function wake(q, except)
  local all = call('HGETALL', key(q, 'w'))
  for i = 1, #all, 2 do
    local max, woken, rooms = parse(all[i + 1])
    if woken == 0 then
      if all[i] ~= except then wakeOne(q, all[i], max, rooms) end
    elseif now - woken >= GRACE then
      call('HDEL', key(q, 'w'), all[i]) -- does not come
    end
  end
end
