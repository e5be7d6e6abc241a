import crypto from 'node:crypto'
import { syncBuiltinESMExports } from 'node:module'
import type { FastifyRequest } from 'fastify'
import t, { type Test } from 'tap'
import { MemoryStore } from '../../plugin/index.js'
import { createCsrf } from '../../plugin/http/csrf.js'
import { CsrfError } from '../../plugin/errors.js'
import { RequestSessions } from '../../plugin/http/request-sessions.js'
import { resolveOptions } from '../../plugin/options/resolve.js'
import { Session } from '../../plugin/session/session.js'
import { SessionState } from '../../plugin/session/state.js'
import { guardStore } from '../../plugin/stores/guarded.js'
import { createTokens, idOfToken } from '../../plugin/cookies/tokens.js'
import { SECRET } from '../fixtures/app.js'
import { makeRecord } from '../fixtures/stores.js'

// The time that the library takes to refuse a wrong signature, CSRF token or session id must not tell an attacker how
// much of the guess is correct.
//
// Each test measures how much longer it takes to refuse guesses that are wrong at the last position than guesses that
// are wrong at the first position. It also measures a leaky comparison, which stops at the first difference. If a test
// did not detect this leak, its result for the library would prove nothing. The time difference of the library must be
// much smaller than that of the leaky comparison.

/**
 * The number of pairs of guesses in the first round. `TIMING_PAIRS=1000000` gives a longer and more precise
 * measurement.
 */
const PAIRS = Number(process.env['TIMING_PAIRS'] ?? 20_000)
/**
 * The number of pairs of guesses to run before the measurement. After that many, V8 has optimized both the library's own
 * comparison and the leaky one that this test uses as a control.
 */
const WARM_UP = 4000
/**
 * The number of pairs of guesses in a block. Each block has new guesses. A block is first timed with the real
 * comparison and then with the leaky one.
 */
const BLOCK = 500
/**
 * The maximum number of rounds. Other processes can disturb a round, so a failed round is repeated with twice as many
 * pairs. If there is a real leak, every round fails.
 */
const ROUNDS = 5
/**
 * The leak is detected if the time difference of the leaky comparison is more than this many standard errors above
 * zero.
 */
const DETECTED = 10
/**
 * The library's time difference must be smaller than this fraction of the leaky comparison's time difference. If the
 * leak is only just large enough to be detected, this limit is 2.5 standard errors.
 */
const SMALL = 1 / 4

/**
 * Pairs of guesses. One guess of each pair is wrong at the first position, and the other guess is wrong at the last
 * position.
 */
interface Guesses {
  readonly first: readonly string[]
  readonly last: readonly string[]
}

interface Subject {
  /**
   * Returns guesses for `BLOCK` new secrets. If secrets were reused, their location in memory could affect the measured
   * times.
   */
  guesses(): Guesses
  /** Tries one guess, which must be refused. `index` is the position of the guess in its array (`first` or `last`). */
  refuse(guess: string, index: number): unknown
}

/**
 * The mean time difference in nanoseconds, and its standard error. The difference is positive if guesses that are wrong
 * at the last position take longer.
 */
interface Difference {
  readonly mean: number
  readonly error: number
}

/** Whether the patched `timingSafeEqual` stops at the first difference. */
let leaks = false

function equalUntilDifferent(a: Uint8Array, b: Uint8Array): boolean {
  for (let at = 0; at < a.length; at++) if (a[at] !== b[at]) return false
  return true
}

/**
 * Replaces `timingSafeEqual` of `node:crypto` in all modules during a test. The replacement is leaky if `leaks` is
 * true.
 */
function makeLeaky(t: Test): void {
  const original = crypto.timingSafeEqual
  const leaky = (a: NodeJS.ArrayBufferView, b: NodeJS.ArrayBufferView) =>
    leaks ? equalUntilDifferent(a as Uint8Array, b as Uint8Array) : original(a, b)
  crypto.timingSafeEqual = leaky
  syncBuiltinESMExports()
  t.teardown(() => {
    crypto.timingSafeEqual = original
    syncBuiltinESMExports()
  })
}

/**
 * Copies a string. Like a string from a request, the copy is stored in one piece, and V8 has not computed its hash yet.
 * Both properties affect how long it takes to check the string.
 */
function fresh(text: string): string {
  return Buffer.from(text, 'latin1').toString('latin1')
}

