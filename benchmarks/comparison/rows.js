/**
 * The scripts in rows/, in the order of the table. Each script exports:
 * - `title`: the first cell of the row.
 * - `measure(library, remedy)`: returns the result of a library of servers.js.
 * - `remedies`: for a library, the setting or code that improves its result. The result with it becomes a note.
 */
export const ROWS = [
  'lost-update',
  'late-write-after-logout',
  'late-read-after-logout',
  'late-write-after-regenerate',
  'logout-cookie',
  'redirect-before-save',
  'secret-rotation',
  'store-fails',
  'store-hangs',
  'missing-return',
  'read-only-requests',
  'timeouts',
  'id-in-store',
  'data-on-server'
]

export function loadRow(name) {
  return import(`./rows/${name}.js`)
}
