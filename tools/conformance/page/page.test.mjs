// The page at the admin address, in a real browser: two tabs on different shards chat with each other.
//
// The page is reached only through PARTS: a renamed part of it changes this one table.
import assert from 'node:assert/strict'
import { after, before, test } from 'node:test'
import { mkdirSync } from 'node:fs'
import { join } from 'node:path'
import { chromium } from 'playwright-core'
import { OUT, startServer, until } from '../server.mjs'

const PARTS = {
  name: '#name', message: '#text', send: '#composer button', messages: '#messages', state: '#state', shards: '#shards', present: '#present',
}
const WAIT_MS = 15_000
const RELOADS_MAX = 60
const shots = join(OUT, 'page')
let server, browser

before(async () => {
  mkdirSync(shots, { recursive: true })
  server = await startServer({ shards: 2 })
  browser = await chromium.launch({
    executablePath: process.env.CHROMIUM_BIN ?? '/usr/bin/chromium', headless: true,
    args: ['--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
      '--disable-component-update', '--disable-sync'],
  })
})
after(async () => {
  await browser?.close()
  await server?.stop()
})

/** A tab that keeps what went wrong in it and what it asked for. */
async function openTab(context) {
  const page = await context.newPage()
  const faults = []
  const asked = []
  page.on('pageerror', (error) => faults.push(error.message))
  page.on('console', (message) => { if (message.type() === 'error') faults.push(message.text()) })
  page.on('request', (request) => asked.push(request.url()))
  page.on('websocket', (socket) => asked.push(socket.url()))
  page.setDefaultTimeout(WAIT_MS)
  await page.goto(`${server.admin}/`)
  return { page, faults, asked, shard: await shardOf(page) }
}

/** The number of the shard that the tab says it landed on, once it is connected. */
function shardOf(page) {
  return until(WAIT_MS, `${PARTS.state} saying connected, and to which shard`, async () => {
    const shard = /^connected\b.*\bshard\s*(\d+)/is.exec((await page.locator(PARTS.state).innerText()).trim())
    return shard && { number: Number(shard[1]) }
  }).then(({ number }) => number)
}

async function say(page, name, message) {
  await page.locator(PARTS.name).fill(name)
  await page.locator(PARTS.message).fill(message)
  await page.locator(PARTS.send).click()
}

const reads = (page, message) =>
  until(WAIT_MS, `«${message}» in the list of messages`, async () => (await page.locator(PARTS.messages).innerText()).includes(message))

test('two tabs on different shards chat, see their shard and see the counters move', async () => {
  const context = await browser.newContext({ viewport: { width: 900, height: 700 } })
  const one = await openTab(context)
  const two = await openTab(context)
  for (let tries = 0; two.shard === one.shard; tries++) {
    assert.ok(tries < RELOADS_MAX, `${RELOADS_MAX} loads of the second tab never reached another shard`)
    await two.page.reload()
    two.shard = await shardOf(two.page)
  }
  const before = await one.page.locator(PARTS.shards).innerText()
  assert.match(before, /\d/, 'the table of shards shows numbers')

  await say(one.page, 'Ada', 'hello from the first tab')
  await Promise.all([reads(one.page, 'hello from the first tab'), reads(two.page, 'hello from the first tab')])
  await say(two.page, 'Grace', 'and back <b>&amp;</b> "quoted"')
  await Promise.all([reads(one.page, 'and back <b>&amp;</b> "quoted"'), reads(two.page, 'and back <b>&amp;</b> "quoted"')])
  assert.match(await two.page.locator(PARTS.messages).innerText(), /Ada/, 'the name travels with the message')
  await until(WAIT_MS, 'the counters moving', async () => (await one.page.locator(PARTS.shards).innerText()) !== before)

  // A tab that opens later shows the earlier messages in order, and is counted.
  const three = await openTab(context)
  await reads(three.page, 'and back <b>&amp;</b> "quoted"')
  assert.match(await three.page.locator(PARTS.messages).innerText(), /hello from[^]*and back[^]*joined lobby/)
  for (const { page } of [one, two, three]) {
    await until(WAIT_MS, 'three clients present', async () => (await page.locator(PARTS.present).innerText()) === '3 here')
  }
  await three.page.screenshot({ path: join(shots, 'tab-three.png'), fullPage: true })

  await one.page.screenshot({ path: join(shots, 'tab-one.png'), fullPage: true })
  await two.page.screenshot({ path: join(shots, 'tab-two.png'), fullPage: true })
  for (const { faults, asked } of [one, two, three]) {
    assert.deepEqual(faults, [], 'no error in the console')
    const elsewhere = asked.filter((url) => !/^(http|ws):\/\/127\.0\.0\.1:\d+\//.test(url) && !url.startsWith('data:'))
    assert.deepEqual(elsewhere, [], 'nothing is loaded from elsewhere')
  }
  await context.close()
})
