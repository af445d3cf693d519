// What the server does to connections by itself: its own subscriptions, personal channels, one connection per user, and
// the calls of the server API.
import assert from 'node:assert/strict'
import { until } from '../server.mjs'
import { SECRET, jwt } from '../tokens.mjs'
import { WAIT_MS, event } from './clients.mjs'
import { scenarios } from './kit.mjs'

const base = { client: { token: { hmac_secret_key: SECRET }, ping_interval: '25s' } }
const namespaces = [
  { name: 'news', history_size: 10, history_ttl: '60s', force_recovery: true },
  { name: 'room', presence: true, join_leave: true, force_push_join_leave: true, allow_subscribe_for_client: true },
  { name: 'me', presence: true },
]

/** A connected client that remembers what its server-side subscriptions did. */
async function watched(kit, claims = {}, options = {}) {
  const client = kit.client({ token: jwt({ sub: kit.user, ...claims }), ...options })
  client.seen = []
  for (const name of ['subscribed', 'unsubscribed', 'publication', 'join', 'leave']) {
    client.on(name, ({ channel, data, info }) => client.seen.push([name, channel, name === 'publication' ? kit.unpack(data) : info?.user]))
  }
  const ready = event(client, 'connected')
  client.connect()
  client.context = await ready
  return client
}
const has = (client, ...wanted) => until(WAIT_MS, wanted.join(' '), () => client.seen.some((seen) => wanted.every((part, at) => JSON.stringify(seen[at]) === JSON.stringify(part))))

