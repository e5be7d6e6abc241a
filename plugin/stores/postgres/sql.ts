import { createHash } from 'node:crypto'

/** The text of an SQL statement, and the name under which a connection prepares the statement. */
export interface Statement {
  /** If it is not set, the statement is not prepared. */
  readonly name?: string
  readonly text: string
}

export type Statements = Readonly<Record<keyof ReturnType<typeof textsOfStatements>, Statement>>

/** Returns the statements for a table. Each name is a hash of the text, and therefore unique in a shared pool. */
export function statementsOf(table: string): Statements {
  const texts = Object.entries(textsOfStatements(table))
  return Object.fromEntries(texts.map(([name, text]) => [name, { name: nameOf(text), text }])) as Statements
}

function nameOf(text: string): string {
  return `sesame_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`
}

/**
 * A condition for sessions that have not expired. `$2` is the current time of this process, in milliseconds. A row
 * without an expiry is malformed. It meets the condition, so that it is read and reported.
 */
const LIVE = `(expires_at > ${at('$2')}) IS NOT FALSE`
const ROW = `version, data::text AS data, ${ms('created_at')} AS "createdAt", ${ms('last_accessed')} AS "lastAccessed",
  ${ms('expires_at')} AS "expiresAt", user_id AS "userId"`

/** Converts milliseconds to a timestamptz. This type is easy to read and represents every millisecond exactly. */
function at(parameter: string): string {
  return `to_timestamp(${parameter}::float8 / 1000)`
}

function ms(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000)::float8`
}

/**
 * If an UPDATE or DELETE has to wait for another write, PostgreSQL checks the condition again on the new version of
 * the row. `destroyByUser` selects rows by user, so it also ends a session whose id has changed in the meantime.
 */
function textsOfStatements(table: string) {
  return {
    get: `SELECT ${ROW} FROM ${table} WHERE id = $1 AND ${LIVE}`,
    create: `INSERT INTO ${table} AS t (id, version, data, created_at, last_accessed, expires_at, user_id)
  VALUES ($1, $3, $4, ${at('$5')}, ${at('$6')}, ${at('$7')}, $8)
  ON CONFLICT (id) DO UPDATE SET version = excluded.version, data = excluded.data, created_at = excluded.created_at,
    last_accessed = excluded.last_accessed, expires_at = excluded.expires_at, user_id = excluded.user_id
  WHERE t.expires_at <= ${at('$2')} RETURNING 1`,
    update: updateOf(table),
    destroy: `DELETE FROM ${table} WHERE id = $1 RETURNING ${LIVE} AS live`,
    list: listOf(table),
    destroyByUser: `WITH ended AS (
  DELETE FROM ${table} WHERE user_id = $1 AND id IS DISTINCT FROM $3 RETURNING ${LIVE} AS live)
SELECT count(*) FILTER (WHERE live)::int AS count FROM ended`,
    cleanup: cleanupOf(table)
  }
}

/**
 * Returns the rows in JSON arrays of about 32 kB, so that a user with thousands of sessions does not block the event
 * loop: the driver reads few rows, and the store can pause between two arrays.
 */
function listOf(table: string): string {
  return `SELECT json_agg(row)::text AS rows FROM (
  SELECT json_build_array(id, version, data, "createdAt", "lastAccessed", "expiresAt", "userId") AS row,
    sum(octet_length(data) + 150) OVER (ROWS UNBOUNDED PRECEDING) / 32768 AS part
  FROM (SELECT id, ${ROW} FROM ${table} WHERE user_id = $1 AND ${LIVE}) AS found) AS numbered
GROUP BY part`
}

/**
 * The statement first locks the row and reads it again, so that a session that has ended in the meantime counts as
 * `gone`, not as a `conflict`. Values are strings, so a null in the JSON merge patch `$6` only means a removed key.
 */
function updateOf(table: string): string {
  return `WITH target AS MATERIALIZED (SELECT id, version FROM ${table} WHERE id = $1 AND ${LIVE} FOR UPDATE),
