// Starts and ends the server under test.
//
// One server per call, on ports that were free a moment before, with a configuration of its own, its log in `out/`.
// It is ended by its process id, and a server that ends by itself fails whoever waits for it. CORECAST_BIN names the
// program: anything that understands these flags can stand in, which is how the tests themselves are tested.
import { spawn } from 'node:child_process'
import { createServer } from 'node:net'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'

export const OUT = join(import.meta.dirname, 'out')
const START_MS = 15_000
const END_MS = 20_000
let started = 0

/** Fulfils with `promise`, or fails after `ms` saying what was waited for. */
export async function within(ms, what, promise) {
  let timer
  const late = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error(`${ms} ms passed without ${what}`)), ms) })
  try { return await Promise.race([promise, late]) } finally { clearTimeout(timer) }
}

/** Asks `probe` again and again until it gives something true. The one place that waits by time. */
export async function until(ms, what, probe) {
  const deadline = Date.now() + ms
  for (;;) {
    const value = await probe()
    if (value) return value
    if (Date.now() > deadline) throw new Error(`${ms} ms passed without ${what}`)
    await new Promise((resolve) => setTimeout(resolve, 20))
  }
}

async function freePorts(count) {
  const held = await Promise.all(Array.from({ length: count }, async () => {
    const listener = createServer().listen(0, '127.0.0.1')
    await once(listener, 'listening')
    return listener
  }))
  const ports = held.map((listener) => listener.address().port)
  await Promise.all(held.map((listener) => new Promise((resolve) => listener.close(resolve))))
  return ports
}

/** `settings` is TOML text; `ports` lets a server come back where another one stood. */
export async function startServer({ settings = '', shards = 2, ports } = {}) {
  const program = process.env.CORECAST_BIN
  if (!program) throw new Error('CORECAST_BIN is not set: start the tests through tools/conformance/run')
  ports ??= await freePorts(2)
  const key = 'conformance'
  mkdirSync(OUT, { recursive: true })
  const name = join(OUT, `server-${process.pid}-${++started}`)
  writeFileSync(`${name}.toml`, `${settings}\n[http_api]\nkey = "${key}"\n`)
  const log = openSync(`${name}.log`, 'w')
  const child = spawn(program, [
    'serve', '--dev', '--config', `${name}.toml`, '--listen', `127.0.0.1:${ports[0]}`, '--admin', `127.0.0.1:${ports[1]}`,
    '--shards', String(shards), '--oversubscribe',
  ], { stdio: ['ignore', log, log] })
  closeSync(log)
  const ended = new Promise((resolve, reject) => {
    child.once('exit', (code, signal) => resolve({ code, signal }))
    child.once('error', reject)
  })
  ended.catch(() => {}) // told to whoever waits below
  const server = {
    ports, key, pid: child.pid, ended,
    client: `ws://127.0.0.1:${ports[0]}/connection/websocket`,
    echo: `ws://127.0.0.1:${ports[0]}/echo`,
    admin: `http://127.0.0.1:${ports[1]}`,
    log: () => readFileSync(`${name}.log`, 'utf8'),
    alive: () => child.exitCode === null && child.signalCode === null,
    /** Asks it to end as an operator would, and says how it did; one that does not end is killed and fails the test. */
    async stop() {
      if (server.alive()) child.kill('SIGTERM')
      try { return await within(END_MS, 'the end of the server', ended) } catch (error) { child.kill('SIGKILL'); throw error }
    },
    async api(method, body, apiKey = key) {
      const answer = await fetch(`${server.admin}/api/${method}`, {
        method: 'POST', headers: { 'content-type': 'application/json', 'x-api-key': apiKey }, body: JSON.stringify(body),
      })
      return { status: answer.status, body: answer.status === 200 ? await answer.json() : null }
    },
  }
  const health = async (port) => (await fetch(`http://127.0.0.1:${port}/health`).catch(() => null))?.ok
  try {
    await until(START_MS, 'an answer on /health', async () => {
      if (!server.alive()) throw new Error('the server ended at its start')
      return (await health(ports[0])) && (await health(ports[1]))
    })
  } catch (error) {
    if (server.alive()) child.kill('SIGKILL')
    throw new Error(`${error.message}; its log:\n${server.log()}`)
  }
  return server
}
