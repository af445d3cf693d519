// Plays every script against the server under test and holds each answer against the original's, in both encodings.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { isDeepStrictEqual } from 'node:util'
import { ENCODINGS } from '../wire.mjs'
import { ALLOWED } from './allowed.mjs'
import { play } from './player.mjs'
import { expectedOf, plays, scripts, stage } from './scripts.mjs'

/** Every place where two answers differ, as the path to it and both values; an absent one is undefined. */
export function differences(theirs, ours, path = '') {
  if (isDeepStrictEqual(theirs, ours)) return []
  const both = [theirs, ours]
  const nested = both.every((side) => side && typeof side === 'object') && Array.isArray(theirs) === Array.isArray(ours)
  if (!nested) return [{ path, theirs, ours }]
  const keys = new Set(both.flatMap((side) => Object.keys(side)))
  return [...keys].flatMap((key) => differences(theirs[key], ours[key], path ? `${path}.${key}` : key))
}

const met = new Set()
const fits = (wanted, value) => wanted === undefined || (wanted instanceof RegExp ? wanted.test(value) : wanted === value)
function allowed(script, transcript, encoding, { path, theirs, ours }) {
  const entry = ALLOWED.find((entry) => fits(entry.script, script) && fits(entry.transcript, transcript) && fits(entry.encoding, encoding) && fits(entry.path, path)
    && (!('ours' in entry) || (typeof entry.ours === 'function' ? entry.ours(theirs, ours) : isDeepStrictEqual(entry.ours, ours))))
  if (entry) met.add(entry)
  return Boolean(entry)
}

const show = (value) => (value === undefined ? 'nothing' : JSON.stringify(value))

for (const script of await scripts()) {
  const expected = expectedOf(script.name)
  for (const encoding of ENCODINGS) {
    describe(`${script.name} [${encoding}]`, () => {
      let site
      before(async () => { site = await stage(script) })
      after(async () => { await site?.close() })
      for (const transcript of script.transcripts.filter(plays(encoding))) {
        test(transcript.name, async () => {
          const recorded = expected[transcript.name]
          assert.ok(recorded, 'not recorded yet: run record')
          const theirs = recorded[encoding] === 'as json' ? recorded.json : recorded[encoding]
          const found = differences(theirs, await play(site, transcript, encoding)).filter((difference) => !allowed(script.name, transcript.name, encoding, difference))
          assert.ok(found.length === 0, found.map((one) => `\n  ${one.path}\n    the original: ${show(one.theirs)}\n    here:         ${show(one.ours)}`).join(''))
        })
      }
    })
  }
}

describe('the list of what may differ', () => {
  test('every entry has a reason and was met', () => {
    for (const entry of ALLOWED) {
      assert.ok(entry.reason, `no reason: ${JSON.stringify(entry)}`)
      assert.ok(met.has(entry), `no longer different: ${JSON.stringify(entry)}`)
    }
  })
})
