import url = require('node:url')

/** Replaces location.ts if this package was compiled to CommonJS. */
export = { location: url.pathToFileURL(__filename).href }