freed AS (DELETE FROM ${table} WHERE id = $4 AND expires_at <= ${at('$2')} RETURNING 1),
written AS (UPDATE ${table} AS t SET
    id = coalesce($4, t.id),
    version = t.version + CASE WHEN $6::jsonb IS NULL THEN 0 ELSE 1 END,
    data = CASE WHEN $6::jsonb IS NULL THEN t.data WHEN $5 THEN $6::jsonb
      ELSE jsonb_strip_nulls(t.data || $6::jsonb) END,
    last_accessed = ${at('$7')},
    expires_at = ${at('$8')},
    created_at = coalesce(${at('$9')}, t.created_at),
    user_id = CASE WHEN $10 THEN $11 ELSE t.user_id END
  FROM target WHERE t.id = target.id AND target.version = coalesce($3::bigint, target.version)
    AND (SELECT count(*) FROM freed) >= 0
  RETURNING 1)
SELECT EXISTS (SELECT FROM target) AS found, EXISTS (SELECT FROM written) AS written`
}

/**
 * Removes up to `$1` sessions that have expired by the clock of PostgreSQL, because the clock of one process may be
 * wrong. An advisory lock prevents concurrent sweeps, and is released if the process dies. Locked rows are skipped.
 */
function cleanupOf(table: string): string {
  return `WITH removed AS (DELETE FROM ${table} WHERE id = ANY (ARRAY(
  SELECT id FROM ${table} WHERE (SELECT pg_try_advisory_xact_lock(${lockOf(table)})) AND expires_at <= now()
  ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED)) RETURNING 1)
SELECT count(*)::int AS count FROM removed`
}

/**
 * Finds the schema of the table `$1`, which is a quoted name, as the connection's `search_path` has it. `current` is the
 * schema in which that connection would create the table. A temporary table is not the table of the sessions.
 */
export const SCHEMA: Statement = {
  text: `SELECT (SELECT nspname FROM pg_class JOIN pg_namespace AS n ON n.oid = relnamespace
  WHERE pg_class.oid = to_regclass($1) AND relpersistence <> 't') AS found, current_schema() AS current`
}

/** Tells what could keep the store from writing to the table `$1`, and what the time of PostgreSQL is in milliseconds. */
export const STATE: Statement = {
  text: `SELECT has_any_column_privilege($1, 'INSERT') AND has_any_column_privilege($1, 'UPDATE')
  AND has_table_privilege($1, 'DELETE') AS "mayWrite", pg_is_in_recovery() AS "isReplica",
  current_setting('transaction_read_only') = 'on' AS "isReadOnly", ${ms('clock_timestamp()')} AS now`
}

/** Tells whether the table `$1` has all columns and an index for each kind of lookup, so that nothing has to be created. */
export const COMPLETE: Statement = {
  text: `SELECT (SELECT count(*) FROM pg_attribute WHERE attrelid = to_regclass($1)
    AND (attname::text, atttypid::regtype::text) IN (('id', 'text'), ('version', 'bigint'), ('data', 'jsonb'),
      ('created_at', 'timestamp with time zone'), ('last_accessed', 'timestamp with time zone'),
      ('expires_at', 'timestamp with time zone'), ('user_id', 'text'))) = 7
  AND (SELECT count(DISTINCT attname) FROM pg_index JOIN pg_attribute ON attrelid = indrelid AND attnum = indkey[0]
    WHERE indrelid = to_regclass($1) AND indisvalid
    AND (attname IN ('expires_at', 'user_id') OR attname = 'id' AND indisunique)) = 3 AS "isComplete"`
}

/** Returns the statements that create what is missing. The lock makes processes that start together take turns. */
export function migrationOf(table: string, name: string): string {
  return `SELECT pg_advisory_xact_lock(${lockOf(table)});\n${definitionOf(table, name)}`
}

/** The index on user ids is a hash index, because a B-tree cannot index very long ids. */
export function definitionOf(table: string, name: string): string {
  return `CREATE TABLE IF NOT EXISTS ${table} (
  id text COLLATE "C" PRIMARY KEY,
  version bigint NOT NULL,
  data jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
  created_at timestamptz NOT NULL,
  last_accessed timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  user_id text COLLATE "C"
);
CREATE INDEX IF NOT EXISTS ${indexOf(name, 'expires_at')} ON ${table} (expires_at);
CREATE INDEX IF NOT EXISTS ${indexOf(name, 'user_id')} ON ${table} USING hash (user_id);`
}

function indexOf(name: string, column: string): string {
  return `${name.slice(0, -1)}_${column}_idx"`
}

function lockOf(table: string): bigint {
  return createHash('sha256').update(`fastify-sesame ${table}`).digest().readBigInt64BE()
}
