-- Counts clients and users of a channel, if users are kept.
-- KEYS: expiry of clients, clients, expiry of users, users
if ARGV[2] ~= '1' then
  remove_expired(KEYS[1], KEYS[2])
  remove_expired(KEYS[3], KEYS[4])
end
return {redis.call('hlen', KEYS[2]), redis.call('hlen', KEYS[4])}
