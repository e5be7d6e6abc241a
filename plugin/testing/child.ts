import { isAbsolute } from 'node:path'
import { pathToFileURL } from 'node:url'
import type { Awaitable, SessionStore } from '../types.js'
import type { Answer, Request } from './processes.js'
import { runSteps } from './steps.js'

let store: SessionStore | undefined

process.on('message', (request: Request) => {
  void answerTo(request).then((answer) => process.send?.(answer))
})

async function answerTo(request: Request): Promise<Answer> {
  try {
    return { answer: await handle(request) }
  } catch (error) {
    return { error: String((error as Error).stack) }
  }
}

async function handle(request: Request): Promise<unknown> {
  switch (request.kind) {
    case 'connect':
      store = await connect(request.module, request.argument)
      return
    case 'run':
      return runSteps(store as SessionStore, request.steps)
    case 'disconnect':
      return (store as SessionStore).close?.()
  }
}

async function connect(module: string, argument: unknown): Promise<SessionStore> {
  const url = isAbsolute(module) ? pathToFileURL(module).href : module
  const { connect } = (await import(url)) as { connect: (argument: unknown) => Awaitable<SessionStore> }
  return connect(argument)
}
