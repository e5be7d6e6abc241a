import { STATUS_CODES } from 'node:http'
import type { SessionInfoWithData } from 'fastify-sesame'
import { html, type Html } from './html.js'
import type { User } from './users.js'

/** The values that every page needs in addition to its own content. */
export interface Frame {
  readonly isSignedIn: boolean
  readonly success?: string | undefined
  readonly error?: string | undefined
  /** The CSRF token for the forms on the page. */
  readonly csrf: string
}

export function loginPage(frame: Frame): Html {
  return layout(
    'Sign in',
    html`<form class="card" method="post" action="/login">
      ${tokenField(frame)}
      <label for="username">Username</label>
      <input
        id="username"
        name="username"
        autocomplete="username"
        autocapitalize="none"
        spellcheck="false"
        required
        autofocus
      />
      <label for="password">Password</label>
      <input id="password" name="password" type="password" autocomplete="current-password" required />
      <label class="choice"><input type="checkbox" name="remember" /> Keep me signed in for 30 days</label>
      <button>Sign in</button>
    </form>`,
    frame
  )
}

export function dashboardPage(frame: Frame, user: User, since: number, until: number): Html {
  const { name, username, role } = user
  return layout(
    'Dashboard',
    html`<p>Hello, ${name}.</p>
      <dl class="card">
        <dt>Username</dt>
        <dd>${username}</dd>
        <dt>Role</dt>
        <dd>${role}</dd>
        <dt>Signed in</dt>
        <dd>${time(since)}</dd>
        <dt>Session ends</dt>
        <dd>${time(until)} at the earliest</dd>
      </dl>`,
    frame
  )
}

/** Returns the profile page. `problem` says why the submitted name was refused. */
export function profilePage(frame: Frame, name: string, problem?: string): Html {
  return layout(
    'Profile',
    html`<form class="card" method="post" action="/profile">
      ${tokenField(frame)}
      <label for="name">Display name</label>
      <input
        id="name"
        name="name"
        value="${name}"
        autocomplete="name"
        maxlength="50"
        required
        ${problem !== undefined && html`aria-invalid="true" aria-describedby="problem" autofocus`}
      />
      ${problem !== undefined && html`<p id="problem" class="problem">${problem}</p>`}
      <button>Save</button>
    </form>`,
    frame
  )
}

/** Returns the page that lists the user's sessions. `current` is the id of the session of the current request. */
export function sessionsPage(frame: Frame, list: readonly SessionInfoWithData[], current: string): Html {
  const others = list.filter(({ id }) => id !== current)
  return layout(
    'Sessions',
    html`<p>You are signed in on these devices.</p>
      <ul class="sessions">
        ${list.map((info) => sessionItem(frame, info, info.id === current))}
      </ul>
      ${others.length > 0 && endOthersForm(frame)}`,
    frame
  )
}

function sessionItem(frame: Frame, info: SessionInfoWithData, isCurrent: boolean): Html {
  const { id, createdAt, lastAccessed, data } = info
  const browser = data.browser ?? 'Unknown browser'
  return html`<li class="card">
    <div>
      <strong>${browser}</strong> ${isCurrent && html`<span class="badge">This device</span>`}
      <p>
        Signed in ${time(createdAt)}<br />
        ${isCurrent ? 'Active now' : html`Last active ${time(lastAccessed)}`}
      </p>
    </div>
    ${
      !isCurrent &&
      html`<form method="post" action="/sessions/${id}/end">
        ${tokenField(frame)}
        <button class="quiet" aria-label="End session: ${browser}">End session</button>
      </form>`
    }
  </li>`
}

function endOthersForm(frame: Frame): Html {
  return html`<form method="post" action="/sessions/end-others">
    ${tokenField(frame)}
    <button>End all other sessions</button>
  </form>`
}

const STALE_FORM =
  'Nothing was changed. If you signed in or out in another tab, open the form again and resubmit it.'

/** Returns an error page. The visitor sees `message`, so it must not contain internal details. */
export function errorPage(statusCode: number, message: string): Html {
  const title = STATUS_CODES[statusCode] ?? 'Error'
  return layout(
    title,
    html`<p role="alert">${message}</p>
      <p>
        ${statusCode === 403 && STALE_FORM}
        <a href="/">Go to the home page</a>
      </p>`
  )
}

function layout(title: string, content: Html, frame?: Frame): Html {
  return html`<!doctype html>
    <html lang="en">
      <head>
        <meta charset="utf-8" />
        <meta name="viewport" content="width=device-width, initial-scale=1" />
        <title>${title} · Sesame</title>
        <link rel="stylesheet" href="/style.css" />
      </head>
      <body>
        <header>
          <a class="brand" href="/">Sesame</a>
          ${frame?.isSignedIn === true && navigation(title, frame)}
        </header>
        <main>
          <h1>${title}</h1>
          ${frame?.success !== undefined && html`<p class="flash success" role="status">${frame.success}</p>`}
          ${frame?.error !== undefined && html`<p class="flash error" role="alert">${frame.error}</p>`}
          ${content}
        </main>
      </body>
    </html> `
}

const LINKS = ['Dashboard', 'Profile', 'Sessions']

function navigation(title: string, frame: Frame): Html {
  return html`<nav aria-label="Main">
    ${LINKS.map(
      (name) =>
        html`<a href="/${name.toLowerCase()}" ${name === title && html`aria-current="page"`}>${name}</a>`
    )}
    <form method="post" action="/logout">
      ${tokenField(frame)}
      <button class="quiet">Log out</button>
    </form>
  </nav>`
}

function tokenField({ csrf }: Frame): Html {
  return html`<input type="hidden" name="_csrf" value="${csrf}" />`
}

function time(milliseconds: number): Html {
  const date = new Date(milliseconds)
  const text = date.toLocaleString('en-GB', { dateStyle: 'medium', timeStyle: 'short', timeZone: 'UTC' })
  return html`<time datetime="${date.toISOString()}">${text} UTC</time>`
}
