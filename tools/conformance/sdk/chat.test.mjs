// The stock JavaScript SDK, unmodified, doing what an application does with it.
import assert from 'node:assert/strict'
import { after, before, test as run } from 'node:test'
import { ORIGINAL, startServer, until } from '../server.mjs'
import { Watched, WAIT_MS, acrossShards, connected, event, sdk, subscribed } from './clients.mjs'

const SHARDS = 2
const settings = `[client]
ping_interval = "1s"
pong_timeout = "500ms"
`
// Of ours only: `--dev`, and shards that say which they are.
const test = ORIGINAL ? run.skip : run
let server
const open = []
const keep = (client) => { open.push(client); return client }

before(async () => { if (!ORIGINAL) server = await startServer({ settings, shards: SHARDS }) })
after(async () => {
  for (const client of open) client.disconnect()
  await server?.stop()
})

test('connections land on two shards, and every subscriber gets every publication in one order per channel', async () => {
  const { clients, byShard } = await acrossShards(server.client, SHARDS)
  clients.forEach(keep)
  const members = [...byShard.values()]
  members.push(...clients.filter((client) => !members.includes(client)).slice(0, 4))
  const channels = ['order-a', 'order-b', 'order-c']
  const seats = []
  for (const client of members) {
    for (const channel of channels) seats.push({ client, channel, ...(await subscribed(client, channel)) })
  }
  const each = 50
  await Promise.all(seats.map(async ({ client, channel }) => {
    const from = members.indexOf(client)
    for (let number = 0; number < each; number++) await client.publish(channel, { from, number })
  }))
  const all = members.length * each
  await until(WAIT_MS, `${all} publications at every seat`, () => seats.every(({ got }) => got.length >= all))
  for (const channel of channels) {
    const [first, ...others] = seats.filter((seat) => seat.channel === channel)
    assert.equal(first.got.length, all, 'no loss and no duplicate')
    for (const other of others) assert.deepEqual(other.got, first.got, 'every subscriber sees the same order')
    for (let from = 0; from < members.length; from++) {
      const numbers = first.got.filter((data) => data.from === from).map((data) => data.number)
      assert.deepEqual(numbers, Array.from({ length: each }, (_, number) => number), 'a publisher keeps its order')
    }
  }
})

test("a publisher's own publication comes back to it", async () => {
  const client = keep(await connected(server.client))
  const { got } = await subscribed(client, 'mirror')
  await client.publish('mirror', { text: 'mine, with ünïcode and "quotes"', nested: [1, { two: null }] })
  await until(WAIT_MS, 'the own publication', () => got.length)
  assert.deepEqual(got, [{ text: 'mine, with ünïcode and "quotes"', nested: [1, { two: null }] }])
})

test('unsubscribe stops the channel and leaves the others alone', async () => {
  const [listener, speaker] = [keep(await connected(server.client)), keep(await connected(server.client))]
  const left = await subscribed(listener, 'left')
  const kept = await subscribed(listener, 'kept')
  await speaker.publish('left', 1)
  await until(WAIT_MS, 'the first publication', () => left.got.length)
  const gone = event(left.subscription, 'unsubscribed')
  left.subscription.unsubscribe()
  await gone
  // A call with a reply follows the unsubscribe on the same connection, so the server has handled both.
  await listener.publish('kept', 'after the unsubscribe')
  await speaker.publish('left', 2)
  await speaker.publish('kept', 'last')
  await until(WAIT_MS, 'the last publication of the kept channel', () => kept.got.includes('last'))
  assert.deepEqual(left.got, [1])
  const again = event(left.subscription, 'subscribed', 'the second subscribe')
  left.subscription.subscribe()
  await again
  await speaker.publish('left', 3)
  await until(WAIT_MS, 'a publication after the second subscribe', () => left.got.length === 2)
  assert.deepEqual(left.got, [1, 3])
})

test('a publish over the server API reaches subscribers on every shard', async () => {
  const { clients, byShard } = await acrossShards(server.client, SHARDS)
  clients.forEach(keep)
  const seats = []
  for (const client of byShard.values()) seats.push(await subscribed(client, 'news'))
  const answer = await server.api('publish', { channel: 'news', data: { headline: 'one' } })
  assert.equal(answer.status, 200)
  assert.ok(answer.body.result, JSON.stringify(answer.body))
  await until(WAIT_MS, 'the publication on every shard', () => seats.every(({ got }) => got.length))
  for (const { got } of seats) assert.deepEqual(got, [{ headline: 'one' }])
})

test('a broadcast over the server API reaches each of its channels', async () => {
  const client = keep(await connected(server.client))
  const [one, two] = [await subscribed(client, 'cast-1'), await subscribed(client, 'cast-2')]
  const { body } = await server.api('broadcast', { channels: ['cast-1', 'cast-2'], data: 'both' })
  assert.equal(body.result.responses.length, 2)
  for (const response of body.result.responses) assert.ok(response.result, JSON.stringify(response))
  await until(WAIT_MS, 'both publications', () => one.got.length && two.got.length)
  assert.deepEqual([one.got, two.got], [['both'], ['both']])
})

test('the server API refuses a wrong key', async () => {
  assert.equal((await server.api('publish', { channel: 'news', data: 1 }, 'wrong')).status, 401)
})

test('a connection that answers pings outlives several ping intervals', async () => {
  const client = keep(await connected(server.client, { websocket: Watched }))
  const socket = Watched.last
  let ended = null
  client.on('disconnected', (context) => { ended = context })
  client.on('connecting', (context) => { ended = context })
  await until(WAIT_MS, 'three pings', () => socket.receivedFrames.filter((frame) => frame.trim() === '{}').length >= 3)
  await until(WAIT_MS, 'three pongs', () => socket.sentFrames.filter((frame) => frame === '{}').length >= 3)
  await client.publish('alive', 1)
  assert.equal(ended, null)
})

test('commands batched into the first frame are all answered', async () => {
  const client = keep(sdk(server.client, { websocket: Watched }))
  const seats = ['batch-1', 'batch-2', 'batch-3'].map((channel) => client.newSubscription(channel))
  const ready = seats.map((subscription) => event(subscription, 'subscribed', `${subscription.channel} subscribed`))
  for (const subscription of seats) subscription.subscribe()
  client.connect()
  await Promise.all(ready)
  const first = Watched.last.sentFrames[0].split('\n').filter(Boolean)
  assert.equal(first.length, 4, 'the SDK sent connect and three subscribes as one frame')
})

test('a client reconnects and has its subscription back after a restart of the server', async () => {
  const first = await startServer({ settings, shards: SHARDS })
  const client = keep(await connected(first.client))
  const { subscription, got } = await subscribed(client, 'phoenix')
  const lost = event(client, 'connecting', 'the client noticing the end')
  const again = event(subscription, 'subscribed', 'the subscription coming back')
  assert.equal((await first.stop()).code, 0)
  assert.equal((await lost).code, 3001)
  const second = await startServer({ settings, shards: SHARDS, ports: first.ports })
  try {
    await again
    await client.publish('phoenix', 'risen')
    await until(WAIT_MS, 'a publication on the new server', () => got.length)
    assert.deepEqual(got, ['risen'])
  } finally {
    client.disconnect()
    await second.stop()
  }
})