function timeOf(refuse: Subject['refuse'], guess: string, index: number): number {
  const own = fresh(guess)
  const start = performance.now()
  refuse(own, index)
  return performance.now() - start
}

/**
 * Returns, for each pair, how many nanoseconds longer the `last` guess took than the `first` guess. Which guess of a
 * pair runs first is random.
 */
function differences({ first, last }: Guesses, refuse: Subject['refuse']): number[] {
  return first.map((early, index) => {
    const late = last[index] as string
    const isEarlyFirst = Math.random() < 0.5
    const before = timeOf(refuse, isEarlyFirst ? early : late, index)
    const after = timeOf(refuse, isEarlyFirst ? late : early, index)
    return (isEarlyFirst ? after - before : before - after) * 1e6
  })
}

/**
 * Returns the trimmed mean of the values, and its standard error. The lowest and the highest fifth of the values are
 * left out, because garbage collections and other processes affect only these extremes. The standard error is computed
 * from the winsorized variance (Yuen).
 */
function differenceOf(values: readonly number[]): Difference {
  const sorted = [...values].sort((a, b) => a - b)
  const cut = Math.floor(sorted.length / 5)
  const kept = sorted.slice(cut, sorted.length - cut)
  const [low, high] = [kept[0], kept.at(-1)] as [number, number]
  const winsorized = sorted.map((value) => Math.min(high, Math.max(low, value)))
  const center = meanOf(winsorized)
  const variance = meanOf(winsorized.map((value) => (value - center) ** 2))
  return { mean: meanOf(kept), error: Math.sqrt(variance * sorted.length) / kept.length }
}

function meanOf(values: readonly number[]): number {
  return values.reduce((sum, value) => sum + value, 0) / values.length
}

function measure(subject: Subject, pairs: number): { ours: Difference; leaky: Difference } {
  const measured: Record<'ours' | 'leaky', number[]> = { ours: [], leaky: [] }
  for (let done = 0; done < pairs; done += BLOCK) {
    const guesses = subject.guesses()
    for (const which of ['ours', 'leaky'] as const) {
      leaks = which === 'leaky'
      measured[which].push(...differences(guesses, subject.refuse))
    }
  }
  leaks = false
  return { ours: differenceOf(measured.ours), leaky: differenceOf(measured.leaky) }
}

function assertNoLeak(t: Test, name: string, subject: Subject): void {
  // Capturing a stack trace is slow and takes a varying amount of time. This noise would hide the measured difference.
  const { stackTraceLimit } = Error
  Error.stackTraceLimit = 0
  t.teardown(() => (Error.stackTraceLimit = stackTraceLimit))
  measure(subject, WARM_UP)
  for (let round = 1, pairs = PAIRS; round <= ROUNDS; round++, pairs *= 2) {
    const { ours, leaky } = measure(subject, pairs)
    t.comment(`${name}: ${textOf(ours)}; leaky comparison: ${textOf(leaky)}; ${pairs} pairs each`)
    const isDetected = leaky.mean / leaky.error > DETECTED
    const isSmall = Math.abs(ours.mean) < leaky.mean * SMALL
    if (isDetected && isSmall) return void t.pass(`in round ${round}`)
  }
  t.fail(`${name}: all ${ROUNDS} rounds missed the leak, or the library’s difference was too large`)
}

function textOf({ mean, error }: Difference): string {
  return `${mean.toFixed(2)} ± ${error.toFixed(2)} ns (t ${(mean / error).toFixed(1)})`
}

/** Copies the bytes and flips a bit of the byte at position `at`. */
function changed(bytes: Buffer, at: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at] = (copy[at] as number) ^ 0x01
  return copy
}

/**
 * Returns a block of guesses. `make` creates a secret. `spoil` turns the secret into a guess that is wrong at the first
 * or at the last position.
 */
function guessesAt<T>(make: () => T, spoil: (secret: T, where: 'first' | 'last') => string): Guesses {
  const secrets = Array.from({ length: BLOCK }, make)
  const guess = (where: 'first' | 'last') => secrets.map((secret) => spoil(secret, where))
  return { first: guess('first'), last: guess('last') }
}

function assertAllRefused(
  t: Test,
  { guesses, refuse }: Subject,
  isRefusal: (answer: unknown) => boolean
): void {
  const { first, last } = guesses()
  for (const list of [first, last]) t.ok(list.every((guess, index) => isRefusal(refuse(guess, index))))
}

