// A session should end after ten minutes without a request, and after an hour even if there are requests. The script
// moves the clock. The browser keeps its cookie, as a thief does, so only the server can end the session.
export const title = 'idle timeout and absolute timeout'

export const remedies = { '@fastify/session': { text: 'With `rolling: false`', idle: false } }

const MINUTE = 60_000
const { now } = Date

export async function measure({ start }, { idle = true } = {}) {
  let passed = 0
  Date.now = () => now() + passed
  const server = await start({ idle })
  try {
    const inactive = await server.signIn()
    passed += 11 * MINUTE
    const isIdle = !(await inactive.isSignedIn())
    const active = await server.signIn()
    for (let minutes = 0; minutes < 65; minutes += 5) {
      passed += 5 * MINUTE
      await active.post('/set?key=a')
    }
    const isAbsolute = !(await active.isSignedIn())
    if (isIdle && isAbsolute) return 'both'
    return isIdle ? 'idle only' : isAbsolute ? 'absolute only' : 'none'
  } finally {
    Date.now = now
    await server.close()
  }
}
