// The process of one contender: it serves, and answers its parent's questions over IPC.
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { Session } from 'node:inspector/promises'

const [module, port, settings] = process.argv.slice(2)
const profiler = new Session()

const QUESTIONS = {
  usage: () => ({ cpu: process.cpuUsage(), rss: process.memoryUsage.rss() }),
  async fill({ count, sample }) {
    await undefined
    // It waits until all are made. Without one, the collections in between forget the shape of Node's ticks, of which V8
    // then makes each later one slowly; a server that is never idle so long does not meet that.
    process.nextTick(() => {})
    return contender.fill(count, sample)
  },
  canFill: () => contender.fill !== undefined,
  async startProfile({ interval }) {
    profiler.connect()
    await profiler.post('Profiler.enable')
    await profiler.post('Profiler.setSamplingInterval', { interval })
    await profiler.post('Profiler.start')
  },
  async stopProfile({ file }) {
    const { profile } = await profiler.post('Profiler.stop')
    await writeFile(file, JSON.stringify(profile))
  }
}

process.on('disconnect', () => process.exit())
process.on('message', async ({ id, question, detail }) => {
  try {
    process.send({ id, answer: await QUESTIONS[question](detail) })
  } catch (error) {
    process.send({ id, problem: error.message })
  }
})

const { default: make } = await import(`./contenders/${module}.js`)
const contender = await make(JSON.parse(settings))
const server = await serverOf(contender.app)
server.on('error', ({ code, message }) => process.send({ problem: message, code }))
server.listen(Number(port), '127.0.0.1', () => process.send({ port: server.address().port }))

/** Fastify has its server already; an Express app is a function. */
async function serverOf(app) {
  if (typeof app.ready !== 'function') return createServer(app)
  await app.ready()
  return app.server
}
