import { setImmediate } from 'node:timers'

/** A gate in a server. What passes waits until the gate opens. */
export class Gate {
  constructor() {
    this.opened = new Promise((resolve) => (this.open = resolve))
    /** Resolves as soon as something waits at the gate. */
    this.reached = new Promise((resolve) => (this.reach = resolve))
  }

  pass() {
    this.reach()
    return this.opened
  }
}

/** The methods with which the libraries save a session. */
export const SAVES = new Set(['set', 'create', 'update'])

/** Records the calls to a store. `before` runs first, so that a script can delay a call or let it fail. */
export class StoreControl {
  calls = []
  before = async () => {}

  async run(method, args, next) {
    this.calls.push({ method, args })
    await this.before(method)
    return next()
  }
}

/** Controls a store of express-session, whose methods take a callback. */
export function controlStore(store) {
  const control = new StoreControl()
  for (const method of ['get', 'set', 'touch', 'destroy']) {
    const original = store[method].bind(store)
    store[method] = (...args) => {
      const callback = args.at(-1)
      control
        .run(method, args.slice(0, -1), () => original(...args))
        .catch((error) => setImmediate(callback, error))
    }
  }
  return control
}
