
-- Publishes what was appended, and keeps the result of the idempotency key.
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
