export interface Product {
  readonly id: string
  readonly name: string
  readonly text: string
  /** The price in cents. */
  readonly price: number
}

/** The quantity of each product, by the product's id. */
export type Cart = Record<string, number>

export const PRODUCTS: readonly Product[] = [
  { id: 'tahini', name: 'Tahini', text: 'Stone-ground, 300 g', price: 650 },
  { id: 'halva', name: 'Halva', text: 'With pistachios, 200 g', price: 480 },
  { id: 'oil', name: 'Sesame oil', text: 'Toasted, 250 ml', price: 720 },
  { id: 'rings', name: 'Sesame rings', text: 'Baked this morning, 4 pieces', price: 360 }
]

export const MAX_QUANTITY = 99

/** Returns a copy of the cart with another quantity of one product. A quantity of 0 removes the product. */
export function withQuantity(cart: Cart, productId: string, quantity: number): Cart {
  const others = Object.entries(cart).filter(([id]) => id !== productId)
  const changed = quantity > 0 ? [[productId, Math.min(quantity, MAX_QUANTITY)] as const] : []
  return Object.fromEntries([...others, ...changed])
}

/** Returns the number of items in the cart. */
export function countOf(cart: Cart = {}): number {
  return Object.values(cart).reduce((sum, quantity) => sum + quantity, 0)
}

/** Returns the products in the cart in the order of the shop, each with its quantity. */
export function linesOf(cart: Cart = {}): (Product & { quantity: number })[] {
  return PRODUCTS.flatMap((product) => {
    const quantity = cart[product.id] ?? 0
    return quantity === 0 ? [] : [{ ...product, quantity }]
  })
}
