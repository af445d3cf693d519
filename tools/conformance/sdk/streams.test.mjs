// The SDK over HTTP streaming and server-sent events, with its commands as emulation requests: in each form what it does
// over a WebSocket.
import assert from 'node:assert/strict'
import { request } from 'node:http'
import { after, before, describe, test } from 'node:test'
import { Centrifuge as JsonCentrifuge } from 'centrifuge'
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf'
import { startServer, until } from '../server.mjs'
import { SECRET, jwt, now } from '../tokens.mjs'
import { WAIT_MS, event } from './clients.mjs'

/** What browsers have and Node 20 has not: the part of EventSource that the SDK uses. */
class EventSource {
  constructor(url) {
    this.request = request(url, { agent: false }, (response) => {
      if (response.statusCode !== 200) return this.onerror?.(new Error(`status ${response.statusCode}`))
      let text = ''
      response.setEncoding('utf8')
      response.once('data', () => this.onopen?.())
      response.on('data', (data) => {
        const events = (text + data).split('\n\n')
        text = events.pop()
        for (const one of events) {
          const line = one.split('\n').find((each) => each.startsWith('data: '))
          if (line) this.onmessage?.({ data: line.slice(6) })
        }
      })
      response.on('close', () => this.closed || this.onerror?.(new Error('the stream ended')))
    })
    this.request.on('error', (error) => this.closed || this.onerror?.(error))
    this.request.end()
  }
  close() { this.closed = true; this.request.destroy() }
}

const FORMS = [
  { transport: 'http_stream', encoding: 'json', SDK: JsonCentrifuge },
  { transport: 'http_stream', encoding: 'protobuf', SDK: ProtobufCentrifuge },
  { transport: 'sse', encoding: 'json', SDK: JsonCentrifuge },
]

const config = {
  client: {
    allow_anonymous_connect_without_token: true, expired_close_delay: '1s', token: { hmac_secret_key: SECRET },
    ping_interval: '1s', pong_timeout: '800ms',
  },
  http_stream: { enabled: true },
  sse: { enabled: true },
  channel: {
    without_namespace: {
      allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true, allow_publish_for_client: true,
      allow_publish_for_anonymous: true, allow_presence_for_client: true, allow_presence_for_anonymous: true, presence: true,
      history_size: 100, history_ttl: '60s', force_recovery: true,
    },
  },
}

