import { setTimeout as delay } from 'node:timers/promises'
import { SessionOptionError } from '../../errors.js'
import type { Statement } from './sql.js'

/** The part of a `pg` Pool that the store uses. */
export interface PostgresPool {
  query(query: PostgresQuery): Promise<{ readonly rows: unknown[] }>
  /** True after the pool's `end()` has been called. */
  readonly ending?: boolean
  /** The number of idle connections. If it is not set, the store only calls `query`. */
  readonly idleCount?: number
  /** If `query_timeout` is set here, it applies instead of the store's own limit of 1.5 seconds. */
  readonly options?: object
  /** Takes a client out of the pool. */
  connect?(callback: (error: Error | undefined, client: unknown) => void): unknown
}

export interface PostgresQuery {
  /** The name under which each connection prepares the statement. If it is not set, the statement is not prepared. */
  name?: string
  text: string
  values?: unknown[]
  /** The time limit in milliseconds. A pool of `pg` closes the connection of a query that exceeds it. */
  query_timeout?: number
}

/** A client that was taken out of the pool. */
interface PoolClient extends Client {
  on(event: 'error', listener: () => void): unknown
  off(event: 'error', listener: () => void): unknown
  /** Puts the client back into the pool, or closes its connection if there is an error. */
  release(error?: unknown): void
}

interface Client extends Pick<PostgresPool, 'query'> {
  /** Returns `T` or `E` in a transaction block. Exists in `pg` 8.21 and newer. */
  getTransactionStatus?(): string | null
}

/** Runs statements on a pool. */
export interface Queries {
  read<R>(statement: Statement, values?: unknown[]): Promise<R[]>
  /** Runs a statement that writes. Throws if it would be part of a transaction of the application. */
  write<R>(statement: Statement, values?: unknown[], timeout?: number): Promise<R[]>
  /** Runs several statements in one transaction. */
  migrate(text: string): Promise<void>
}

export const POOL_HINT = 'use `new PostgresStore({ pool: new pg.Pool({ connectionString }) })`'
/** The time limit of a query in milliseconds. It is shorter than the default `storeTimeout`. */
const QUERY_TIMEOUT = 1500
/** The time limit of a statement that no request waits for, in milliseconds. */
export const SLOW_QUERY_TIMEOUT = 600_000
/** The time limit of a query that only checks a connection, in milliseconds. */
const PING_TIMEOUT = 500
/** How many times a statement is tried if PostgreSQL rolls it back because of a concurrent statement. */
const ATTEMPTS = 5
/** The longest pause before the second attempt, in milliseconds. Each further pause can be three times as long. */
const PAUSE = 12
/** The SQLSTATEs of a serialization failure and a deadlock. */
const RETRYABLE = new Set(['40001', '40P01'])
/**
 * The SQLSTATEs that mean that a prepared statement is unknown, exists already or is outdated. They come after a
 * `DISCARD ALL`, from a pooler that does not keep prepared statements, and after a change of the table.
 */
const NOT_PREPARED = new Set(['26000', '42P05', '0A000'])

/** The SQLSTATE of a unique violation, which means a duplicate id. */
export const DUPLICATE = '23505'

/** Returns the SQLSTATE or the error code of Node, or `'undefined'`. */
export function codeOf(error: unknown): string {
  return String((error as { code?: unknown } | undefined)?.code)
}

/** Returns functions that run statements on `pool`. With `prepare: false`, no statement is prepared. */
export function createQueries(pool: PostgresPool, prepare: boolean): Queries {
  const limit = hasOwnTimeout(pool) ? undefined : QUERY_TIMEOUT
  const checkIdle = createIdleCheck(pool)

  async function attempt<R>(send: Send, query: PostgresQuery, number = 1): Promise<R[]> {
    try {
      return rowsOf<R>(await send(query))
    } catch (error) {
      if (!hasSqlState(error)) void checkIdle()
      if (number === ATTEMPTS || !(await prepareRetry(query, codeOf(error), number))) throw error
    }
    return attempt(send, query, number + 1)
  }

  function queryOf({ name, text }: Statement, values: unknown[], timeout = limit): PostgresQuery {
    const query: PostgresQuery = prepare && name !== undefined ? { name, text, values } : { text, values }
    if (timeout !== undefined) query.query_timeout = timeout
    return query
  }

  return {
    read: (statement, values = []) => attempt((query) => pool.query(query), queryOf(statement, values)),
    write: (statement, values = [], timeout) =>
      attempt((query) => sendWrite(pool, query), queryOf(statement, values, timeout)),
    async migrate(text) {
      await sendWrite(pool, { text, query_timeout: SLOW_QUERY_TIMEOUT })
    }
  }
}

