-- What every script begins with. KEYS[1] is what the names of all keys of the vhost begin with, or of the part of it that the queues
-- are in.

local base = KEYS[1]
local call = redis.call
local GRACE, FORGET = 1e6, 3600e6 -- microseconds

-- tostring loses digits of what is above 1e14. n is whole, and less than 2^53.
local function text(n) return string.format('%d', n) end

-- The server's clock, in microseconds. It stands still while a script runs.
local function clock()
  local t = call('TIME')
  return t[1] * 1000000 + t[2]
end

local read = 0 -- of ARGV
local function arg()
  read = read + 1
  return ARGV[read]
end
local function int() return tonumber(arg()) end
local function args(n)
  local list = {}
  for i = 1, n do list[i] = ARGV[read + i] end
  read = read + n
  return list
end

-- One command with a long list, in parts: unpack has a bound. It returns the sum of the answers.
local function many(command, key, list)
  local sum = 0
  for i = 1, #list, 4000 do sum = sum + call(command, key, unpack(list, i, math.min(i + 3999, #list))) end
  return sum
end

local function lookup(key, fields)
  if #fields == 0 then return {} end
  if #fields <= 4000 then return call('HMGET', key, unpack(fields)) end
  local found = {}
  for i = 1, #fields, 4000 do
    for _, v in ipairs(call('HMGET', key, unpack(fields, i, math.min(i + 3999, #fields)))) do found[#found + 1] = v end
  end
  return found
end

-- Out of memory, Redis refuses what needs some until a script has written something. What gives memory back, or keeps
-- a lease, begins with this.
local function drain() call('DEL', base .. '-') end
