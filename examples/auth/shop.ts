import type { FastifyInstance } from 'fastify'
import { linesOf, MAX_QUANTITY, PRODUCTS, withQuantity } from './cart.js'
import { fieldOf } from './form.js'
import { page } from './page.js'

interface CartRoute {
  Params: { id: string }
}

/** Registers the shop. Visitors can use it too: their cart stays when they sign in. */
export async function shopRoutes(app: FastifyInstance): Promise<void> {
  app.get('/shop', async (request, reply) => {
    const lines = linesOf(request.session.get('cart'))
    const total = lines.reduce((sum, { price, quantity }) => sum + price * quantity, 0)
    return page(request, reply, 'shop', { products: PRODUCTS, lines, total, max: MAX_QUANTITY, euros })
  })

  app.post<CartRoute>('/cart/:id/add', async ({ session, params: { id } }, reply) => {
    const product = productOf(id)
    if (product === undefined) return reply.callNotFound()
    // With update(), two clicks at once add two items.
    session.update('cart', (cart = {}) => withQuantity(cart, id, (cart[id] ?? 0) + 1))
    session.setFlash('success', `${product.name} was added to your cart.`)
    return reply.redirect('/shop', 303)
  })

  app.post<CartRoute>('/cart/:id/quantity', async (request, reply) => {
    const { session, params } = request
    const product = productOf(params.id)
    if (product === undefined) return reply.callNotFound()
    const quantity = quantityIn(fieldOf(request, 'quantity'))
    if (quantity === undefined) {
      session.setFlash('problem', `Please choose a quantity from 0 to ${MAX_QUANTITY}.`)
      return reply.redirect('/shop', 303)
    }
    session.update('cart', (cart = {}) => withQuantity(cart, params.id, quantity))
    session.setFlash('success', quantity === 0 ? `${product.name} was removed.` : 'Your cart was changed.')
    return reply.redirect('/shop', 303)
  })
}

function productOf(id: string) {
  return PRODUCTS.find((product) => product.id === id)
}

function quantityIn(text: string): number | undefined {
  return /^\d{1,2}$/.test(text) ? Number(text) : undefined
}

const format = new Intl.NumberFormat('en', { style: 'currency', currency: 'EUR' })

function euros(cents: number): string {
  return format.format(cents / 100)
}
