import { RowIndex } from './memory-index.js'
import type { SessionRecord } from '../types.js'

/** The row of a session that is not there. */
export const NONE = -1

const CHUNK_BITS = 12
const CHUNK_ROWS = 1 << CHUNK_BITS

/** What a row has in `numbers`, `links` and `values`; the last of each is how many places it takes there. */
const [CREATED_AT, LAST_ACCESSED, EXPIRES_AT, VERSION, NUMBERS] = [0, 1, 2, 3, 4] as const
const [OLDER, NEWER, LINKS] = [0, 1, 2] as const
const [ID, DATA, USER_ID, VALUES] = [0, 1, 2, 3] as const

/** Rows that lie together: a table that grows gets one more, and none is copied. */
interface Chunk {
  readonly numbers: Float64Array
  readonly links: Int32Array
  readonly values: (string | null | SessionRecord['data'] | undefined)[]
}

/**
 * Sessions in rows, found by id, in the order of use. They lie in flat memory: an object for each, of a million, would
 * take half as much memory again and twice as long a pause of the garbage collector, and what a look-up among many costs is
 * misses of the processor's caches, of which a row has fewer than objects that point to each other.
 *
 * There is no gap between the rows: where one goes, the last takes its place. So a row is good until the next `remove`.
 */
export class SessionTable {
  readonly #chunks: Chunk[] = []
  readonly #index = new RowIndex((row) => this.idAt(row))
  #size = 0
  #oldest = NONE
  #newest = NONE

  /** How many rows there are: they are 0 to `size - 1`. */
  get size(): number {
    return this.#size
  }

  /** The row that was used least recently. */
  get oldest(): number {
    return this.#oldest
  }

  find(id: string): number {
    return this.#index.find(id)
  }

  idAt(row: number): string {
    return this.#chunkOf(row).values[placeOf(row, VALUES) + ID] as string
  }

  expiresAt(row: number): number {
    return this.#chunkOf(row).numbers[placeOf(row, NUMBERS) + EXPIRES_AT] as number
  }

  userIdAt(row: number): string | null {
    return this.#chunkOf(row).values[placeOf(row, VALUES) + USER_ID] as string | null
  }

  /** A copy, but for its data. */
  recordAt(row: number): SessionRecord {
    const { numbers, values } = this.#chunkOf(row)
    const number = placeOf(row, NUMBERS)
    const value = placeOf(row, VALUES)
    return {
      version: numbers[number + VERSION] as number,
      data: values[value + DATA] as SessionRecord['data'],
      createdAt: numbers[number + CREATED_AT] as number,
      lastAccessed: numbers[number + LAST_ACCESSED] as number,
      expiresAt: numbers[number + EXPIRES_AT] as number,
      userId: values[value + USER_ID] as string | null
    }
  }

  /** The id must not be there. */
  add(id: string, record: SessionRecord): void {
    const row = this.#size++
    if (row === this.#chunks.length * CHUNK_ROWS) this.#chunks.push(emptyChunk())
    this.#write(row, id, record)
    this.#index.add(id, row)
    this.#linkNewest(row)
  }

  replace(row: number, record: SessionRecord): void {
    this.#write(row, this.idAt(row), record)
  }

  remove(row: number): void {
    this.#index.remove(this.idAt(row), row)
    this.#link(this.#olderThan(row), this.#newerThan(row))
    const last = --this.#size
    if (row !== last) this.#move(last, row)
    const value = placeOf(last, VALUES)
    this.#chunkOf(last).values.fill(undefined, value, value + VALUES)
    // One more than is needed stays, for a size that goes up and down by one.
    if (this.#size <= (this.#chunks.length - 2) * CHUNK_ROWS) this.#chunks.pop()
  }

  /** Makes it the one that was used last. */
  use(row: number): void {
    if (row === this.#newest) return
    this.#link(this.#olderThan(row), this.#newerThan(row))
    this.#linkNewest(row)
  }

  #chunkOf(row: number): Chunk {
    return this.#chunks[row >> CHUNK_BITS] as Chunk
  }

  #write(row: number, id: string, record: SessionRecord): void {
    const { numbers, values } = this.#chunkOf(row)
    const number = placeOf(row, NUMBERS)
    const value = placeOf(row, VALUES)
    numbers[number + CREATED_AT] = record.createdAt
    numbers[number + LAST_ACCESSED] = record.lastAccessed
    numbers[number + EXPIRES_AT] = record.expiresAt
    numbers[number + VERSION] = record.version
    values[value + ID] = id
    values[value + DATA] = record.data
    values[value + USER_ID] = record.userId
  }

  #move(from: number, to: number): void {
    const id = this.idAt(from)
    this.#write(to, id, this.recordAt(from))
    this.#index.move(id, from, to)
    const [older, newer] = [this.#olderThan(from), this.#newerThan(from)]
    this.#link(older, to)
    this.#link(to, newer)
  }

  #linkNewest(row: number): void {
    this.#link(this.#newest, row)
    this.#link(row, NONE)
  }

  /** Makes them neighbours in the order of use; NONE is before the oldest and behind the newest. */
  #link(older: number, newer: number): void {
    if (older === NONE) this.#oldest = newer
    else this.#chunkOf(older).links[placeOf(older, LINKS) + NEWER] = newer
    if (newer === NONE) this.#newest = older
    else this.#chunkOf(newer).links[placeOf(newer, LINKS) + OLDER] = older
  }

  #olderThan(row: number): number {
    return this.#chunkOf(row).links[placeOf(row, LINKS) + OLDER] as number
  }

  #newerThan(row: number): number {
    return this.#chunkOf(row).links[placeOf(row, LINKS) + NEWER] as number
  }
}

/** Where a row begins in an array of its chunk, in which each has `width` places. */
function placeOf(row: number, width: number): number {
  return (row & (CHUNK_ROWS - 1)) * width
}

function emptyChunk(): Chunk {
  return {
    numbers: new Float64Array(CHUNK_ROWS * NUMBERS),
    links: new Int32Array(CHUNK_ROWS * LINKS),
    values: new Array<undefined>(CHUNK_ROWS * VALUES).fill(undefined)
  }
}
