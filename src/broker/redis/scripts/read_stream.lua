-- Reads a part of a history in a stream.
-- KEYS: stream, meta hash
-- ARGV: 1 '1' to read entries, 2 offset to begin with (0: the end where the read begins), 3 limit (0: none), 4 '1' for newest
--       first, 5 TTL of the meta hash (0: none), 6 epoch if there is none
-- Returns the top offset, the epoch, the entries.
local meta = redis.call('hmget', KEYS[2], 'e', 's')
local epoch, top = meta[1], meta[2] or 0
if not epoch then
  epoch, top = ARGV[6], 0
  redis.call('hset', KEYS[2], 'e', epoch)
end
if ARGV[5] ~= '0' then
  redis.call('expire', KEYS[2], ARGV[5])
end
if ARGV[1] ~= '1' then
  return {top, epoch}
end
local command = {'xrange', KEYS[1], ARGV[2], '+'}
if ARGV[4] == '1' then
  command = {'xrevrange', KEYS[1], ARGV[2] ~= '0' and ARGV[2] or top, '-'}
end
if ARGV[3] ~= '0' then
  command[5], command[6] = 'COUNT', ARGV[3]
end
return {top, epoch, redis.call(unpack(command))}
