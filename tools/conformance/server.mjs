// Starts and ends the server under test.
//
// One server per call, on ports that were free a moment before, with a configuration of its own, its log in `out/`.
// It is ended by its process id, and a server that ends by itself fails the test that waits for it. CORECAST_BIN names the
// program: anything that understands these flags can replace it, which is how the tests themselves are tested.
//
// SERVER=original starts Centrifugo instead, at ORIGINAL_BIN, with the same configuration: one JSON object serves both,
// and only the addresses, which ours takes as flags, are added to it. A test must pass there too.
import { spawn } from 'node:child_process'
import { connect, createServer } from 'node:net'
import { closeSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'

export const OUT = join(import.meta.dirname, 'out')
const START_MS = 15_000
const END_MS = 20_000
let started = 0

/** Whether the tests run against Centrifugo itself. */
export const ORIGINAL = process.env.SERVER === 'original'

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

export async function freePorts(count) {
  const held = await Promise.all(Array.from({ length: count }, async () => {
    const listener = createServer().listen(0, '127.0.0.1')
    await once(listener, 'listening')
    return listener
  }))
  const ports = held.map((listener) => listener.address().port)
  await Promise.all(held.map((listener) => new Promise((resolve) => listener.close(resolve))))
  return ports
}

/** A whole configuration in Centrifugo's form, with what every test needs and no test is about. */
function completed(config, key, ports) {
  const whole = { ...config, http_api: { key, ...config.http_api } }
  if (!ORIGINAL) return whole
  return {
    ...whole,
    http_server: { address: '127.0.0.1', port: ports[0], internal_address: '127.0.0.1', internal_port: String(ports[1]) },
    health: { enabled: true }, prometheus: { enabled: true }, usage_stats: { disabled: true },
  }
}

/** What to start: the program, its arguments, and its configuration written to where they say. */
function command({ config, settings, toml, key, ports, shards, name, prefix }) {
  const program = ORIGINAL ? process.env.ORIGINAL_BIN : process.env.CORECAST_BIN
  if (!program) throw new Error(`${ORIGINAL ? 'ORIGINAL_BIN' : 'CORECAST_BIN'} is not set: start the tests through tools/conformance/run`)
  if (config) writeFileSync(`${name}.json`, JSON.stringify(completed(config, key, ports), null, 2))
  if (ORIGINAL) {
    if (!config) throw new Error('the original takes a configuration and no settings of ours')
    return [program, ['-c', `${name}.json`]]
  }
  const flags = ['--listen', `${prefix}127.0.0.1:${ports[0]}`, '--admin', `127.0.0.1:${ports[1]}`, '--shards', String(shards), '--oversubscribe']
  if (config) return [program, ['serve', '--config', `${name}.json`, ...flags]]
  if (toml) {
    writeFileSync(`${name}.toml`, toml)
    return [program, ['serve', '--config', `${name}.toml`, ...flags]]
  }
  writeFileSync(`${name}.toml`, `${settings}\n[http_api]\nkey = "${key}"\n`)
  return [program, ['serve', '--dev', '--config', `${name}.toml`, ...flags]]
}

const health = async (port) => (await fetch(`http://127.0.0.1:${port}/health`).catch(() => null))?.ok
const accepts = (port) => new Promise((resolve) => {
  const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true) })
  socket.once('error', () => resolve(false))
})

/**
 * `config` is a configuration in Centrifugo's form, for either program; `settings` is TOML text for ours alone, which
 * then runs with `--dev`; `toml` is a whole file of ours, whose API key is `key`. `tls`: clients speak TLS, for which the
 * settings name a certificate. `proxied`: only proxies connect, with the PROXY protocol. `ports` lets a server come back
 * at the addresses of another one.
 */
export async function startServer({ config, settings = '', toml, shards = 2, ports, tls = false, proxied = false, key } = {}) {
  ports ??= await freePorts(2)
  key ??= config?.http_api?.key ?? 'conformance'
  const prefix = tls ? 'tls:' : proxied ? 'proxy:' : ''
  mkdirSync(OUT, { recursive: true })
  const name = join(OUT, `server-${process.pid}-${++started}`)
  const [program, flags] = command({ config, settings, toml, key, ports, shards, name, prefix })
  const log = openSync(`${name}.log`, 'w')
  const child = spawn(program, flags, { stdio: ['ignore', log, log] })
  closeSync(log)
  const ended = new Promise((resolve, reject) => {
    child.once('exit', (code, signal) => resolve({ code, signal }))
    child.once('error', reject)
  })
  ended.catch(() => {}) // reported by the waits below
  const server = {
    ports, key, pid: child.pid, ended,
    client: `ws://127.0.0.1:${ports[0]}/connection/websocket`,
    uni: `ws://127.0.0.1:${ports[0]}/connection/uni_websocket`,
    echo: `${tls ? 'wss' : 'ws'}://127.0.0.1:${ports[0]}/echo`,
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
    /** A call of the server API that has to succeed: its result. */
    async call(method, body = {}) {
      const answer = await server.api(method, body)
      if (!answer.body?.result) throw new Error(`${method}: ${answer.status} ${JSON.stringify(answer.body)}`)
      return answer.body.result
    },
  }
  try {
    await until(START_MS, 'an answer on /health', async () => {
      if (!server.alive()) throw new Error('the server ended at its start')
      return (await (ORIGINAL || prefix ? accepts : health)(ports[0])) && (await health(ports[1]))
    })
  } catch (error) {
    if (server.alive()) child.kill('SIGKILL')
    throw new Error(`${error.message}; its log:\n${server.log()}`)
  }
  return server
}
