import 'reflect-metadata'
import { deepEqual, equal } from 'node:assert/strict'
import { Body, Controller, Get, HttpCode, Module, Post, Req, UseGuards } from '@nestjs/common'
import { NestFactory } from '@nestjs/core'
import { FastifyAdapter } from '@nestjs/platform-fastify'
import sessions, { csrfProtection } from '../../../../dist/index.js'
import { SECRET } from '../app.js'
import { makeBrowser } from '../../fixtures/browser.js'

export const packages = ['@nestjs/platform-fastify', '@nestjs/core']
export const refuses = { before: null }
export const notes = [
  'Call `await app.register(sessions, { … })` before `app.listen()` or `app.init()`. `@Req()` then has the session.',
  'Instead of `guarded` and `requireAuth`, use a guard that reads `request.session`. `reply.generateCsrf()` needs `@Res({ passthrough: true })`.'
]

class AuthGuard {
  canActivate(context) {
    return context.switchToHttp().getRequest().session.get('userId') !== undefined
  }
}

/** The decorators are called as functions, because this file is JavaScript. */
class AppController {
  login(request, body) {
    request.session.login(body.name)
    return {}
  }

  logout(request) {
    request.session.invalidate()
    return {}
  }

  me(request) {
    return { userId: request.session.get('userId') }
  }
}

function decorate() {
  const { prototype } = AppController
  const route = (name, ...decorators) => {
    const descriptor = Object.getOwnPropertyDescriptor(prototype, name)
    for (const decorator of decorators) decorator(prototype, name, descriptor)
    Req()(prototype, name, 0)
  }
  Controller()(AppController)
  route('login', Post('login'), HttpCode(200))
  Body()(prototype, 'login', 1)
  route('logout', Post('logout'), HttpCode(200))
  route('me', Get('me'), UseGuards(AuthGuard))
}
decorate()

async function startNest(closeLater, options) {
  class AppModule {}
  Module({ controllers: [AppController] })(AppModule)
  const app = await NestFactory.create(AppModule, new FastifyAdapter(), { logger: false })
  closeLater(app)
  await app.register(sessions, { secret: SECRET, cookie: { secure: false }, ...options })
  const fastify = app.getHttpAdapter().getInstance()
  fastify.get('/form', async (_request, reply) => ({ token: reply.generateCsrf() }))
  fastify.post('/form', { preHandler: csrfProtection }, async () => ({}))
  await app.listen(0, '127.0.0.1')
  return makeBrowser(await app.getUrl())
}

export const checks = {
  async 'a guard and a controller use the session'({ closeLater }) {
    for (const properties of [false, true]) {
      const browser = await startNest(closeLater, { properties })
      equal((await browser.get('/me')).status, 403)
      await browser.post('/login', { name: 'ada' })
      equal((await browser.get('/me')).userId, 'ada')
      const thief = browser.copy()
      await browser.post('/logout')
      deepEqual([(await browser.get('/me')).status, (await thief.get('/me')).status], [403, 403])
    }
  },

  async 'requests from other origins are refused'({ closeLater }) {
    const browser = await startNest(closeLater)
    const reply = await browser.post('/login', { name: 'ada' }, { origin: 'https://evil.test' })
    deepEqual([reply.status, reply.message], [403, 'Cross-site request refused'])
  },

  async 'a route of Fastify checks a CSRF token'({ closeLater }) {
    const browser = await startNest(closeLater)
    const { token } = await browser.get('/form')
    equal((await browser.post('/form', { _csrf: token })).status, 200)
    equal((await browser.post('/form')).status, 403)
  }
}
