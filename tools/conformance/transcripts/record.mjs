// Plays every script against the original and writes down what it answered: `run transcripts --record`.
// What it writes are facts to compare with. A change in them is a change in the original, or in a script.
import { writeFileSync } from 'node:fs'
import { isDeepStrictEqual } from 'node:util'
import { ORIGINAL } from '../server.mjs'
import { ENCODINGS } from '../wire.mjs'
import { play } from './player.mjs'
import { expectedFile, plays, scripts, stage } from './scripts.mjs'

if (!ORIGINAL) throw new Error('only the original is recorded: set SERVER=original and ORIGINAL_BIN')
const only = process.argv.slice(2)
let count = 0
for (const script of await scripts()) {
  if (only.length && !only.includes(script.name)) continue
  const seen = {}
  for (const encoding of ENCODINGS) {
    const site = await stage(script)
    try {
      for (const transcript of script.transcripts.filter(plays(encoding))) (seen[transcript.name] ??= {})[encoding] = await play(site, transcript, encoding)
    } finally { await site.close() }
  }
  for (const answers of Object.values(seen)) if (isDeepStrictEqual(answers.json, answers.protobuf)) answers.protobuf = 'as json'
  writeFileSync(expectedFile(script.name), `${JSON.stringify(seen, null, 1)}\n`)
  count += Object.keys(seen).length
  console.log(`recorded ${Object.keys(seen).length} of ${script.name}`)
}
console.log(`${count} exchanges recorded in ${ENCODINGS.length} encodings`)
