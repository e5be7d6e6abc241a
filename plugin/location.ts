/**
 * The URL of this file. Only this file contains `import.meta`, because Jest compiles ES modules to CommonJS, where
 * `import.meta` is a syntax error. Jest loads location.cts instead: see `imports` in package.json.
 */
export const location = locationOf(import.meta.url)

/** `import.meta.url` is undefined in a CommonJS bundle, where `__filename` exists instead. */
function locationOf(file: string = __filename): string {
  return file
}
