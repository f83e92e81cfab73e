-- What nearly every call needs. It is little, since a script makes its functions anew whenever it is called.

local now, nowtext

local function tick()
  now = clock()
  nowtext = text(now)
end

local function key(q, kind) return base .. kind .. ':' .. q.id end
local function listOf(q, level) return base .. 'r' .. level .. ':' .. q.id end
local function heldBy(q, holder) return base .. 'u:' .. holder .. ':' .. q.id end

-- load returns a queue, or nil if it does not exist.
local function load(id)
  local v = call('HMGET', base .. 'q:' .. id, 's', 'levels', 'due', 'bytes', 'ttls')
  if not v[1] then return nil end
  local q = {
    id = id, meta = base .. 'q:' .. id, back = base .. 'b:' .. id, levels = { 0 },
    due = tonumber(v[3] or nil), bytes = tonumber(v[4] or nil), ttls = v[5],
  }
  if v[2] and v[2] ~= '0' then
    q.levels = {}
    for l in string.gmatch(v[2], '%d+') do q.levels[#q.levels + 1] = tonumber(l) end
  end
  return q
end
