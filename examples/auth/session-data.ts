import type { Cart } from './cart.js'

// Gives `session.get()` and `session.set()` the types of this application's data.
declare module 'fastify-sesame' {
  interface SessionData {
    userId: string
    /** The browser that the user signed in with, such as `Firefox on Linux`. */
    browser: string
    /** The IP address that the user signed in from. */
    address: string
    /** True if the user ticked "Keep me signed in". */
    isRemembered: boolean
    /** The shopping cart. Visitors have one too. */
    cart: Cart
  }
}
