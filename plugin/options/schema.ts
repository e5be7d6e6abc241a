import type { TSchema } from 'typebox'

/** Checks the value of a key in a session. Returns what is wrong with the value, or `undefined` if it is valid. */
export type ProblemOf = (key: string, value: unknown) => string | undefined

/** The shape of a TypeBox object. TypeBox's own type would triple the time that an application takes to compile. */
export interface ObjectSchema {
  readonly properties: Readonly<Record<string, object>>
  readonly additionalProperties?: unknown
}

export function isObjectSchema(schema: unknown): schema is ObjectSchema {
  const { properties } = Object(schema) as { properties?: unknown }
  return isObject(properties) && Object.values(properties).every(isObject)
}

function isObject(value: unknown): value is object {
  return typeof value === 'object' && value !== null
}

/**
 * Compiles each property of `schema` separately, so that reading one key checks only one value. TypeBox is imported
 * only here, because loading it takes more CPU time than loading Fastify, and most applications have no schema.
 */
export async function compileSchema(schema: ObjectSchema): Promise<ProblemOf> {
  const { Compile } = await import('typebox/compile')
  const { properties, additionalProperties } = schema
  const validators = new Map(
    Object.entries(properties).map(([key, property]) => [key, Compile(property as TSchema)])
  )
  return (key, value) => {
    if (key.startsWith('$')) return undefined
    const validator = validators.get(key)
    if (validator === undefined) return additionalProperties === false ? 'is not in the schema' : undefined
    if (validator.Check(value)) return undefined
    const { instancePath, message } = validator.Errors(value)[0] as { instancePath: string; message: string }
    return `${instancePath === '' ? '' : `at ${instancePath} `}${message}`
  }
}
