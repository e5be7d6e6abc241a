import type { FastifyRequest } from 'fastify'

/**
 * Returns the string in a field of a form or JSON body. Returns an empty string if the field is missing or is not a
 * string.
 */
export function fieldOf({ body }: FastifyRequest, name: string): string {
  if (typeof body !== 'object' || body === null || !Object.hasOwn(body, name)) return ''
  const value = (body as Record<string, unknown>)[name]
  return typeof value === 'string' ? value : ''
}
