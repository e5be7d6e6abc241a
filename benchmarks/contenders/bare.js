import Fastify from 'fastify'
import { addPlainRoutes } from '../routes.js'

/** The measure of all others: the same routes and answers, and no session at all. */
export default async function bare() {
  const app = Fastify()
  addPlainRoutes(app)
  return { app }
}
