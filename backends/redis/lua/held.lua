-- What holders have, read and changed otherwise than by Get and Ack. How that is kept says take.

-- unpackTake appends to list the members that a Take with that record and that number holds.
local function unpackTake(m, record, number, list)
  local from = #list
  for member in string.gmatch(record, '%S+') do list[#list + 1] = member end
  local all, to = #list, from
  if all - from == tonumber(number) then return end
  for i = from + 1, all do
    local member = list[i]
    list[i] = nil
    if call('HEXISTS', m, member) == 1 then
      to = to + 1
      list[to] = member
    end
  end
end

-- takenBy returns what a Take holds.
local function takenBy(u, m, take)
  local list, f = {}, call('HMGET', u, take, take .. '#')
  if f[2] then unpackTake(m, f[1], f[2], list) end
  return list
end

-- takenByAny returns what a holder has.
local function takenByAny(u, m)
  local all, fields, list = call('HGETALL', u), {}, {}
  for i = 1, #all, 2 do fields[all[i]] = all[i + 1] end
  for take, record in pairs(fields) do
    if fields[take .. '#'] then unpackTake(m, record, fields[take .. '#'], list) end
  end
  return list
end

-- leave takes members out of a Take's record.
local function leave(u, take, members)
  local out, stay = {}, {}
  for _, member in ipairs(members) do out[member] = true end
  for member in string.gmatch(call('HGET', u, take), '%S+') do
    if not out[member] then stay[#stay + 1] = member end
  end
  call('HSET', u, take, recorded(stay), take .. '!', 1)
  less(u, take, #members)
end
