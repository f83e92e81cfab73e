-- appendPlain stores the n messages behind ARGV[at], which have neither priority nor delay, behind the place seq of a queue. It
-- returns their members.
local function appendPlain(q, seq, n, at)
  local middle, stored, members = ':' .. nowtext .. ':', {}, {}
  for i = 1, n do
    local m = text(seq + i) .. middle .. ARGV[at + 2 * i - 1]
    stored[2 * i - 1], stored[2 * i], members[i] = m, ARGV[at + 2 * i], m
  end
  many('HSET', key(q, 'm'), stored)
  many('RPUSH', listOf(q, 0), members)
  return members
end
