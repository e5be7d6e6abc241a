import { createHash } from 'node:crypto'

/** A Lua script and the SHA-1 hash under which Redis caches it. Without a hash, the text is sent each time. */
export interface Script {
  readonly text: string
  readonly sha?: string
}

/** Special values in place of a user id: `UNCHANGED` keeps the session's user, and `NOBODY` means no user. */
export const UNCHANGED = ''
export const NOBODY = '-'
/** The first character of each hash field that holds session data, and of each user id that a script receives. */
export const MARK = '.'
/** The length of the nonce that each write carries. */
export const NONCE_LENGTH = 12

function script(body: string): Script {
  const text = SHARED + body
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}

/** How many characters of nonces a session keeps: those of its last 4 writes. */
const NONCES = 4 * NONCE_LENGTH

/**
 * `ARGV[1]` is always the current time of this process, which decides whether a session has expired. The index goes by
 * the clock of Redis, as the expiry of a key does. An entry and its session always get the same lifetime, so neither
 * depends on the clock of the process that writes. Redis does not roll back a failed script, so commands that can fail
 * for lack of memory run first.
 *
 * If the arguments are many, they are one JSON array, because a client can only send a limited number of them.
 *
 * A client may send a script again if its reply was lost. A session keeps the nonces of its last writes, so that the
 * repetition changes nothing.
 */
const SHARED = `
local ARGV = #ARGV == 1 and cjson.decode(ARGV[1]) or ARGV
local now = tonumber(ARGV[1])

local function live(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return nil, 'gone' end
  if kind ~= 'hash' then return nil, 'malformed' end
  local meta = redis.call('HMGET', key, 'v', 'c', 'e', 'u', 'n')
  local version, expires = tonumber(meta[1]), tonumber(meta[3])
  if not (version and meta[2] and expires) then return nil, 'malformed' end
  if now >= expires then return nil, 'expired' end
  return { version = version, created = meta[2], expires = expires, user = meta[4], nonces = meta[5] or '' }
end

local function has(session, nonce)
  return session and string.find(session.nonces, nonce, 1, true) ~= nil
end

local function clock()
  local time = redis.call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function enter(key, ttl, id)
  local time = clock()
  redis.call('ZADD', key, 'GT', time + ttl, id)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', time)
  if redis.call('PTTL', key) < tonumber(ttl) then redis.call('PEXPIRE', key, ttl) end
end

local function put(key, first)
  for i = first, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
end
`

export const CREATE = script(`
local key, users, user, nonce = KEYS[1], KEYS[2], ARGV[7], ARGV[9]
local taken, why = live(key)
if has(taken, nonce) then return { 'ok' } end
if taken or why == 'malformed' then return { 'taken' } end
if users and user ~= '${NOBODY}' then enter(users .. user, ARGV[2], ARGV[5]) end
if why == 'expired' then redis.call('DEL', key) end
redis.call('HSET', key, 'v', ARGV[8], 'c', ARGV[6], 'a', ARGV[4], 'e', ARGV[3], 'n', nonce)
if user ~= '${NOBODY}' then redis.call('HSET', key, 'u', user) end
put(key, 10)
redis.call('PEXPIRE', key, ARGV[2])
return { 'ok' }
`)

/**
 * The lifetime of the key changes only together with that of the entry. Otherwise, a process whose clock is behind could
 * extend the session, but not its entry.
 */
export const UPDATE = script(`
local key, target, users = KEYS[1], KEYS[2], KEYS[3]
local ttl, expires, id, nonce, rename = ARGV[2], ARGV[3], ARGV[5], ARGV[12], ARGV[9] ~= ''
local before, why = live(key)
if has(before, nonce) or (rename and not before and has(live(target), nonce)) then return { 'ok' } end
if not before then return { why } end
if ARGV[8] ~= '' and tonumber(ARGV[8]) ~= before.version then return { 'conflict' } end
if rename then
  local taken, why = live(target)
  if taken or why == 'malformed' then return { 'conflict' } end
end

local user = before.user
if ARGV[7] == '${NOBODY}' then user = false elseif ARGV[7] ~= '${UNCHANGED}' then user = ARGV[7] end
local moves = rename or user ~= before.user
local lasts = moves or tonumber(expires) ~= before.expires
if user and lasts then
  if users then enter(users .. user, ttl, rename and ARGV[9] or id)
  elseif ARGV[11] ~= user then return { 'enter', user } end
end

local removed = tonumber(ARGV[13])
local first = 14 + removed
local writes = removed > 0 or ARGV[10] ~= '' or first <= #ARGV
redis.call('HSET', key, 'v', before.version + (writes and 1 or 0), 'a', ARGV[4], 'e', expires,
  'c', ARGV[6] ~= '' and ARGV[6] or before.created, 'n', (nonce .. before.nonces):sub(1, ${NONCES}))
if user then redis.call('HSET', key, 'u', user) else redis.call('HDEL', key, 'u') end
if ARGV[10] ~= '' then
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if field:sub(1, 1) == '${MARK}' then redis.call('HDEL', key, field) end
  end
end
for i = 14, first - 1 do redis.call('HDEL', key, ARGV[i]) end
put(key, first)
if users and before.user and moves then redis.call('ZREM', users .. before.user, id) end
if rename then redis.call('RENAME', key, target) end
if lasts then redis.call('PEXPIRE', target, ttl) end
return { 'ok', before.user or nil }
`)

/** Also deletes a session that has expired for this process, because it may be live for one whose clock is behind. */
export const DESTROY = script(`
local session, why = live(KEYS[1])
if why == 'expired' then redis.call('DEL', KEYS[1]) end
if not session then return { why } end
if ARGV[3] ~= '${UNCHANGED}' and ARGV[3] ~= session.user then return { 'gone' } end
redis.call('DEL', KEYS[1])
if session.user and KEYS[2] then redis.call('ZREM', KEYS[2] .. session.user, ARGV[2]) end
return { 'ok', session.user or nil }
`)

export const ENTER = script(`
enter(KEYS[1], ARGV[2], ARGV[3])
return { 'ok' }
`)

/** This script has no hash, because an attempt repeated after NOSCRIPT could run after a later ENTER of the same id. */
export const LEAVE: Script = { text: `redis.call('ZREM', KEYS[1], ARGV[2]) return { 'ok' }` }

/** Returns the ids whose sessions have not expired by the clock of Redis. */
export const LIST = script(`return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. clock(), '+inf')`)

/** Returns the time of Redis and its eviction policy, which is empty if the client is not allowed to read it. */
export const INSPECT: Script = {
  text: `
local info, time = redis.pcall('INFO', 'memory'), redis.call('TIME')
local policy = type(info) == 'string' and info:match('maxmemory_policy:([%w-]+)') or ''
return { time[1], time[2], policy }
`
}

/** Returns the next cursor and the keys of a user's sessions among the next keys of one server. */
export const SCAN = script(`
local cursor, pattern, user = ARGV[1], ARGV[2], ARGV[3]
local found = redis.call('SCAN', cursor, 'MATCH', pattern, 'COUNT', 1000, 'TYPE', 'hash')
local keys = { found[1] }
for _, key in ipairs(found[2]) do
  if redis.call('HGET', key, 'u') == user then keys[#keys + 1] = key end
end
return keys
`)
