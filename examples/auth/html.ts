/**
 * HTML that is inserted into a page without escaping. It is a class, so that a value parsed from a request body can
 * never be mistaken for such HTML.
 */
export class Html {
  constructor(readonly text: string) {}
}

type Piece = Html | readonly Html[] | string | false

const ENTITIES: Record<string, string> = {
  '&': '&amp;',
  '<': '&lt;',
  '>': '&gt;',
  '"': '&quot;',
  "'": '&#39;'
}

/**
 * Builds HTML from a template literal. Every inserted string is escaped, so that it is safe in text and in quoted
 * attributes. Instances of `Html` are inserted unchanged.
 */
export function html(strings: TemplateStringsArray, ...pieces: Piece[]): Html {
  return new Html(String.raw({ raw: strings }, ...pieces.map(textOf)))
}

function textOf(piece: Piece): string {
  if (piece === false) return ''
  if (piece instanceof Html) return piece.text
  if (typeof piece !== 'string') return piece.map(({ text }) => text).join('')
  return piece.replace(/[&<>"']/g, (character) => ENTITIES[character] as string)
}
