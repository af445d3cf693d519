-- Reads a history in a list: all of it, newest first, or only the position.
-- KEYS: list, meta hash
-- ARGV: 1 '1' to read entries, 2 TTL of the meta hash (0: none), 3 epoch if there is none
-- Returns the top offset, the epoch, the entries.
local meta = redis.call('hmget', KEYS[2], 'e', 's')
local epoch, top = meta[1], meta[2] or 0
if not epoch then
  epoch, top = ARGV[3], 0
  redis.call('hset', KEYS[2], 'e', epoch)
end
if ARGV[2] ~= '0' then
  redis.call('expire', KEYS[2], ARGV[2])
end
if ARGV[1] ~= '1' then
  return {top, epoch}
end
return {top, epoch, redis.call('lrange', KEYS[1], 0, -1)}
