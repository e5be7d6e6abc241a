import { fileURLToPath } from 'node:url'
import fastifyStatic from '@fastify/static'
import view from '@fastify/view'
import { Eta } from 'eta'
import type { FastifyInstance } from 'fastify'

// The compiled code is in `dist`, next to these folders.
const folder = (name: string): string => fileURLToPath(new URL(`../${name}`, import.meta.url))

/** Adds `reply.viewAsync()`, which renders a template of the folder `views`, and serves the files of `public`. */
export async function addViews(app: FastifyInstance): Promise<void> {
  // Eta escapes everything that a template prints with <%= … %>.
  await app.register(view, { engine: { eta: new Eta() }, root: folder('views') })
  await app.register(async (files) => {
    // A style sheet needs no session, so it costs no lookup in the store.
    files.addHook('onRoute', (route) => void (route.config = { ...route.config, session: false }))
    await files.register(fastifyStatic, { root: folder('public'), wildcard: false })
  })
}
