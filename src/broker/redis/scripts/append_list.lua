-- Appends a publication to a list and publishes it. Lists have no versions.
-- KEYS and ARGV as for streams; the last two arguments are not used.
-- Returns offset, epoch, '1' if the idempotency key is known.
local list, meta, result = KEYS[1], KEYS[2], KEYS[3]
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
local offset = redis.call('hincrby', meta, 's', 1)
if ARGV[5] ~= '0' then
  redis.call('expire', meta, ARGV[5])
end

local previous = ''
if ARGV[9] == '1' then
  previous = redis.call('lindex', list, 0) or ''
end

local entry = '__p1:' .. offset .. ':' .. epoch .. '__' .. message
redis.call('lpush', list, entry)
redis.call('ltrim', list, 0, ARGV[2] - 1)
redis.call('expire', list, ARGV[3])

local payload = entry
if ARGV[9] == '1' then
  payload = table.concat({'__d1', offset, epoch, #previous, previous, #message, message}, ':')
end
redis.call(ARGV[7], ARGV[4], payload)

if ARGV[8] ~= '' then
  redis.call('hset', result, 'e', epoch, 's', offset)
  redis.call('expire', result, ARGV[8])
end
return {offset, epoch, '0', '0'}
