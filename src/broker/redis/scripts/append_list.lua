-- Appends to a list, which has no versions. Behind append_begin.lua, before append_end.lua.
local offset = redis.call('hincrby', meta, 's', 1)
if ARGV[5] ~= '0' then
  redis.call('expire', meta, ARGV[5])
end

local previous = ''
if ARGV[9] == '1' then
  previous = redis.call('lindex', history, 0) or ''
end

local entry = '__p1:' .. offset .. ':' .. epoch .. '__' .. message
redis.call('lpush', history, entry)
redis.call('ltrim', history, 0, ARGV[2] - 1)
redis.call('expire', history, ARGV[3])
