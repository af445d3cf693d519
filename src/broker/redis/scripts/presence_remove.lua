-- Removes a client from the presence of a channel.
-- KEYS: expiry of clients, clients, expiry of users, users
-- ARGV: 1 client, 2 user, 3 '1' with users, 4 '1' if fields expire
local was_there = redis.call('hdel', KEYS[2], ARGV[1]) == 1
if ARGV[4] ~= '1' then
  redis.call('zrem', KEYS[1], ARGV[1])
end
if ARGV[3] == '1' and was_there and redis.call('hincrby', KEYS[4], ARGV[2], -1) <= 0 then
  redis.call('hdel', KEYS[4], ARGV[2])
  if ARGV[4] ~= '1' then
    redis.call('zrem', KEYS[3], ARGV[2])
  end
end
