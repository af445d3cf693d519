// The JavaScript of the documents runs as pasted: in this Node, in Node 22, and in Chromium.
//
// Only addresses are replaced: the server's, and that of the package's file, which comes from the installed package.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { execFileSync, spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { existsSync, mkdirSync, readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { once } from 'node:events'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { OUT, startServer, until } from '../server.mjs'
import { SECRET, ending } from '../tokens.mjs'

const WAIT_MS = 15_000
const NODE_22 = '22.23.5'
const root = join(import.meta.dirname, '..', '..', '..')
const folder = join(OUT, 'documents')
const [lobby, withToken] = blocks('README.md', 'js')
const [importMap] = blocks('README.md', 'html')
let browser

before(async () => {
  mkdirSync(folder, { recursive: true })
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium', headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  })
})
after(() => browser?.close())

/** The fenced blocks of a document in one language. */
function blocks(name, language) {
  const text = readFileSync(join(root, name), 'utf8')
  return [...text.matchAll(/^```(\w*).*\n([^]*?)^```$/gm)].filter(([, word]) => word === language).map(([, , code]) => code)
}

/** The program of Node 22: NODE22_BIN, or the one in the npm package of Node's binaries. */
function node22() {
  if (process.env.NODE22_BIN) return process.env.NODE22_BIN
  const name = `node-linux-${process.arch}`
  const prefix = join(OUT, 'node22')
  const program = join(prefix, 'node_modules', name, 'bin', 'node')
  if (!existsSync(program)) {
    mkdirSync(prefix, { recursive: true })
    writeFileSync(join(prefix, 'package.json'), '{ "private": true }')
    execFileSync('npm', ['install', '--no-save', '--ignore-scripts', '--no-fund', '--no-audit', `${name}@${NODE_22}`], { cwd: prefix, stdio: 'inherit' })
  }
  return program
}

const local = (code, server) => code.replace('ws://127.0.0.1:8000/connection/websocket', server.client)

/** Publishes once the one client has subscribed. */
async function publishWhenHere(server, channel, data) {
  await until(WAIT_MS, `a subscriber of ${channel}`, async () => (await server.call('channels')).channels?.[channel]?.num_clients === 1)
  await server.call('publish', { channel, data })
}

async function inNode(program) {
  const server = await startServer()
  const file = join(folder, 'lobby.mjs')
  writeFileSync(file, local(lobby, server))
  const child = spawn(program, [file], { stdio: ['ignore', 'pipe', 'pipe'] })
  let output = ''
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (data) => { output += data })
  try {
    await publishWhenHere(server, 'lobby', { text: 'hello' })
    await until(WAIT_MS, `the publication in ${JSON.stringify(output)}`, () => output.includes("{ text: 'hello' }"))
  } finally {
    child.kill('SIGKILL')
    await server.stop()
  }
}

test('the README has one snippet for --dev, one with tokens, and one import map', () => {
  assert.ok(lobby && withToken && importMap)
  assert.equal(blocks('README.md', 'js').length, 2)
  for (const name of readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'))) {
    assert.deepEqual(blocks(`docs/${name}`, 'js'), [], `${name}: no test runs this`)
  }
})

test(`the snippet runs in this Node, ${process.version}`, () => inNode(process.execPath))

test('the snippet runs in Node 22', async () => {
  const program = node22()
  assert.match(execFileSync(program, ['--version'], { encoding: 'utf8' }), /^v22\./)
  await inNode(program)
})

/** A page of its own origin with the import map and a module; what it wrote to the console. */
async function inBrowser(code, pages, run) {
  const listener = createServer((request, response) => {
    const text = pages[request.url] ?? `<!doctype html><meta charset="utf-8">${importMap}<script type="module">${code()}</script>`
    response.setHeader('content-type', pages[request.url] ? 'text/plain' : 'text/html')
    response.end(text)
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const page = await browser.newPage()
  const written = []
  page.on('console', async (message) => written.push(JSON.stringify(await Promise.all(message.args().map((one) => one.jsonValue())))))
  page.on('pageerror', (error) => written.push(`error: ${error.message}`))
  await page.route('https://unpkg.com/**', (route) => {
    const [, name, version, path] = /^https:\/\/unpkg\.com\/(\w+)@([\d.]+)\/(.*)$/.exec(route.request().url())
    const installed = join(import.meta.dirname, '..', 'node_modules', name)
    assert.equal(JSON.parse(readFileSync(join(installed, 'package.json'), 'utf8')).version, version)
    return route.fulfill({ contentType: 'text/javascript', headers: { 'access-control-allow-origin': '*' }, body: readFileSync(join(installed, path), 'utf8') })
  })
  const origin = `http://127.0.0.1:${listener.address().port}`
  try {
    await run({ origin, open: () => page.goto(`${origin}/`), written })
  } finally {
    await page.close()
    listener.close()
  }
}

test('the snippet runs in a page without a bundler', async () => {
  const server = await startServer()
  try {
    await inBrowser(() => local(lobby, server), {}, async ({ open, written }) => {
      await open()
      await publishWhenHere(server, 'lobby', { text: 'hello' })
      await until(WAIT_MS, `the publication in ${written}`, () => written.includes('[{"text":"hello"}]'))
    })
  } finally {
    await server.stop()
  }
})

test('the snippet with tokens runs in a page that fetches them', async () => {
  let server
  const code = () => `import { Centrifuge } from 'centrifuge'\n${withToken.replace('wss://app.example.com/connection/websocket', server.client)}
    lobby.subscribe()\nclient.connect()`
  await inBrowser(code, { '/token': ending(60, { sub: '42' }) }, async ({ origin, open, written }) => {
    const chat = { name: 'chat', history_size: 100, history_ttl: '10m', force_recovery: true, allow_subscribe_for_client: true }
    server = await startServer({
      config: { client: { allowed_origins: [origin], token: { hmac_secret_key: SECRET } }, channel: { namespaces: [chat] } },
    })
    try {
      await open()
      await until(WAIT_MS, `the subscription in ${written}`, () => written.includes('[{"wasRecovering":false,"recovered":false}]'))
    } finally {
      await server.stop()
    }
  })
})