void t.test('the time to refuse a signature does not depend on how much of it is correct', async (t) => {
  makeLeaky(t)
  const tokens = createTokens([Buffer.from(SECRET)], 32)
  const spoil = (value: string, where: 'first' | 'last'): string => {
    const at = where === 'first' ? value.indexOf('.') + 1 : value.length - 1
    return value.slice(0, at) + (value[at] === 'A' ? 'B' : 'A') + value.slice(at + 1)
  }
  const subject: Subject = {
    guesses: () => guessesAt(() => tokens.sign(tokens.mint()), spoil),
    refuse: (value) => tokens.verify(value)
  }
  assertAllRefused(t, subject, (answer) => answer === undefined)
  t.ok(tokens.verify(tokens.sign(tokens.mint())), 'a correct signature passes')
  assertNoLeak(t, 'signature', subject)
})

void t.test('the time to refuse a CSRF token does not depend on how much of it is correct', async (t) => {
  makeLeaky(t)
  const options = resolveOptions({ secret: SECRET }, () => new MemoryStore())
  const sessions = new RequestSessions(options, guardStore(options.store, options.storeTimeout), String)
  const csrf = createCsrf(sessions)
  const headers: Record<string, string> = {}
  const request = {
    method: 'POST',
    url: '/',
    headers,
    log: { info: () => undefined },
    raw: { headers, rawHeaders: [] },
    routeOptions: { config: {} }
  } as unknown as FastifyRequest
  const visitor = { visitorCookies: () => [], isPassive: () => false }
  const session = new Session(new SessionState(sessions.context, 'open', visitor), {
    save: async () => undefined
  })
  Object.assign(request, { session })
  // The first half of a CSRF token is a random pad. The second half is the secret, masked with the pad.
  const spoil = (token: Buffer, where: 'first' | 'last'): string =>
    changed(token, where === 'first' ? 32 : 63).toString('base64url')
  const subject: Subject = {
    guesses: () => guessesAt(() => Buffer.from(csrf.generate(session), 'base64url'), spoil),
    refuse(value) {
      headers['x-csrf-token'] = value
      try {
        return csrf.checkToken(request)
      } catch (error) {
        return error
      }
    }
  }
  assertAllRefused(t, subject, (answer) => answer instanceof CsrfError)
  t.equal(subject.refuse(csrf.generate(session), 0), undefined, 'a correct token passes')
  assertNoLeak(t, 'CSRF token', subject)
})

void t.test('the time to refuse a session token does not depend on how much of it is correct', async (t) => {
  // This test skips the signature check, as if the attacker knew the signing secret. The store looks up a hash of the
  // token, and the lookup can take longer for some hashes. This reveals nothing, because the hash of an almost correct
  // token is completely different.
  const tokens = createTokens([Buffer.from(SECRET)], 32)
  const record = makeRecord({ expiresAt: Number.MAX_SAFE_INTEGER })
  // The store must contain as many records as in real use, because an unsuccessful lookup is faster in an almost empty
  // table.
  const known = Array.from({ length: 20_000 }, () => Buffer.from(tokens.mint(), 'latin1'))
  const store = new MemoryStore()
  for (const token of known) store.create(idOfToken(token.toString('latin1')), record)
  let right: Buffer[] = []
  // Each guess is created from a Buffer, so that V8 stores it in one piece. If a guess were concatenated from two
  // pieces, the length of the second piece would affect the time by a few nanoseconds in any store.
  const spoil = (token: Buffer, where: 'first' | 'last'): string =>
    changed(token, where === 'first' ? 0 : token.length - 1).toString('latin1')
  const subject: Subject = {
    guesses() {
      const start = Math.floor(Math.random() * (known.length - BLOCK))
      right = known.slice(start, start + BLOCK)
      const rest = right.values()
      return guessesAt(() => rest.next().value as Buffer, spoil)
    },
    refuse(guess, index) {
      if (!leaks) return store.get(idOfToken(guess))
      return equalUntilDifferent(Buffer.from(guess, 'latin1'), right[index] as Buffer) ? guess : undefined
    }
  }
  assertAllRefused(t, subject, (answer) => answer === undefined)
  t.ok(store.get(idOfToken((known[0] as Buffer).toString('latin1'))), 'a known token is found')
  assertNoLeak(t, 'token', subject)
})
