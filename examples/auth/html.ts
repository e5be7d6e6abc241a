/** Text that is HTML already. A class, so that nothing that was parsed from a request can pass for it. */
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

/** A template of HTML in which every piece but HTML itself is escaped, for text and for quoted attributes. */
export function html(strings: TemplateStringsArray, ...pieces: Piece[]): Html {
  return new Html(String.raw({ raw: strings }, ...pieces.map(textOf)))
}

function textOf(piece: Piece): string {
  if (piece === false) return ''
  if (piece instanceof Html) return piece.text
  if (typeof piece !== 'string') return piece.map(({ text }) => text).join('')
  return piece.replace(/[&<>"']/g, (character) => ENTITIES[character] as string)
}
