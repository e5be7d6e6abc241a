/** Text that is already HTML. This is a class, because a value parsed from a request is never an instance of it. */
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

/** Builds HTML from a template. Escapes all pieces except `Html`, so they are safe in text and quoted attributes. */
export function html(strings: TemplateStringsArray, ...pieces: Piece[]): Html {
  return new Html(String.raw({ raw: strings }, ...pieces.map(textOf)))
}

function textOf(piece: Piece): string {
  if (piece === false) return ''
  if (piece instanceof Html) return piece.text
  if (typeof piece !== 'string') return piece.map(({ text }) => text).join('')
  return piece.replace(/[&<>"']/g, (character) => ENTITIES[character] as string)
}
