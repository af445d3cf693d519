-- Adds a client to the presence of a channel, or renews it.
-- KEYS: expiry of clients, clients, expiry of users, users
-- ARGV: 1 TTL, 2 when it ends, 3 client, 4 info, 5 user, 6 '1' with users, 7 '1' if fields expire
local is_new = ARGV[6] == '1' and redis.call('hexists', KEYS[2], ARGV[3]) == 0

local function renew(expiry, hash, field)
  redis.call('expire', hash, ARGV[1])
  if ARGV[7] == '1' then
    redis.call('hexpire', hash, ARGV[1], 'FIELDS', '1', field)
  else
    redis.call('zadd', expiry, ARGV[2], field)
    redis.call('expire', expiry, ARGV[1])
  end
end

redis.call('hset', KEYS[2], ARGV[3], ARGV[4])
renew(KEYS[1], KEYS[2], ARGV[3])
if ARGV[6] == '1' then
  if is_new then
    redis.call('hincrby', KEYS[4], ARGV[5], 1)
  end
  renew(KEYS[3], KEYS[4], ARGV[5])
end
