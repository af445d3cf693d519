-- Begins an append to a history: answers a known idempotency key, and finds the epoch. What follows appends, and then publishes.
-- KEYS: stream or list, meta hash, result hash
-- ARGV: 1 message, 2 size, 3 TTL, 4 PUB/SUB channel, 5 TTL of the meta hash (0: none), 6 epoch if there is none,
--       7 publish or spublish, 8 TTL of the result ('': no idempotency key), 9 '1' with delta, 10 version (0: none),
--       11 epoch of the version
-- Returns offset, epoch, '1' if the idempotency key is known, '1' if the version is not new.
local history, meta, result = KEYS[1], KEYS[2], KEYS[3]
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

