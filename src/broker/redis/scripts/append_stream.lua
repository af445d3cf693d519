-- Appends to a stream, unless the version is not new. Behind append_begin.lua, before append_end.lua.
if ARGV[10] ~= '0' then
  local last = redis.call('hmget', meta, 'v', 've', 's')
  local same_life = ARGV[11] == '' or ARGV[11] == last[2]
  if last[1] and same_life and tonumber(last[1]) >= tonumber(ARGV[10]) then
    return {tonumber(last[3] or 0), epoch, '0', '1'}
  end
  redis.call('hset', meta, 'v', ARGV[10], 've', ARGV[11])
end

local offset = redis.call('hincrby', meta, 's', 1)
if ARGV[5] ~= '0' then
  redis.call('expire', meta, ARGV[5])
end

local previous = ''
if offset == 1 then
  -- The meta hash is new. A stream from before it is of another epoch.
  redis.call('del', history)
elseif ARGV[9] == '1' then
  local newest = redis.call('xrevrange', history, '+', '-', 'COUNT', 1)[1]
  local fields = newest and newest[2] or {}
  for at = 1, #fields, 2 do
    if fields[at] == 'd' then
      previous = fields[at + 1]
    end
  end
end

redis.call('xadd', history, 'MAXLEN', ARGV[2], offset, 'd', message)
redis.call('expire', history, ARGV[3])
