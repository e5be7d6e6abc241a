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

function script(body: string): Script {
  const text = SHARED + body
  return { text, sha: createHash('sha1').update(text).digest('hex') }
}

/**
 * `ARGV[1]` is always the current time of this process, which decides whether a session has expired. Redis' own expiry
 * only frees memory. Redis does not roll back a failed script, so commands that can fail for lack of memory run first.
 */
const SHARED = `
local now = tonumber(ARGV[1])

local function live(key)
  local kind = redis.call('TYPE', key).ok
  if kind == 'none' then return nil, 'gone' end
  if kind ~= 'hash' then return nil, 'malformed' end
  local meta = redis.call('HMGET', key, 'v', 'c', 'e', 'u')
  local version, expires = tonumber(meta[1]), tonumber(meta[3])
  if not (version and meta[2] and expires) then return nil, 'malformed' end
  if now >= expires then return nil, 'expired' end
  return { version = version, created = meta[2], expires = expires, user = meta[4] }
end

local function enter(key, ttl, expires, id)
  redis.call('ZADD', key, 'GT', expires, id)
  redis.call('ZREMRANGEBYSCORE', key, '-inf', now)
  if redis.call('PTTL', key) < tonumber(ttl) then redis.call('PEXPIRE', key, ttl) end
end

local function put(key, first)
  for i = first, #ARGV, 2 do redis.call('HSET', key, ARGV[i], ARGV[i + 1]) end
end
`

export const CREATE = script(`
local key, users, user = KEYS[1], KEYS[2], ARGV[7]
local taken, why = live(key)
if taken or why == 'malformed' then return { 'taken' } end
if users and user ~= '${NOBODY}' then enter(users .. user, ARGV[2], ARGV[3], ARGV[5]) end
if why == 'expired' then redis.call('DEL', key) end
redis.call('HSET', key, 'v', ARGV[8], 'c', ARGV[6], 'a', ARGV[4], 'e', ARGV[3])
if user ~= '${NOBODY}' then redis.call('HSET', key, 'u', user) end
put(key, 9)
redis.call('PEXPIRE', key, ARGV[2])
return { 'ok' }
`)

export const UPDATE = script(`
local key, target, users = KEYS[1], KEYS[2], KEYS[3]
local ttl, expires, id, rename = ARGV[2], ARGV[3], ARGV[5], ARGV[9] ~= ''
local before, why = live(key)
if not before then return { why } end
if ARGV[8] ~= '' and tonumber(ARGV[8]) ~= before.version then return { 'conflict' } end
if rename then
  local taken, why = live(target)
  if taken or why == 'malformed' then return { 'conflict' } end
end

local user = before.user
if ARGV[7] == '${NOBODY}' then user = false elseif ARGV[7] ~= '${UNCHANGED}' then user = ARGV[7] end
local moves = rename or user ~= before.user
if user and (moves or tonumber(expires) > before.expires) then
  if users then enter(users .. user, ttl, expires, rename and ARGV[9] or id)
  elseif ARGV[11] ~= user then return { 'enter', user } end
end

local removed = tonumber(ARGV[12])
local first = 13 + removed
local writes = removed > 0 or ARGV[10] ~= '' or first <= #ARGV
redis.call('HSET', key, 'v', before.version + (writes and 1 or 0), 'a', ARGV[4], 'e', expires,
  'c', ARGV[6] ~= '' and ARGV[6] or before.created)
if user then redis.call('HSET', key, 'u', user) else redis.call('HDEL', key, 'u') end
if ARGV[10] ~= '' then
  for _, field in ipairs(redis.call('HKEYS', key)) do
    if field:sub(1, 1) == '${MARK}' then redis.call('HDEL', key, field) end
  end
end
for i = 13, first - 1 do redis.call('HDEL', key, ARGV[i]) end
put(key, first)
if users and before.user and moves then redis.call('ZREM', users .. before.user, id) end
if rename then redis.call('RENAME', key, target) end
redis.call('PEXPIRE', target, ttl)
return { 'ok', before.user or nil }
`)

export const DESTROY = script(`
local session, why = live(KEYS[1])
if not session then return { why } end
if ARGV[3] ~= '${UNCHANGED}' and ARGV[3] ~= session.user then return { 'gone' } end
redis.call('DEL', KEYS[1])
if session.user and KEYS[2] then redis.call('ZREM', KEYS[2] .. session.user, ARGV[2]) end
return { 'ok', session.user or nil }
`)

export const ENTER = script(`
enter(KEYS[1], ARGV[2], ARGV[3], ARGV[4])
return { 'ok' }
`)

/** This script has no hash, because an attempt repeated after NOSCRIPT could run after a later ENTER of the same id. */
export const LEAVE: Script = { text: `redis.call('ZREM', KEYS[1], ARGV[2]) return { 'ok' }` }

export const LIST = script(`return redis.call('ZRANGEBYSCORE', KEYS[1], '(' .. ARGV[1], '+inf')`)
