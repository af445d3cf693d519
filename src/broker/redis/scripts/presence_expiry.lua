-- In front of a script that reads presence: removes what has expired.
-- ARGV: 1 now, 2 '1' if fields expire by themselves
local function remove_expired(expiry, hash)
  local expired = redis.call('zrangebyscore', expiry, '0', ARGV[1])
  for _, field in ipairs(expired) do
    redis.call('hdel', hash, field)
  end
  if #expired > 0 then
    redis.call('zremrangebyscore', expiry, '0', ARGV[1])
  end
end