scenarios('server-side subscriptions', { config: { ...base, channel: { namespaces, without_namespace: { presence: true } } } }, (both, site) => {
  both('channels of a token', async (kit) => {
    const [first, second] = [`a-${kit.tag}`, `news:${kit.tag}`]
    const client = await watched(kit, { channels: [first, second] })
    await has(client, 'subscribed', first)
    await has(client, 'subscribed', second)
    for (const channel of [first, second]) await site.server.call('publish', { channel, data: { of: channel } })
    for (const channel of [first, second]) await has(client, 'publication', channel, { of: channel })
  })

  both('subscriptions of a token with info and data', async (kit) => {
    const channel = `room:${kit.tag}`
    const client = kit.client({ token: jwt({ sub: kit.user, subs: { [channel]: { info: { role: 'host' }, data: { topic: 'x' } } } }) })
    const told = event(client, 'subscribed')
    client.connect()
    assert.deepEqual(kit.unpack((await told).data), { topic: 'x' })
    const { presence } = await site.server.call('presence', { channel })
    assert.deepEqual(Object.values(presence).map(({ user, chan_info }) => [user, chan_info]), [[kit.user, { role: 'host' }]])
  })

  both('an unknown namespace in a token', async (kit) => assert.deepEqual(await kit.refused({ token: jwt({ sub: kit.user, channels: ['nowhere:x'] }) }), { code: 102, reason: 'unknown channel' }))

  both('the server API subscribes and unsubscribes every connection of a user', async (kit) => {
    const channel = `later-${kit.tag}`
    const clients = [await watched(kit), await watched(kit)]
    await site.server.call('subscribe', { user: kit.user, channel })
    for (const client of clients) await has(client, 'subscribed', channel)
    await site.server.call('publish', { channel, data: 1 })
    for (const client of clients) await has(client, 'publication', channel, 1)
    await site.server.call('unsubscribe', { user: kit.user, channel })
    for (const client of clients) await has(client, 'unsubscribed', channel)
    assert.deepEqual((await site.server.call('presence_stats', { channel })), { num_clients: 0, num_users: 0 })
  })

  both('the server API subscribes one connection of a user', async (kit) => {
    const channel = `one-${kit.tag}`
    const [first, second] = [await watched(kit), await watched(kit)]
    await site.server.call('subscribe', { user: kit.user, channel, client: first.context.client })
    await has(first, 'subscribed', channel)
    assert.deepEqual((await site.server.call('presence_stats', { channel })), { num_clients: 1, num_users: 1 })
    assert.deepEqual(second.seen, [])
  })

  both('the server API ends a subscription that the client made, for good', async (kit) => {
    const channel = `room:${kit.tag}`
    const client = await watched(kit)
    const { subscription } = await kit.subscribed(client, channel)
    const gone = event(subscription, 'unsubscribed')
    await site.server.call('unsubscribe', { user: kit.user, channel })
    const { code, reason } = await gone
    assert.deepEqual({ code, reason }, { code: 2000, reason: 'server unsubscribe' })
  })

  both('joins and leaves of server-side subscriptions', async (kit) => {
    const channel = `room:${kit.tag}`
    const watcher = await watched(kit, { channels: [channel] })
    const visitor = await watched(kit, { sub: `visitor-${kit.tag}`, channels: [channel] })
    await has(watcher, 'join', channel, `visitor-${kit.tag}`)
    visitor.disconnect()
    await has(watcher, 'leave', channel, `visitor-${kit.tag}`)
  })

  both('a client cannot subscribe to what the server subscribed', async (kit) => {
    const channel = `room:${kit.tag}`
    const bare = await kit.bareConnected({ connect: { token: jwt({ sub: kit.user, channels: [channel] }) } })
    bare.send({ id: 2, subscribe: { channel } })
    assert.deepEqual((await bare.reply(2)).error, { code: 105, message: 'already subscribed' })
  })

  const ends = [
    ['without a code', undefined, { code: 3503, reason: 'force disconnect' }, false],
    ['with a code of the application that is final', { code: 4999, reason: 'banned' }, { code: 4999, reason: 'banned' }, false],
    ['with a code of the application that lets come back', { code: 4000, reason: 'moved' }, { code: 4000, reason: 'moved' }, true],
  ]
  for (const [what, disconnect, expected, comesBack] of ends) {
    both(`the server API disconnects a user ${what}`, async (kit) => {
      const client = await watched(kit)
      const told = event(client, comesBack ? 'connecting' : 'disconnected')
      await site.server.call('disconnect', { user: kit.user, disconnect })
      const { code, reason } = await told
      assert.deepEqual({ code, reason }, expected)
      if (comesBack) await client.ready(WAIT_MS)
    })
  }

  both('a disconnect spares a client of the white list', async (kit) => {
    const [first, second] = [await watched(kit), await watched(kit)]
    const told = event(first, 'disconnected')
    await site.server.call('disconnect', { user: kit.user, whitelist: [second.context.client] })
    await told
    await second.publish('x', kit.pack(1)).catch(({ code }) => assert.equal(code, 103))
    assert.equal(second.state, 'connected')
  })
})

scenarios('personal channels', {
  config: { client: { ...base.client, subscribe_to_user_personal_channel: { enabled: true, personal_channel_namespace: 'me', single_connection: true } }, channel: { namespaces } },
}, (both, site) => {
  both('every user has one', async (kit) => {
    const client = await watched(kit)
    const channel = `me:#${kit.user}`
    await has(client, 'subscribed', channel)
    await site.server.call('publish', { channel, data: 'for you' })
    await has(client, 'publication', channel, 'for you')
  })
  both('the newest connection of a user stays, the one before closes with 3504', async (kit) => {
    const first = await watched(kit)
    const told = event(first, 'disconnected')
    const second = await watched(kit)
    const { code, reason } = await told
    assert.deepEqual({ code, reason }, { code: 3504, reason: 'connection limit' })
    assert.equal(second.state, 'connected')
    await until(WAIT_MS, 'one connection', async () => (await site.server.call('presence_stats', { channel: `me:#${kit.user}` })).num_clients === 1)
  })
})

scenarios('a personal channel without a namespace', {
  config: { client: { ...base.client, subscribe_to_user_personal_channel: { enabled: true } }, channel: { namespaces } },
}, (both, site) => {
  both('it is named for the user', async (kit) => {
    const client = await watched(kit)
    await has(client, 'subscribed', `#${kit.user}`)
    await site.server.call('publish', { channel: `#${kit.user}`, data: 1 })
    await has(client, 'publication', `#${kit.user}`, 1)
  })
})
