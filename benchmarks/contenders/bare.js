import Fastify from 'fastify'
import { addPlainRoutes } from '../routes.js'

/** The reference: the same routes and replies without sessions. */
export default async function bare() {
  const app = Fastify()
  addPlainRoutes(app)
  return { app }
}
