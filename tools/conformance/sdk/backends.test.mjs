// A backend behind the server: it decides over HTTP about connects, subscribes, publications and calls.
import assert from 'node:assert/strict'
import { startBackend } from '../backend.mjs'
import { until } from '../server.mjs'
import { SECRET, jwt, now } from '../tokens.mjs'
import { WAIT_MS, event } from './clients.mjs'
import { refusal, scenarios } from './kit.mjs'

/** The data of a command, or the meta of its connection, says how the application answers. */
const application = (path, { data, meta, method, user, channel }) => {
  if (data?.reply !== undefined) return data.reply
  if (meta?.[path] !== undefined) return meta[path]
  if (path === 'rpc') return { result: { data: { method, user, echo: data } } }
  return { result: { channel } }
}
const prepare = async () => startBackend(application)
const proxy = (url, path) => ({ endpoint: `${url}/${path}`, timeout: '2s', include_connection_meta: true, http_headers: ['X-Trace'] })

scenarios('backends', {
  prepare,
  config: ({ url }) => ({
    client: { expired_close_delay: '1s', expired_sub_close_delay: '1s', presence_update_interval: '1s', proxy: { connect: { enabled: true, ...proxy(url, 'connect') }, refresh: { enabled: true, ...proxy(url, 'refresh') } } },
    channel: {
      proxy: { subscribe: proxy(url, 'subscribe'), publish: proxy(url, 'publish'), sub_refresh: proxy(url, 'sub_refresh') },
      namespaces: [{ name: 'px', subscribe_proxy_enabled: true, publish_proxy_enabled: true, sub_refresh_proxy_enabled: true, presence: true }],
    },
    rpc: { proxy: proxy(url, 'rpc'), without_namespace: { proxy_enabled: true }, namespaces: [{ name: 'off' }] },
  }),
}, (both, site) => {
  const calls = (kit, path) => site.backend.calls.filter((call) => call.path === path && call.body.user === kit.user)
  const connect = (kit, more = {}) => ({ data: kit.pack({ reply: { result: { user: kit.user, info: { name: 'Ann' }, ...more } } }) })

  both('connect: the backend names the user and what it gets', async (kit) => {
    const client = kit.client({ ...connect(kit, { data: { welcome: kit.tag }, channels: [`mail-${kit.tag}`] }), name: 'suite', version: '7' })
    const [subscribed, connected] = [event(client, 'subscribed'), event(client, 'connected')]
    client.connect()
    assert.deepEqual(kit.unpack((await connected).data), { welcome: kit.tag })
    assert.equal((await subscribed).channel, `mail-${kit.tag}`)
    const { body } = site.backend.calls.find((call) => call.path === 'connect' && call.body.data?.reply?.result?.user === kit.user)
    assert.deepEqual([body.transport, body.protocol, body.encoding, body.name, body.version], ['websocket', kit.encoding, 'json', 'suite', '7'])
  })

  const refusals = [
    ['an error', { error: { code: 1001, message: 'closed today' } }, { code: 1001, reason: 'closed today' }],
    ['a disconnect', { disconnect: { code: 4501, reason: 'banned' } }, { code: 4501, reason: 'banned' }],
    ['nothing', {}, { code: 3501, reason: 'bad request' }],
  ]
  for (const [what, reply, expected] of refusals) {
    both(`connect: ${what}`, async (kit) => assert.deepEqual(await kit.refused({ data: kit.pack({ reply }) }), expected))
  }

  both('connect: the SDK tries again while the application is broken', async (kit) => {
    let broken = true
    const client = kit.client({ getData: async () => kit.pack({ reply: broken ? 503 : { result: { user: kit.user } } }) })
    client.connect()
    await until(WAIT_MS, 'a second try', () => client.errors.length > 1)
    assert.deepEqual(client.errors[0], { code: 100, message: 'internal server error', temporary: true })
    broken = false
    await client.ready(WAIT_MS)
  })

  both('refresh: the application prolongs, again and again', async (kit) => {
    const client = await kit.connected(connect(kit, { expire_at: now() + 2, meta: { refresh: { result: { expire_at: now() + 3 } } } }))
    const lost = []
    client.on('connecting', (context) => lost.push(context))
    await until(WAIT_MS, 'the refresh', () => calls(kit, 'refresh').length)
    await until(WAIT_MS, 'the old end and its grace', () => Date.now() > (calls(kit, 'refresh')[0].body.meta.refresh.result.expire_at) * 1000)
    assert.deepEqual(lost, [])
  })

  both('refresh: the application lets it expire', async (kit) => {
    const client = await kit.connected(connect(kit, { expire_at: now() + 2, meta: { refresh: { result: { expired: true } } } }))
    const { code, reason } = await event(client, 'connecting', 'the end')
    assert.deepEqual({ code, reason }, { code: 3005, reason: 'connection expired' })
  })

  both('subscribe: allowed, with info and data', async (kit) => {
    const client = await kit.connected(connect(kit, { meta: { plan: 'gold' } }))
    const reply = { result: { info: { role: 'host' }, data: { topic: 1 } } }
    const { context } = await kit.subscribed(client, `px:${kit.tag}`, { data: kit.pack({ reply }) })
    assert.deepEqual(kit.unpack(context.data), { topic: 1 })
    const { presence } = await site.server.call('presence', { channel: `px:${kit.tag}` })
    assert.deepEqual(Object.values(presence)[0].chan_info, { role: 'host' })
    const [{ body }] = calls(kit, 'subscribe')
    assert.deepEqual([body.channel, body.client, body.meta], [`px:${kit.tag}`, client.context.client, { plan: 'gold' }])
  })

  both('subscribe: refused', async (kit) => {
    const client = await kit.connected(connect(kit))
    const reply = { error: { code: 1002, message: 'not you' } }
    assert.deepEqual(await kit.deniedSubscription(client, `px:${kit.tag}`, { data: kit.pack({ reply }) }), { code: 1002, reason: 'not you' })
    const gone = event(client, 'disconnected')
    kit.seat(client, `px:2-${kit.tag}`, { data: kit.pack({ reply: { disconnect: { code: 4502, reason: 'go' } } }) }).subscription.subscribe()
    const { code, reason } = await gone
    assert.deepEqual({ code, reason }, { code: 4502, reason: 'go' })
  })

  both('sub_refresh: the application prolongs', async (kit) => {
    const client = await kit.connected(connect(kit, { meta: { sub_refresh: { result: { expire_at: now() + 100 } } } }))
    const { subscription } = await kit.subscribed(client, `px:${kit.tag}`, { data: kit.pack({ reply: { result: { expire_at: now() + 2 } } }) })
    await until(WAIT_MS, 'the question', () => calls(kit, 'sub_refresh').length)
    assert.equal(calls(kit, 'sub_refresh')[0].body.channel, `px:${kit.tag}`)
    assert.equal(subscription.state, 'subscribed')
  })

  both('sub_refresh: the application lets it expire', async (kit) => {
    const client = await kit.connected(connect(kit, { meta: { sub_refresh: { result: { expired: true } } } }))
    const { subscription } = await kit.subscribed(client, `px:${kit.tag}`, { data: kit.pack({ reply: { result: { expire_at: now() + 2 } } }) })
    const { code, reason } = await event(subscription, 'subscribing', 'the end')
    assert.deepEqual({ code, reason }, { code: 2501, reason: 'subscription expired' })
  })

  both('publish: as it was, changed, refused', async (kit) => {
    const client = await kit.connected(connect(kit))
    const { subscription, got } = await kit.subscribed(client, `px:${kit.tag}`)
    await subscription.publish(kit.pack({ text: 'hi' }))
    await subscription.publish(kit.pack({ reply: { result: { data: { text: 'clean' } } } }))
    assert.deepEqual(await refusal(subscription.publish(kit.pack({ reply: { error: { code: 1003, message: 'no' } } }))), { code: 1003, message: 'no' })
    await until(WAIT_MS, 'two', () => got.length === 2)
    assert.deepEqual(got, [{ text: 'hi' }, { text: 'clean' }])
  })

  both('rpc', async (kit) => {
    const client = await kit.connected(connect(kit))
    const { data } = await client.rpc('sum', kit.pack({ terms: [1, 2] }))
    assert.deepEqual(kit.unpack(data), { method: 'sum', user: kit.user, echo: { terms: [1, 2] } })
    assert.deepEqual(await refusal(client.rpc('sum', kit.pack({ reply: { error: { code: 1004, message: 'overflow' } } }))), { code: 1004, message: 'overflow' })
    assert.deepEqual(await refusal(client.rpc('sum', kit.pack({ reply: 500 }))), { code: 100, message: 'internal server error' })
    assert.deepEqual(await refusal(client.rpc('off:sum', kit.pack({}))), { code: 108, message: 'not available' })
    assert.deepEqual(await refusal(client.rpc('nowhere:sum', kit.pack({}))), { code: 104, message: 'method not found' })
  })

  both('a slow call does not overtake its connection: later commands wait or pass, every reply comes', async (kit) => {
    const client = await kit.connected(connect(kit))
    const answers = await Promise.all([1, 2, 3, 4, 5].map((number) => client.rpc(`m${number}`, kit.pack({ number }))))
    assert.deepEqual(answers.map(({ data }) => kit.unpack(data).echo.number), [1, 2, 3, 4, 5])
  })
})

