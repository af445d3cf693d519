-- Publishes a message without history once for each idempotency key.
-- KEYS: result hash
-- ARGV: message, PUB/SUB channel, publish or spublish, TTL of the result
-- Returns 1 if it was published, 0 if the key is known.
if redis.call('hget', KEYS[1], 'e') then
  return 0
end
redis.call(ARGV[3], ARGV[2], ARGV[1])
redis.call('hset', KEYS[1], 'e', '')
redis.call('expire', KEYS[1], ARGV[4])
return 1
