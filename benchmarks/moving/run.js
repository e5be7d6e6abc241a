// Replaces applications of other session libraries by fastify-sesame under load. Two processes serve 200 browsers that
// are signed in. They are restarted one after the other with the new library, and then with the old one again. Counts the browsers that were signed out, the keys that were lost, and the failed replies.
//
// Run it with `npm run build && node benchmarks/moving/run.js`. It needs redis-server.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { fileURLToPath, URL } from 'node:url'
import { Browser } from '../comparison/browser.js'
import { startEngines } from '../engines.js'

const SERVERS = fileURLToPath(new URL('servers.js', import.meta.url))
const LIBRARIES = ['@fastify/session', '@fastify/secure-session', 'express-session']
const BROWSERS = 200
/** For how long the load runs between two restarts, in milliseconds. */
const PAUSE = 1000

/** Two processes behind a balancer. Each browser has its own process, and moves to the other one while that restarts. */
class Pair {
  #processes = [undefined, undefined]
  #running = [0, 0]
  #redis

  constructor(redis) {
    this.#redis = redis
  }

  async start(index, library, keep) {
    const child = fork(SERVERS, [library, this.#redis, keep ? 'keep' : ''])
    const [port] = await once(child, 'message')
    this.#processes[index] = { child, url: `http://127.0.0.1:${port}` }
  }

  /** Lets the requests of a process finish, ends it and starts another one in its place. */
  async restart(index, library, keep) {
    const { child } = this.#processes[index]
    this.#processes[index] = undefined
    while (this.#running[index] > 0) await delay(5)
    await end(child)
    await this.start(index, library, keep)
  }

  /** Runs `work` with the address of the process that serves a browser. */
  async serve(browser, work) {
    const own = browser % 2
    const index = this.#processes[own] === undefined ? 1 - own : own
    this.#running[index]++
    try {
      return await work(this.#processes[index].url)
    } finally {
      this.#running[index]--
    }
  }

  async stop() {
    for (const { child } of this.#processes) await end(child)
  }
}

async function end(child) {
  child.disconnect()
  await once(child, 'exit')
}

/** A browser that is signed in, sets a new key now and then, and checks that all its keys are there. */
class User {
  #browser = new Browser('http://127.0.0.1')
  #keys = new Set()
  #number
  #counts
  #pair

  constructor(number, pair, counts) {
    this.#number = number
    this.#pair = pair
    this.#counts = counts
  }

  async #send(method, path) {
    const reply = await this.#pair.serve(this.#number, (url) => {
      this.#browser.moveTo(url)
      return this.#browser.send(method, path)
    })
    this.#counts.requests++
    if (reply.status < 200 || reply.status > 299) this.#counts.failed++
    return reply
  }

  signIn() {
    return this.#send('POST', `/login?user=user${this.#number}`)
  }

  async set(key) {
    await this.#send('POST', `/set?key=${key}`)
    this.#keys.add(key)
  }

  async check() {
    const { text } = await this.#send('GET', '/me')
    const data = JSON.parse(text)
    if (data.userId !== `user${this.#number}`) this.#counts.signedOut++
    for (const key of this.#keys) if (data[key] !== 'kept') this.#counts.lost++
  }

  /** From now on, expects only this key. */
  expect(key) {
    this.#keys = new Set([key])
  }
}

async function measure(library, redis) {
  const counts = { requests: 0, signedOut: 0, lost: 0, failed: 0 }
  const pair = new Pair(redis)
  for (const index of [0, 1]) await pair.start(index, library)
  const users = Array.from({ length: BROWSERS }, (_, number) => new User(number, pair, counts))
  await Promise.all(users.map((user) => user.signIn()))

  /** Restarts both processes under load. In the meantime, each browser reads its session and, with `writes`, changes it. */
  async function roll(next, { keep, writes }) {
    let isRolling = true
    const load = users.map(async (user) => {
      for (let round = 0; isRolling; round++) {
        if (writes) await user.set(`key${round}`)
        await user.check()
        await delay(Math.random() * 100)
      }
    })
    await delay(PAUSE)
    for (const index of [0, 1]) {
      await pair.restart(index, next, keep)
      await delay(PAUSE)
    }
    isRolling = false
    await Promise.all(load)
  }

  await Promise.all(users.map((user) => user.set('before')))
  await roll(`new ${library}`, { keep: true, writes: true })
  // The old processes do not have the keys that were set while the new ones ran.
  for (const user of users) user.expect('before')
  await roll(library, { writes: false })
  await pair.stop()
  return counts
}

const { settings, missing, stop } = await startEngines(['redis'])
try {
  if (missing.redis !== undefined) throw new Error(missing.redis)
  const table = {}
  for (const library of LIBRARIES) {
    console.log(`Replacing an application of ${library} under load`)
    table[library] = await measure(library, settings.redis)
  }
  console.table(table)
  const isRight = Object.values(table).every(({ signedOut, lost, failed }) => signedOut + lost + failed === 0)
  process.exitCode = isRight ? 0 : 1
} finally {
  await stop()
}
