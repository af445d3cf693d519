// What the protocol answers to clients that break its rules: error replies and close codes, seen on a bare socket.
import assert from 'node:assert/strict'
import { after, before, test as run } from 'node:test'
import { ORIGINAL, startServer } from '../server.mjs'
import { Bare, connected, event } from './clients.mjs'

const settings = `[client]
ping_interval = "2s"
pong_timeout = "500ms"
stale_close_delay = "1s"
`
// Of ours only: `--dev`, and shards that say which they are.
const test = ORIGINAL ? run.skip : run
let server
before(async () => { if (!ORIGINAL) server = await startServer({ settings }) })
after(async () => { await server?.stop() })

async function closesWith(code, ...commands) {
  const bare = await Bare.connected(server.client)
  bare.send(...commands)
  assert.equal((await bare.closing()).code, code)
}

test('the second subscribe to a channel is answered with error 105', async () => {
  const bare = await Bare.connected(server.client)
  bare.send({ id: 2, subscribe: { channel: 'twice' } }, { id: 3, subscribe: { channel: 'twice' } })
  assert.ok((await bare.reply(2)).subscribe)
  assert.equal((await bare.reply(3)).error.code, 105)
  bare.socket.close()
})

test('a channel name past 255 bytes is answered with error 107', async () => {
  const bare = await Bare.connected(server.client)
  bare.send({ id: 2, subscribe: { channel: 'x'.repeat(256) } })
  assert.equal((await bare.reply(2)).error.code, 107)
  bare.socket.close()
})

test('the 129th channel of a connection is answered with error 106', async () => {
  const bare = await Bare.connected(server.client)
  for (let number = 0; number < 129; number++) bare.send({ id: 2 + number, subscribe: { channel: `many-${number}` } })
  assert.ok((await bare.reply(129)).subscribe)
  assert.equal((await bare.reply(130)).error.code, 106)
  bare.socket.close()
})

test('a hundred commands in one frame get one reply each, and the subscribe reply precedes its publications', async () => {
  const bare = await Bare.open(server.client)
  const commands = [{ id: 1, connect: {} }, { id: 2, subscribe: { channel: 'packed' } }]
  for (let id = 3; id <= 100; id++) commands.push({ id, publish: { channel: 'packed', data: id } })
  bare.send(...commands)
  await Promise.all(commands.map(({ id }) => bare.reply(id)))
  await bare.line((line) => line.push?.pub?.data === 100, 'the last publication')
  const replies = bare.lines.filter((line) => line.id).map((line) => line.id)
  assert.deepEqual(replies.toSorted((a, b) => a - b), commands.map(({ id }) => id))
  const pushes = bare.lines.filter((line) => line.push)
  assert.deepEqual(pushes.map((line) => line.push.pub.data), commands.slice(2).map(({ id }) => id))
  assert.ok(bare.lines.findIndex((line) => line.id === 2) < bare.lines.indexOf(pushes[0]))
  bare.socket.close()
})

test('a first command that is not connect closes with 3501', async () => {
  const bare = await Bare.open(server.client)
  bare.send({ id: 1, subscribe: { channel: 'early' } })
  assert.equal((await bare.closing()).code, 3501)
})

test('a second connect closes with 3501', () => closesWith(3501, { id: 2, connect: {} }))
test('an unknown command closes with 3501', () => closesWith(3501, { id: 2, fly: {} }))
test('a pong without a ping closes with 3501', () => closesWith(3501, '{}'))
test('a frame that is not JSON closes with 3501', () => closesWith(3501, '{"id":2,'))
test('an empty frame closes with 3501', () => closesWith(3501, ''))
test('a send, which no handler takes, closes with 3508', () => closesWith(3508, { send: { data: 1 } }))
test('a message past the size limit closes with 1009', () => closesWith(1009, 'x'.repeat(70_000)))

test('a connection that never sends connect closes with 3502', async () => {
  const bare = await Bare.open(server.client)
  assert.equal((await bare.closing()).code, 3502)
})

test('a connection that leaves a ping unanswered closes with 3012', async () => {
  const bare = await Bare.connected(server.client, { answerPings: false })
  assert.equal((await bare.closing()).code, 3012)
})

test('SIGTERM closes every connection with 3001 and the server exits with 0', async () => {
  const ending = await startServer({ settings: '' })
  const bares = await Promise.all(Array.from({ length: 20 }, () => Bare.connected(ending.client)))
  const client = await connected(ending.client)
  const told = event(client, 'connecting', 'the close in the SDK')
  const end = ending.stop()
  for (const bare of bares) assert.equal((await bare.closing()).code, 3001)
  assert.equal((await told).code, 3001)
  client.disconnect()
  assert.equal((await end).code, 0)
})