type Send = (query: PostgresQuery) => Promise<unknown>

function hasOwnTimeout({ options }: PostgresPool): boolean {
  return Boolean((options as { query_timeout?: unknown } | undefined)?.query_timeout)
}

/** Returns false if a retry cannot help. Otherwise changes the query or waits, so that the retry can succeed. */
async function prepareRetry(query: PostgresQuery, code: string, number: number): Promise<boolean> {
  if (RETRYABLE.has(code)) {
    // Without a random pause, concurrent writes of one session would fail together again and again.
    await delay(Math.random() * PAUSE * 3 ** (number - 1))
    return true
  }
  return NOT_PREPARED.has(code) && query.name !== undefined && delete query.name
}

/** Returns true for an error of PostgreSQL or a `TransactionError`. Any other error is about the connection. */
function hasSqlState(error: unknown): boolean {
  return /^[0-9A-Z]{5}$/.test(codeOf(error))
}

/**
 * Returns a function that queries each idle connection of the pool, so that the pool closes those that do not answer.
 * If a firewall has silently dropped one connection, it has probably dropped the idle ones too. Each of them would cost
 * a request its time limit.
 */
function createIdleCheck(pool: PostgresPool): () => Promise<void> {
  let isRunning = false
  return async () => {
    if (isRunning) return
    isRunning = true
    const ping = async () => pool.query({ text: 'SELECT 1', query_timeout: PING_TIMEOUT })
    await Promise.allSettled(Array.from({ length: pool.idleCount ?? 0 }, ping))
    isRunning = false
  }
}

/** Sends a write on a client of its own, because only a client knows if it is in a transaction. */
async function sendWrite(pool: PostgresPool, query: PostgresQuery): Promise<unknown> {
  if (pool.idleCount === undefined || pool.connect === undefined) return sendOutsideTransaction(pool, query)
  const client = await takeClient(pool as Required<PostgresPool>)
  const giveBack = (error?: unknown): void => {
    client.off('error', ignore)
    client.release(error)
  }
  try {
    const answer = await sendOutsideTransaction(client, query)
    giveBack()
    return answer
  } catch (error) {
    giveBack(isHarmless(error) ? undefined : error)
    throw error
  }
}

/**
 * The listener must be there before the event loop goes on, because the loss of a connection is an event too. Without a
 * listener, that event would end the process. The query itself reports the loss.
 */
function takeClient(pool: Required<PostgresPool>): Promise<PoolClient> {
  return new Promise((resolve, reject) => {
    pool.connect((error, taken) => {
      if (error) return reject(error)
      const client = taken as PoolClient
      client.on('error', ignore)
      resolve(client)
    })
  })
}

function ignore(): void {
  // Nothing to do.
}

/** A client may hold a transaction of the application, so it is not closed after such an error. */
function isHarmless(error: unknown): boolean {
  const code = codeOf(error)
  return error instanceof TransactionError || RETRYABLE.has(code) || code === DUPLICATE
}

/**
 * Checks the status again after the write, because the application may have sent a BEGIN that was still waiting in the
 * client's queue.
 */
async function sendOutsideTransaction(client: Client, query: PostgresQuery): Promise<unknown> {
  refuseTransaction(client)
  const answer = await client.query(query)
  refuseTransaction(client)
  return answer
}

function refuseTransaction(client: Client): void {
  const status = client.getTransactionStatus?.()
  if (status === 'T' || status === 'E') throw new TransactionError()
}

/** A write in a transaction of the application could be rolled back after the client was told that it was saved. */
class TransactionError extends Error {
  /** The SQLSTATE "active SQL transaction". */
  readonly code = '25001'

  constructor() {
    super(
      'The connection is in a transaction of the application, which could roll back the session. COMMIT or ROLLBACK before you release a client to the pool, and give the store a pool of its own'
    )
  }
}

function rowsOf<R>(answer: unknown): R[] {
  const { rows } = Object(answer) as { rows?: unknown }
  if (Array.isArray(rows)) return rows as R[]
  throw new SessionOptionError(
    'pool',
    `returned no rows, so it does not look like a pool of pg; ${POOL_HINT}`
  )
}
