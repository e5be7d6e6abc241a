/** A browser with its cookies. Each request runs on a real connection. */
export class Browser {
  #url
  #cookies = new Map()

  constructor(url, cookies = []) {
    this.#url = url
    this.#cookies = new Map(cookies)
  }

  /** Returns another browser with a copy of the cookies, such as a thief's. It can send them to another server. */
  copy(url = this.#url) {
    return new Browser(url, this.#cookies)
  }

  /** Sends the next requests to another server, which gets all cookies. */
  moveTo(url) {
    this.#url = url
  }

  /** Returns the values of all cookies. They are empty if the browser has no cookie. */
  get cookies() {
    return [...this.#cookies.values()].join()
  }

  /** Returns the response as soon as its headers have arrived. That is when a browser follows a redirect. */
  async open(method, path, timeout = 10_000) {
    const cookie = [...this.#cookies].map(([name, value]) => `${name}=${value}`).join('; ')
    const signal = globalThis.AbortSignal.timeout(timeout)
    const options = { method, redirect: 'manual', signal, headers: cookie === '' ? {} : { cookie } }
    const response = await globalThis.fetch(new URL(path, this.#url), options)
    for (const line of response.headers.getSetCookie()) this.#keep(line)
    return response
  }

  /** Waits for the whole reply. `setCookies` counts its Set-Cookie headers. */
  async send(method, path, timeout) {
    const response = await this.open(method, path, timeout)
    const text = await response.text()
    return { status: response.status, text, setCookies: response.headers.getSetCookie().length }
  }

  get(path) {
    return this.send('GET', path)
  }

  post(path) {
    return this.send('POST', path)
  }

  /** Returns the values that the server reads from the session. */
  async data() {
    return JSON.parse((await this.get('/data')).text)
  }

  async isSignedIn() {
    return (await this.data()).userId === 'ada'
  }

  #keep(line) {
    const [, name, value] = /^([^=]+)=([^;]*)/.exec(line)
    const isCleared = value === '' || /max-age=0|expires=thu, 01 jan 1970/i.test(line)
    if (isCleared) this.#cookies.delete(name)
    else this.#cookies.set(name, value)
  }
}
