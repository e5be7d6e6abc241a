// The secret changes from [old] to [new, old] and then to [new]. In each step, a new server starts with the same store,
// and the browser opens two pages. Is the user still signed in?
export const title = 'the secret changes in two steps'

const OLD = 'the old secret of the comparison, 32 bytes'
const NEW = 'the new secret of the comparison, 32 bytes'

export const remedies = {
  '@fastify/session': { text: 'With `saveUninitialized: true`', settings: { saveUninitialized: true } },
  'express-session': { text: 'With `rolling: true`', settings: { rolling: true } }
}

export async function measure({ start }, { settings } = {}) {
  const first = await start({ secrets: [OLD], settings })
  let browser = await first.signIn()
  await first.close()
  for (const [index, secrets] of [[NEW, OLD], [NEW]].entries()) {
    const server = await start({ secrets, settings, store: first.store })
    browser = browser.copy(server.url)
    const pages = [await browser.isSignedIn(), await browser.isSignedIn()]
    await server.close()
    if (pages.includes(false)) return `signed out in step ${index + 1}`
  }
  return 'stays signed in'
}