describe('streams', { concurrency: 4 }, () => {
  let server
  const clients = []
  before(async () => { server = await startServer({ config }) })
  after(async () => {
    for (const client of clients) client.disconnect()
    await server?.stop()
  })

  for (const { transport, encoding, SDK } of FORMS) {
    const name = `${transport} ${encoding}`
    const pack = (value) => (encoding === 'json' ? value : new TextEncoder().encode(JSON.stringify(value)))
    const unpack = (data) => (encoding === 'json' ? data : JSON.parse(new TextDecoder().decode(data)))
    const channel = (what) => `${what}-${transport}-${encoding}`

    function client(options = {}, before = []) {
      const at = `http://127.0.0.1:${server.ports[0]}`
      const endpoints = [...before, { transport, endpoint: `${at}/connection/${transport}` }]
      const made = new SDK(endpoints, {
        eventsource: EventSource, fetch, readableStream: ReadableStream, emulationEndpoint: `${at}/emulation`,
        minReconnectDelay: 20, maxReconnectDelay: 100, ...options,
      })
      clients.push(made)
      return made
    }
    async function connected(options, before) {
      const made = client(options, before)
      const ready = event(made, 'connected')
      made.connect()
      made.context = await ready
      assert.equal(made.context.transport, transport)
      return made
    }
    async function subscribed(made, where) {
      const subscription = made.newSubscription(where)
      const got = []
      subscription.on('publication', ({ data }) => got.push(unpack(data)))
      const ready = event(subscription, 'subscribed')
      subscription.subscribe()
      await ready
      return { subscription, got }
    }

    test(`${name}: connects, and disconnects in order`, async () => {
      const made = await connected()
      const over = event(made, 'disconnected')
      made.disconnect()
      assert.equal((await over).code, 0)
    })

    test(`${name}: subscribes, publishes and receives`, async () => {
      const made = await connected()
      const { subscription, got } = await subscribed(made, channel('both-ways'))
      await subscription.publish(pack({ text: 'größer' }))
      await server.call('publish', { channel: channel('both-ways'), data: encoding === 'json' ? { n: 2 } : { n: 2 } })
      await until(WAIT_MS, 'both publications', () => got.length === 2)
      assert.deepEqual(got, [{ text: 'größer' }, { n: 2 }])
      const over = event(subscription, 'unsubscribed')
      subscription.unsubscribe()
      await over
      subscription.subscribe()
      await event(subscription, 'subscribed')
    })

    test(`${name}: replies to an rpc, presence and history`, async () => {
      const made = await connected()
      await assert.rejects(made.rpc('any', pack({})), { code: 108 })
      const { subscription } = await subscribed(made, channel('queries'))
      assert.deepEqual(Object.keys((await subscription.presence()).clients), [made.context.client])
      await subscription.publish(pack({ n: 1 }))
      await assert.rejects(subscription.history({ limit: 10 }), { code: 103 })
    })

    test(`${name}: subscribes to many channels at once`, async () => {
      const made = await connected()
      const all = await Promise.all(Array.from({ length: 50 }, (_, at) => subscribed(made, channel(`many-${at}`))))
      await Promise.all(all.map(({ subscription }, n) => subscription.publish(pack({ n }))))
      await until(WAIT_MS, 'all publications', () => all.every(({ got }) => got.length === 1))
      all.forEach(({ got }, n) => assert.deepEqual(got, [{ n }]))
    })

    test(`${name}: connects and subscribes in loops`, async () => {
      const made = client()
      const subscription = made.newSubscription(channel('loop'))
      for (let round = 0; round < 20; round++) {
        subscription.subscribe()
        made.connect()
        if (round % 3 === 0) await event(subscription, 'subscribed')
        subscription.unsubscribe()
        made.disconnect()
      }
      made.connect()
      subscription.subscribe()
      await event(subscription, 'subscribed')
    })

    test(`${name}: answers pings, and outlives them`, async () => {
      const made = await connected()
      const { got } = await subscribed(made, channel('pings'))
      const ended = []
      made.on('disconnected', (context) => ended.push(context))
      made.on('connecting', (context) => ended.push(context))
      await new Promise((resolve) => setTimeout(resolve, 3_500))
      assert.deepEqual(ended, [])
      await server.call('publish', { channel: channel('pings'), data: { alive: true } })
      await until(WAIT_MS, 'the publication', () => got.length === 1)
    })

    test(`${name}: gets the code with which the server ends it`, async () => {
      const user = `ended-${channel('user')}`
      const made = await connected({ token: jwt({ sub: user }) })
      const over = event(made, 'disconnected')
      await server.call('disconnect', { user })
      const { code, reason } = await over
      assert.deepEqual({ code, reason }, { code: 3503, reason: 'force disconnect' })
    })

    test(`${name}: an invalid token ends it, an expired one is refreshed`, async () => {
      const bad = client({ token: 'none' })
      const over = event(bad, 'disconnected')
      bad.connect()
      assert.equal((await over).code, 3500)
      let asked = 0
      const getToken = async () => { asked++; return jwt({ sub: 'refreshed', exp: now() + 2 }) }
      const made = await connected({ getToken })
      await until(WAIT_MS, 'a refresh', () => asked >= 2)
      assert.equal(made.state, 'connected')
    })

    test(`${name}: comes back and recovers what it missed`, async () => {
      const user = `back-${channel('user')}`
      const made = await connected({ token: jwt({ sub: user }) })
      const { got } = await subscribed(made, channel('recovery'))
      await server.call('publish', { channel: channel('recovery'), data: { n: 1 } })
      await until(WAIT_MS, 'the first', () => got.length === 1)
      const again = event(made, 'connecting')
      await server.call('disconnect', { user, disconnect: { code: 3010, reason: 'come back' } })
      await again
      await server.call('publish', { channel: channel('recovery'), data: { n: 2 } })
      await until(WAIT_MS, 'the second', () => got.length === 2)
      assert.deepEqual(got, [{ n: 1 }, { n: 2 }])
    })

    test(`${name}: is what the SDK falls back to`, async () => {
      const dead = { transport: 'websocket', endpoint: `ws://127.0.0.1:${server.ports[0]}/none` }
      const made = await connected({ websocket: (await import('ws')).default }, [dead])
      await subscribed(made, channel('fallback'))
    })
  }
})
