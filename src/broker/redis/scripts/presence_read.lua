-- Reads the presence of a channel.
-- KEYS: expiry of clients, clients
-- Returns clients and infos in turn.
if ARGV[2] ~= '1' then
  remove_expired(KEYS[1], KEYS[2])
end
return redis.call('hgetall', KEYS[2])
