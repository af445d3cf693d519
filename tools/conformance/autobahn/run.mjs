// Runs the Autobahn Testsuite against the server's echo and compares with what is expected.
//
// `wstest` exits with 0 also when the server vanished in the middle, so its exit says nothing: the results are read,
// counted and compared case by case with the expected file. `--record` writes that file instead, and even then
// refuses what the quick part does not allow: a failure, a non-strict pass, a case not run.
//
// usage: run.mjs SETUP_FOLDER [--quick | --full | --tls] [--record] [--url URL of a server that runs already]
import { spawn } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync, openSync, closeSync } from 'node:fs'
import { join } from 'node:path'
import { OUT, startServer, within } from '../server.mjs'

const SECTIONS = {
  // Of compression the smallest and a middle size, in the first and the last way to agree on it.
  quick: ['1.*', '2.*', '3.*', '4.*', '5.*', '6.*', '7.*', '10.*', '12.1.1', '12.1.5', '12.2.6', '12.5.12', '13.1.1', '13.3.1', '13.5.3', '13.7.5', '13.7.12'],
  full: ['*'],
  // Over TLS: what meets the edges of records and of the end. Sizes from one byte to 16 MiB, fragments, pieces, closes.
  tls: ['1.*', '2.*', '5.*', '7.1.*', '7.3.*', '7.7.*', '9.1.*', '9.2.*', '9.5.*', '9.6.*', '10.*', '12.1.5', '12.5.12', '13.7.5'],
}
const LIMIT_MS = { quick: 10 * 60_000, full: 45 * 60_000, tls: 15 * 60_000 }
// Autobahn's largest message is 16 MiB, and what must hold a whole message is larger than it.
const settings = `[tls]
cert_pem_file = "${join(import.meta.dirname, 'localhost.pem')}"
[websocket]
message_size_limit = "16MiB"
compression = true
compression_min_size = 0
compression_server_takeover = true
compression_client_takeover = true
[client]
queue_max_size = "64MiB"
[engine]
mail_bytes_max = "64MiB"
turn_bytes_max = "64MiB"
`
// Cases whose outcome the suite itself calls informational: the RFC leaves the answer open.
const INFORMATIONAL = /^(7\.1\.6|7\.13\.[12])$/

const [folder, ...flags] = process.argv.slice(2)
const part = flags.includes('--full') ? 'full' : flags.includes('--tls') ? 'tls' : 'quick'
const given = flags.includes('--url') ? flags[flags.indexOf('--url') + 1] : null
const expectedFile = join(import.meta.dirname, `expected-${part}.json`)
const out = join(OUT, `autobahn-${part}`)

/** Resolves once wstest ended; the server's end before that is the failure. */
async function wstest(url, serverEnded) {
  rmSync(out, { recursive: true, force: true })
  mkdirSync(out, { recursive: true })
  const spec = {
    outdir: join(out, 'reports'), servers: [{ agent: 'corecast', url }], cases: SECTIONS[part],
    'exclude-cases': [], 'exclude-agent-cases': {},
  }
  writeFileSync(join(out, 'spec.json'), JSON.stringify(spec))
  const log = openSync(join(out, 'wstest.log'), 'w')
  const child = spawn(join(folder, 'python'), [join(folder, 'wstest.py'), '-m', 'fuzzingclient', '-s', join(out, 'spec.json')],
    { stdio: ['ignore', log, log], cwd: out })
  closeSync(log)
  const ended = new Promise((resolve, reject) => { child.once('exit', resolve); child.once('error', reject) })
  const vanished = serverEnded?.then(({ code, signal }) => { throw new Error(`the server ended (${signal ?? code}) while the suite ran`) })
  try {
    await within(LIMIT_MS[part], 'the end of wstest', Promise.race([ended, ...(vanished ? [vanished] : [])]))
  } finally {
    if (child.exitCode === null) child.kill('SIGKILL')
  }
}

function results() {
  const index = join(out, 'reports', 'index.json')
  if (!existsSync(index)) throw new Error(`wstest wrote no results; its log is ${join(out, 'wstest.log')}`)
  const cases = JSON.parse(readFileSync(index, 'utf8')).corecast ?? {}
  const byNumber = (a, b) => a.localeCompare(b, 'en', { numeric: true })
  return Object.fromEntries(Object.keys(cases).sort(byNumber).map((id) =>
    [id, { behavior: cases[id].behavior, behaviorClose: cases[id].behaviorClose }]))
}

/** What may be expected at all of a case: the expected file cannot excuse more than this. */
function allowed(id) {
  if (INFORMATIONAL.test(id)) return { behavior: 'INFORMATIONAL', behaviorClose: 'INFORMATIONAL' }
  return { behavior: 'OK', behaviorClose: 'OK' }
}

const text = (result) => (result ? `${result.behavior}, close ${result.behaviorClose}` : 'absent')

function differences(wanted, got) {
  return [...new Set([...Object.keys(wanted), ...Object.keys(got)])]
    .filter((id) => text(wanted[id]) !== text(got[id]))
    .map((id) => `case ${id}: expected ${text(wanted[id])}; got ${text(got[id])}`)
}

async function main() {
  const started = Date.now()
  const server = given ? null : await startServer({ settings, shards: 1, tls: part === 'tls' })
  try {
    await wstest(given ?? server.echo, server?.ended)
  } finally {
    await server?.stop()
  }
  const got = results()
  const count = Object.keys(got).length
  const seconds = ((Date.now() - started) / 1000).toFixed(1)
  const wanted = flags.includes('--record')
    ? Object.fromEntries(Object.keys(got).map((id) => [id, allowed(id)]))
    : JSON.parse(readFileSync(expectedFile, 'utf8'))
  const faults = differences(wanted, got)
  for (const fault of faults) console.log(fault)
  if (flags.includes('--record') && faults.length === 0 && count > 0) {
    writeFileSync(expectedFile, `{\n${Object.entries(got).map(([id, result]) => `  "${id}": ${JSON.stringify(result)}`).join(',\n')}\n}\n`)
    console.log(`recorded ${count} cases in ${expectedFile}`)
  }
  const passed = Object.keys(wanted).filter((id) => text(wanted[id]) === text(got[id])).length
  const failed = faults.length + (count === 0 && faults.length === 0 ? 1 : 0)
  console.log(`autobahn ${part}: ${count} cases in ${seconds} s`)
  console.log(`autobahn: ${passed} passed, ${failed} failed`)
  process.exitCode = failed ? 1 : 0
}

main().catch((error) => {
  console.log(`autobahn: ${error.message}`)
  console.log('autobahn: 0 passed, 1 failed')
  process.exitCode = 1
})
