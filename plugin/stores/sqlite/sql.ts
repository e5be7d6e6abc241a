import type { SqliteDatabase, SqliteStatement } from './database.js'

export type Statements = Record<keyof ReturnType<typeof sqlFor>, SqliteStatement>

/** How many sessions are listed at once. */
export const LISTED = 50
/** How many sessions of a user are deleted at once. */
export const DESTROYED = 200
/** How many expired sessions a sweep deletes at once, which blocks other writers for a few milliseconds. */
export const SWEPT = 500

/** Does the same as json_patch(), in linear instead of quadratic time, but is slower for a small patch. */
const LARGE_PATCH = `(SELECT json_group_object(key, value) FROM (
  SELECT key, value FROM json_each(data) WHERE key NOT IN (SELECT key FROM json_each(:patch))
  UNION ALL SELECT key, value FROM json_each(:patch) WHERE value IS NOT NULL))`

/** Creates the table if it is missing, and prepares the statements. */
export function setUp(database: SqliteDatabase, table: string): Statements {
  // In a table without a rowid, a lookup by id searches one B-tree instead of two.
  database.exec(`CREATE TABLE IF NOT EXISTS ${quoted(table)} (
    id TEXT PRIMARY KEY, version INTEGER NOT NULL, data TEXT NOT NULL, created_at INTEGER NOT NULL,
    last_accessed INTEGER NOT NULL, expires_at INTEGER NOT NULL, user_id TEXT) WITHOUT ROWID`)
  database.exec(`CREATE INDEX IF NOT EXISTS ${quoted(`${table}_expiry`)} ON ${quoted(table)} (expires_at)`)
  database.exec(`CREATE INDEX IF NOT EXISTS ${quoted(`${table}_user`)} ON ${quoted(table)} (user_id)
    WHERE user_id IS NOT NULL`)
  const statements = Object.entries(sqlFor(quoted(table))).map(([name, sql]) => [name, database.prepare(sql)])
  return Object.fromEntries(statements) as Statements
}

function quoted(name: string): string {
  return `"${name.replaceAll('"', '""')}"`
}

/**
 * Limits are not parameters, because SQLite prepares a statement again for each new value of such a parameter.
 *
 * The column `data` is a JSON object whose values are strings. A JSON merge patch can therefore express every change: a
 * string sets a key, and null removes a key. The statement `write` changes no indexed column except the expiry.
 */
function sqlFor(table: string) {
  const live = `FROM ${table} WHERE expires_at > :now AND`
  const row =
    'version, data, created_at AS createdAt, last_accessed AS lastAccessed, expires_at AS expiresAt, user_id AS userId'
  const change = `version = version + (:patch IS NOT NULL),
    data = CASE WHEN :patch IS NULL THEN data WHEN :clear THEN :patch WHEN :large THEN ${LARGE_PATCH}
      ELSE json_patch(data, :patch) END,
    last_accessed = :lastAccessed, expires_at = :expiresAt`
  const where = 'id = :id AND expires_at > :now AND (:ifVersion IS NULL OR version = :ifVersion)'
  return {
    get: `SELECT ${row} ${live} id = :id`,
    exists: `SELECT 1 ${live} id = :id`,
    create: `INSERT INTO ${table} (id, version, data, created_at, last_accessed, expires_at, user_id)
      VALUES (:id, :version, :data, :createdAt, :lastAccessed, :expiresAt, :userId)
      ON CONFLICT (id) DO UPDATE SET version = excluded.version, data = excluded.data,
        created_at = excluded.created_at, last_accessed = excluded.last_accessed,
        expires_at = excluded.expires_at, user_id = excluded.user_id
      WHERE ${table}.expires_at <= :now`,
    write: `UPDATE ${table} SET ${change} WHERE ${where}`,
    // If the record at the new id has expired, it is replaced. If it is live, nothing is written.
    move: `UPDATE OR REPLACE ${table} SET ${change}, id = :renameTo,
      created_at = coalesce(:createdAt, created_at),
      user_id = CASE WHEN :setsUser THEN :userId ELSE user_id END
      WHERE ${where} AND (:renameTo = :id OR NOT EXISTS (SELECT 1 ${live} id = :renameTo))`,
    destroy: `DELETE ${live} id = :id`,
    list: `SELECT id, ${row} ${live} user_id = :userId LIMIT ${LISTED}`,
    // Expired sessions are deleted too, so that the next batch does not have to pass over them.
    destroyByUser: `DELETE FROM ${table} WHERE id IN
      (SELECT id FROM ${table} WHERE user_id = :userId AND id IS NOT :except LIMIT ${DESTROYED})
      RETURNING expires_at > :now AS live`,
    idsOfUser: `SELECT json_group_array(id) AS ids FROM ${table} WHERE user_id = :userId`,
    // The plus sign keeps SQLite from searching the index of all the user's sessions.
    listIds: `SELECT id, ${row} ${live} +user_id = :userId AND id IN (SELECT value FROM json_each(:ids))`,
    cleanup: `DELETE FROM ${table} WHERE id IN (SELECT id FROM ${table} WHERE expires_at <= :now LIMIT ${SWEPT})`
  }
}
