// This row differs from late-write-after-logout.js in two ways: the slow request only reads, and there is an idle
// timeout.
import { measure as measureRequest } from './late-write-after-logout.js'

export const title = 'the same if it only reads, with an idle timeout'

export const remedies = {
  '@fastify/session': { text: 'With `rolling: false`, so without an idle timeout', idle: false },
  '@fastify/secure-session': { text: 'Without `session.touch()`, so without an idle timeout', idle: false }
}

export const measure = (library, { idle = true } = {}) =>
  measureRequest(library, { path: '/slow-read', idle })
