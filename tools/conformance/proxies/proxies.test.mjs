// The nginx and HAProxy files of the documents, with the real programs in front of a server: clients connect through them,
// and limits per address count the clients and not the proxy.
//
// Replaced are ports, the paths of the certificate and of files that the programs write, and one limit.
import assert from 'node:assert/strict'
import { test } from 'node:test'
import { execFileSync, spawn } from 'node:child_process'
import { copyFileSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { get } from 'node:https'
import { connect } from 'node:net'
import { join } from 'node:path'
import WebSocket from 'ws'
import { OUT, freePorts, startServer, until, within } from '../server.mjs'
import { ending } from '../tokens.mjs'

const WAIT_MS = 15_000
/** Connections of one address that the server allows here. */
const CONNECTIONS = 2
const examples = join(import.meta.dirname, '..', '..', '..', 'docs', 'examples')
const env = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin` }

/** A text with every replacement made; one that finds nothing is a mistake of this test. */
function replaced(text, replacements) {
  for (const [from, to] of replacements) {
    assert.ok(text.includes(from), `${from} is in the file`)
    text = text.replaceAll(from, to)
  }
  return text
}

const value = (toml, name) => new RegExp(`^${name} = "(.*)"`, 'm').exec(toml)[1]

/** The server of an example, as that says, but for one limit that a test can reach. */
async function behind(name, options) {
  const toml = replaced(readFileSync(join(examples, name), 'utf8'), [['connections_per_address = 200', `connections_per_address = ${CONNECTIONS}`]])
  const server = await startServer({ toml, key: value(toml, 'key'), ...options })
  return { ...server, secret: value(toml, 'hmac_secret_key') }
}

/** Starts a proxy with an example's file, and waits until it takes connections. */
async function startProxy(program, file, replacements, args) {
  const folder = join(OUT, program)
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  const certificate = join(folder, 'certificate.pem')
  copyFileSync(join(import.meta.dirname, '..', 'autobahn', 'localhost.pem'), certificate)
  const [port] = await freePorts(1)
  const config = join(folder, file)
  writeFileSync(config, replaced(readFileSync(join(examples, file), 'utf8'), replacements({ folder, certificate, port })))
  const child = spawn(program, args({ folder, config }), { env, stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { output += data })
  const ended = once(child, 'exit')
  await until(WAIT_MS, `${program} at port ${port}`, () => {
    assert.equal(child.exitCode, null, `${program} ended: ${output}`)
    return new Promise((resolve) => {
      const socket = connect(port, '127.0.0.1', () => { socket.destroy(); resolve(true) })
      socket.once('error', () => resolve(false))
    })
  })
  return {
    port,
    async stop() {
      child.kill('SIGTERM')
      await within(WAIT_MS, `the end of ${program}`, ended)
    },
  }
}

/** A WebSocket from an address of this machine: open, or the status that it was refused with. */
async function open(port, address, headers = {}) {
  const socket = new WebSocket(`wss://127.0.0.1:${port}/connection/websocket`, { localAddress: address, rejectUnauthorized: false, headers })
  const outcome = new Promise((resolve, reject) => {
    socket.once('open', () => resolve({ socket }))
    socket.once('unexpected-response', (request, response) => { resolve({ status: response.statusCode }); request.destroy() })
    socket.once('error', reject)
  })
  return within(WAIT_MS, `an answer for ${address}`, outcome)
}

const fetched = (port, path) => new Promise((resolve, reject) => {
  get({ host: '127.0.0.1', port, path, rejectUnauthorized: false }, (response) => { response.resume(); resolve(response.statusCode) }).once('error', reject)
})

/** What both proxies have to do. `claims`: headers of a client that says that it is another one. */
async function serves(server, proxy, claims) {
  const { socket } = await open(proxy.port, '127.0.0.2')
  socket.send(JSON.stringify({ id: 1, connect: { token: ending(60, { sub: '42' }, server.secret) } }))
  const [message] = await within(WAIT_MS, 'the connect reply', once(socket, 'message'))
  assert.equal(JSON.parse(String(message)).connect.ping, 25)

  const others = [(await open(proxy.port, '127.0.0.2')).socket, (await open(proxy.port, '127.0.0.3')).socket]
  assert.deepEqual(await open(proxy.port, '127.0.0.2'), { status: 429 }, 'the third connection of one client')
  assert.deepEqual(await open(proxy.port, '127.0.0.2', claims), { status: 429 }, 'a client cannot claim another address')
  await until(WAIT_MS, 'the client\'s address in the log', () => /limits\.connections_per_address.*127\.0\.0\.2/.test(server.log()))

  assert.equal(await fetched(proxy.port, '/health'), 200)
  for (const path of ['/api/info', '/metrics', '/']) assert.equal(await fetched(proxy.port, path), 404, `${path} is not served to clients`)
  for (const one of [socket, ...others]) one.terminate()
}

const claims = { 'x-forwarded-for': '192.0.2.1' }

test('nginx forwards WebSockets and names their clients', async () => {
  const server = await behind('behind-nginx.toml')
  const proxy = await startProxy('nginx', 'nginx.conf', ({ folder, certificate, port }) => [
    ['listen 443 ssl', `listen 127.0.0.1:${port} ssl`], ['server 127.0.0.1:8000', `server 127.0.0.1:${server.ports[0]}`],
    ['/etc/corecast/fullchain.pem', certificate], ['/etc/corecast/privkey.pem', certificate],
    ['/run/nginx.pid', join(folder, 'nginx.pid')], ['/var/log/nginx/error.log', join(folder, 'error.log')],
  ], ({ folder, config }) => ['-p', folder, '-c', config, '-e', join(folder, 'error.log'), '-g', 'daemon off;'])
  try {
    await serves(server, proxy, claims)
  } finally {
    await proxy.stop()
    await server.stop()
  }
})

test('HAProxy forwards bytes and names their clients by the PROXY protocol', async () => {
  const server = await behind('behind-haproxy.toml', { proxied: true })
  const proxy = await startProxy('haproxy', 'haproxy.cfg', ({ folder, certificate, port }) => [
    ['bind :443', `bind 127.0.0.1:${port}`], ['127.0.0.1:8000', `127.0.0.1:${server.ports[0]}`],
    ['/etc/corecast/haproxy.pem', certificate], ['/run/haproxy/admin.sock', join(folder, 'admin.sock')],
  ], ({ config }) => ['-db', '-f', config])
  try {
    await serves(server, proxy, claims)
  } finally {
    await proxy.stop()
    await server.stop()
  }
})

test('both programs find no fault with their files', () => {
  const checked = (program, args) => execFileSync(program, args, { env, stdio: ['ignore', 'pipe', 'pipe'] })
  checked('nginx', ['-t', '-p', join(OUT, 'nginx'), '-c', join(OUT, 'nginx', 'nginx.conf'), '-e', join(OUT, 'nginx', 'error.log')])
  checked('haproxy', ['-c', '-f', join(OUT, 'haproxy', 'haproxy.cfg')])
})
