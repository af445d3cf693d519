-- Appends a publication to a stream and publishes it.
-- KEYS: stream, meta hash, result hash
-- ARGV: 1 message, 2 size, 3 TTL, 4 PUB/SUB channel, 5 TTL of the meta hash (0: none), 6 epoch if there is none,
--       7 publish or spublish, 8 TTL of the result ('': no idempotency key), 9 '1' with delta, 10 version (0: none),
--       11 epoch of the version
-- Returns offset, epoch, '1' if the idempotency key is known, '1' if the version is not new.
local stream, meta, result = KEYS[1], KEYS[2], KEYS[3]
local message = ARGV[1]

if ARGV[8] ~= '' then
  local known = redis.call('hmget', result, 's', 'e')
  if known[2] then
    return {known[1], known[2], '1', '0'}
  end
end

local epoch = redis.call('hget', meta, 'e')
if not epoch then
  epoch = ARGV[6]
  redis.call('hset', meta, 'e', epoch)
end

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
  redis.call('del', stream)
elseif ARGV[9] == '1' then
  local newest = redis.call('xrevrange', stream, '+', '-', 'COUNT', 1)[1]
  local fields = newest and newest[2] or {}
  for at = 1, #fields, 2 do
    if fields[at] == 'd' then
      previous = fields[at + 1]
    end
  end
end

redis.call('xadd', stream, 'MAXLEN', ARGV[2], offset, 'd', message)
redis.call('expire', stream, ARGV[3])

local payload
if ARGV[9] == '1' then
  payload = table.concat({'__d1', offset, epoch, #previous, previous, #message, message}, ':')
else
  payload = '__p1:' .. offset .. ':' .. epoch .. '__' .. message
end
redis.call(ARGV[7], ARGV[4], payload)

if ARGV[8] ~= '' then
  redis.call('hset', result, 'e', epoch, 's', offset)
  redis.call('expire', result, ARGV[8])
end
return {offset, epoch, '0', '0'}
