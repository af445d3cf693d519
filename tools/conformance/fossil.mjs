// Applies a Fossil delta: enough to see what a delta means, whichever server made it.
// The format: the length of the result, a line end, then commands (`n@offset,` copies from the base, `n:` inserts the n
// bytes that follow), and last the checksum of the result with `;`. Numbers are base 64 of their own kind.
const DIGITS = '0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz~'

/** Sum of the bytes as 32-bit big-endian words; a rest shorter than a word is filled with zeros. */
function checksum(bytes) {
  let sum = 0
  for (let at = 0; at < bytes.length; at += 4) {
    for (let byte = 0; byte < 4; byte++) sum = (sum + (bytes[at + byte] ?? 0) * 2 ** (24 - 8 * byte)) % 2 ** 32
  }
  return sum
}

export function applyDelta(base, delta) {
  let at = 0
  const number = () => {
    let value = 0
    const start = at
    for (let digit; (digit = DIGITS.indexOf(String.fromCharCode(delta[at]))) >= 0; at++) value = value * 64 + digit
    if (at === start) throw new Error(`a number is missing at ${at} of a delta`)
    return value
  }
  const mark = () => String.fromCharCode(delta[at++])
  const length = number()
  if (mark() !== '\n') throw new Error('a delta does not begin with a length')
  const parts = []
  for (;;) {
    const count = number()
    const kind = mark()
    if (kind === '@') {
      const offset = number()
      if (mark() !== ',') throw new Error('a copy without its end')
      if (offset + count > base.length) throw new Error('a copy from past the base')
      parts.push(base.subarray(offset, offset + count))
    } else if (kind === ':') {
      parts.push(delta.subarray(at, at + count))
      at += count
    } else if (kind === ';') {
      const result = Buffer.concat(parts)
      if (result.length !== length) throw new Error(`a delta makes ${result.length} bytes and promises ${length}`)
      if (checksum(result) !== count) throw new Error('the checksum of a delta is wrong')
      return result
    } else throw new Error(`an unknown command in a delta: ${kind}`)
  }
}
