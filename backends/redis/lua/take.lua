-- What holders have. A Take is a record of its members, written once, and the number of those that it holds, so that an Ack has
-- nothing to write for each message but that it is gone. u, which is u:HOLDER:QUEUE, has "TAKE", the members, each between
-- spaces; "TAKE#", how many of them are held; "TAKE!", when any has left the record otherwise than by an Ack. Those of the
-- record that are still there, in m, which is m:QUEUE, are held.

local function recorded(members) return ' ' .. table.concat(members, ' ') .. ' ' end

-- keep records what a Take took.
local function keep(u, take, members) call('HSET', u, take, recorded(members), take .. '#', #members) end

-- less says that a Take holds n fewer.
local function less(u, take, n)
  if n > 0 and call('HINCRBY', u, take .. '#', -n) <= 0 then call('HDEL', u, take, take .. '#', take .. '!') end
end

-- within returns which members are in a Take's record: a set. Those that were acked may be, too.
local function within(u, take)
  local set = {}
  for member in string.gmatch(call('HGET', u, take) or '', '%S+') do set[member] = true end
  return set
end
