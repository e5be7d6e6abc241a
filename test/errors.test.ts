import t from 'tap'
import { CsrfError, SessionStoreError } from '../plugin/index.js'

void t.test(
  'an error looks like one of http-errors, so that NestJS and Express use its status',
  async (t) => {
    const refused = new CsrfError('SESSION_CSRF_TOKEN')
    t.strictSame([refused.status, refused.statusCode, refused.expose], [403, 403, true])
    const failed = new SessionStoreError(new Error('connect ECONNREFUSED'))
    t.strictSame(
      [failed.status, failed.statusCode, failed.expose],
      [503, 503, false],
      'a 5xx hides its message'
    )
    t.notOk('status' in JSON.parse(JSON.stringify(failed)), 'a log or a reply does not change')
  }
)
