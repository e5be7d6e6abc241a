import { createHash } from 'node:crypto'

export interface Statement {
  readonly name: string
  readonly text: string
}

export type Statements = Readonly<Record<keyof ReturnType<typeof textsOfStatements>, Statement>>

/** Named after their text, so that two stores can share a pool. */
export function statementsOf(table: string): Statements {
  const texts = Object.entries(textsOfStatements(table))
  return Object.fromEntries(texts.map(([name, text]) => [name, { name: nameOf(text), text }])) as Statements
}

function nameOf(text: string): string {
  return `sesame_${createHash('sha256').update(text).digest('hex').slice(0, 32)}`
}

/**
 * `$2` is always the library's time, in ms, which decides whether a session is over. A row that says NULL there is not
 * ours: it is found, to be reported.
 */
const LIVE = `(expires_at > ${at('$2')}) IS NOT FALSE`
const ROW = `version, data::text AS data, ${ms('created_at')} AS created, ${ms('last_accessed')} AS accessed,
  ${ms('expires_at')} AS expires, user_id`

/** Milliseconds as a timestamptz, which a person reads more easily; its microseconds hold them exactly. */
function at(parameter: string): string {
  return `to_timestamp(${parameter}::float8 / 1000)`
}

function ms(column: string): string {
  return `(extract(epoch FROM ${column}) * 1000)::float8`
}

/**
 * An update and a delete that had to wait for another write look again at the row as that one left it. `id` is part of
 * the row, so that a session which moved meanwhile is still found by its user.
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
    list: `SELECT id, ${ROW} FROM ${table} WHERE user_id = $1 AND ${LIVE}`,
    destroyByUser: `DELETE FROM ${table} WHERE user_id = $1 AND id IS DISTINCT FROM $3 RETURNING ${LIVE} AS live`,
    cleanup: cleanupOf(table)
  }
}

/** The row is locked and read anew before it is judged: a session that ended just now is gone, and no conflict. */
function updateOf(table: string): string {
  return `WITH target AS MATERIALIZED (SELECT id, version FROM ${table} WHERE id = $1 AND ${LIVE} FOR UPDATE),
freed AS (DELETE FROM ${table} WHERE id = $4 AND expires_at <= ${at('$2')} RETURNING 1),
written AS (UPDATE ${table} AS t SET
    id = coalesce($4, t.id),
    version = t.version + CASE WHEN $8 THEN 1 ELSE 0 END,
    data = CASE WHEN $8 THEN (CASE WHEN $5 THEN '{}' ELSE t.data - $6::text[] END) || $7::jsonb ELSE t.data END,
    last_accessed = ${at('$9')},
    expires_at = ${at('$10')},
    created_at = coalesce(${at('$11')}, t.created_at),
    user_id = CASE WHEN $12 THEN $13 ELSE t.user_id END
  FROM target WHERE t.id = target.id AND target.version = coalesce($3::bigint, target.version)
    AND (SELECT count(*) FROM freed) >= 0
  RETURNING 1)
SELECT EXISTS (SELECT FROM target) AS found, EXISTS (SELECT FROM written) AS written`
}

/** The lock ends with the batch, so that no process which dies keeps it. Rows that are in use wait for the next sweep. */
function cleanupOf(table: string): string {
  return `DELETE FROM ${table} WHERE id = ANY (ARRAY(
  SELECT id FROM ${table} WHERE (SELECT pg_try_advisory_xact_lock(${lockOf(table)})) AND expires_at <= ${at('$1')}
  ORDER BY expires_at LIMIT $2 FOR UPDATE SKIP LOCKED)) RETURNING 1`
}

/** A hash index of the user ids, because they may be longer than what a B-tree holds. */
export function migrationOf(table: string, name: string): string {
  return `SELECT pg_advisory_xact_lock(${lockOf(table)});
CREATE TABLE IF NOT EXISTS ${table} (
  id text COLLATE "C" PRIMARY KEY,
  version bigint NOT NULL,
  data jsonb NOT NULL CHECK (jsonb_typeof(data) = 'object'),
  created_at timestamptz NOT NULL,
  last_accessed timestamptz NOT NULL,
  expires_at timestamptz NOT NULL,
  user_id text COLLATE "C"
);
CREATE INDEX IF NOT EXISTS ${indexOf(name, 'expires_at')} ON ${table} (expires_at);
CREATE INDEX IF NOT EXISTS ${indexOf(name, 'user_id')} ON ${table} USING hash (user_id)`
}

function indexOf(name: string, column: string): string {
  return `${name.slice(0, -1)}_${column}_idx"`
}

/** The number of this table's advisory lock. */
function lockOf(table: string): bigint {
  return createHash('sha256').update(`fastify-sesame ${table}`).digest().readBigInt64BE()
}
