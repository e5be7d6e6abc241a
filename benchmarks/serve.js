// This file runs in the process of one contender. It serves HTTP requests and replies to the messages of the parent
// process.
import { writeFile } from 'node:fs/promises'
import { createServer } from 'node:http'
import { Session } from 'node:inspector/promises'

const [module, port, settings] = process.argv.slice(2)
const profiler = new Session()

const QUESTIONS = {
  usage: () => ({ cpu: process.cpuUsage(), rss: process.memoryUsage.rss() }),
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

/** Returns the HTTP server of a Fastify app, or creates one for an Express app. */
async function serverOf(app) {
  if (typeof app.ready !== 'function') return createServer(app)
  await app.ready()
  return app.server
}
