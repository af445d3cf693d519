// JSON Web Tokens as an application's backend makes them: HS256 over the secret of the tests' configurations.
import { createHmac } from 'node:crypto'

export const SECRET = 'a secret of the conformance suites'
export const now = () => Math.floor(Date.now() / 1000)

const part = (value) => Buffer.from(JSON.stringify(value)).toString('base64url')

export function jwt(claims, secret = SECRET, header = { alg: 'HS256', typ: 'JWT' }) {
  const signed = `${part(header)}.${part(claims)}`
  return `${signed}.${createHmac('sha256', secret).update(signed).digest('base64url')}`
}

/** A token that ends `seconds` from now; a negative number makes one that has ended. */
export const ending = (seconds, claims, secret) => jwt({ exp: now() + seconds, ...claims }, secret)
