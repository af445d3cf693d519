-- In front of a script that appends, if the answer to the first attempt was lost: looks for the message in the history.
-- ARGV: 12 when the message was made, in milliseconds; 13 '1' if the history is a list
-- Returns the message's offset, epoch, '0', '0' if it is there, and '', '', '0', 'u' if it may have been there. Otherwise the
-- script goes on and appends.
local function time_of(message)
  -- Field 9 of a message in Protobuf.
  local at = 1
  local function varint()
    local value, factor = 0, 1
    while at <= #message do
      local byte = string.byte(message, at)
      at = at + 1
      value = value + (byte % 128) * factor
      if byte < 128 then
        break
      end
      factor = factor * 128
    end
    return value
  end
  while at <= #message do
    local key = varint()
    local kind = key % 8
    if kind == 0 then
      local value = varint()
      if key == 72 then
        return value
      end
    elseif kind == 1 then
      at = at + 8
    elseif kind == 2 then
      local length = varint()
      at = at + length
    else
      return nil
    end
  end
end

local function find_own()
  local made, scanned, oldest = tonumber(ARGV[12]), 0, nil
  local epoch = redis.call('hget', KEYS[2], 'e')
  if not epoch then
    return nil
  end
  if ARGV[13] == '1' then
    local entries = redis.call('lrange', KEYS[1], 0, 999)
    for _, entry in ipairs(entries) do
      local head, message = string.match(entry, '^__p1:(%d+):[^_]*__()')
      if head then
        oldest = string.sub(entry, message)
        if oldest == ARGV[1] then
          return {tonumber(head), epoch, '0', '0'}
        end
      end
    end
    scanned = #entries
  else
    local entries = redis.call('xrevrange', KEYS[1], '+', '-', 'COUNT', 1000)
    for _, entry in ipairs(entries) do
      if entry[2][1] == 'd' then
        oldest = entry[2][2]
        if oldest == ARGV[1] then
          return {tonumber(string.match(entry[1], '^%d+')), epoch, '0', '0'}
        end
      end
    end
    scanned = #entries
  end
  -- If the oldest entry is older than the message, the message would still be there. One second is for clocks that differ.
  local full = scanned >= math.min(tonumber(ARGV[2]), 1000)
  if full and oldest and (time_of(oldest) or made) > made - 1000 then
    return {'', '', '0', 'u'}
  end
end

local own = find_own()
if own then
  return own
end