// Statuses may be given codes of their own; a backend that does not answer in time is an internal error.
scenarios('a backend that does not answer', {
  prepare: async () => startBackend((path, { data }) => (data?.slow ? new Promise((resolve) => setTimeout(() => resolve({ result: {} }), 1500)) : data?.reply ?? { result: {} })),
  config: ({ url }) => ({
    client: { token: { hmac_secret_key: SECRET } },
    rpc: { proxy: { endpoint: `${url}/rpc`, timeout: '500ms', http: { status_to_code_transforms: [{ status_code: 404, to_error: { code: 504, message: 'no such thing', temporary: true } }, { status_code: 403, to_disconnect: { code: 4503, reason: 'forbidden' } }] } }, without_namespace: { proxy_enabled: true } },
  }),
}, (both) => {
  both('in time', async (kit) => {
    const client = await kit.connected({ token: jwt({ sub: kit.user }) })
    assert.deepEqual(await refusal(client.rpc('m', kit.pack({ slow: true }))), { code: 100, message: 'internal server error' })
    await client.rpc('m', kit.pack({}))
  })
  both('but with a status that has a code', async (kit) => {
    const client = await kit.connected({ token: jwt({ sub: kit.user }) })
    assert.deepEqual(await refusal(client.rpc('m', kit.pack({ reply: 404 }))), { code: 504, message: 'no such thing' })
    const gone = event(client, 'disconnected')
    client.rpc('m', kit.pack({ reply: 403 })).catch(() => {})
    const { code, reason } = await gone
    assert.deepEqual({ code, reason }, { code: 4503, reason: 'forbidden' })
  })
})
