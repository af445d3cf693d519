// One scenario, two encodings: `scenarios` starts a server for a file's tests and runs each of them once with the SDK's
// JSON build and once with its Protobuf build. A test gets a kit: clients that end with it, names that are its own, and
// payloads packed as the encoding wants them.
import { after, before, describe, test } from 'node:test'
import { Centrifuge as JsonCentrifuge } from 'centrifuge'
import { Centrifuge as ProtobufCentrifuge } from 'centrifuge/build/protobuf'
import WebSocket from 'ws'
import { startServer } from '../server.mjs'
import { startRelay } from '../relay.mjs'
import { ENCODINGS, decodeCommandFrame, decodeFrame, fromBytes } from '../wire.mjs'
import { Bare, event } from './clients.mjs'

const SDKS = { json: JsonCentrifuge, protobuf: ProtobufCentrifuge }
/** Tests of one file that run at a time: most of their seconds are spent waiting for the clock. */
const CONCURRENCY = 6
let serial = 0

class Kit {
  #endings = []

  constructor(encoding, site) {
    this.encoding = encoding
    this.site = site
    this.server = site.server
    /** Unique: put it into names of channels and users. */
    this.tag = `${encoding}${++serial}`
    this.user = `user-${this.tag}`
  }

  /** Runs when the test is over, last registered first. */
  atEnd(ending) { this.#endings.push(ending); return ending }
  async end() { for (const ending of this.#endings.reverse()) await ending() }

  pack(value) { return this.encoding === 'json' ? value : Buffer.from(JSON.stringify(value)) }
  unpack(data) { return this.encoding === 'json' || data === undefined || data === null ? data : data.length ? fromBytes(data) : undefined }

  /** An SDK client, not yet connected; `frames` holds what its sockets carried, decoded. */
  client(options = {}, url = this.server.client) {
    const { encoding } = this
    const frames = { sent: [], received: [], sockets: 0, raw: [] }
    class Watching extends WebSocket {
      constructor(...args) {
        super(...args)
        frames.sockets++
        this.on('message', (data) => { frames.raw.push(Buffer.from(data)); frames.received.push(...decodeFrame(encoding, Buffer.from(data))) })
      }
      send(data, ...rest) {
        frames.sent.push(...decodeCommandFrame(encoding, Buffer.from(data)))
        super.send(data, ...rest)
      }
    }
    const client = new SDKS[encoding](url, { websocket: Watching, minReconnectDelay: 20, maxReconnectDelay: 100, ...options })
    client.frames = frames
    client.errors = []
    client.on('error', (context) => client.errors.push(context.error))
    this.atEnd(() => client.disconnect())
    return client
  }

  async connected(options, url) {
    const client = this.client(options, url)
    const ready = event(client, 'connected')
    client.connect()
    client.context = await ready
    return client
  }

  /** Connects a client that has to fail for good: code and reason. */
  async refused(options) {
    const client = this.client(options)
    const gone = event(client, 'disconnected', 'the refusal')
    client.connect()
    const { code, reason } = await gone
    return { code, reason }
  }

  /** A live subscription: what it got is in `got`, unpacked; `context` is what the server said. */
  async subscribed(client, channel, options = {}) {
    const seat = this.seat(client, channel, options)
    const ready = event(seat.subscription, 'subscribed', `${channel} subscribed`)
    seat.subscription.subscribe()
    seat.context = await ready
    return seat
  }

  /** The same before it asks. */
  seat(client, channel, options = {}) {
    const minResubscribeDelay = 20
    const subscription = client.newSubscription(channel, { minResubscribeDelay, maxResubscribeDelay: 100, ...options })
    const seat = { subscription, got: [], publications: [], joins: [], leaves: [], errors: [] }
    subscription.on('publication', (publication) => { seat.publications.push(publication); seat.got.push(this.unpack(publication.data)) })
    subscription.on('join', ({ info }) => seat.joins.push(info))
    subscription.on('leave', ({ info }) => seat.leaves.push(info))
    subscription.on('error', ({ type, error }) => seat.errors.push({ type, code: error.code, message: error.message }))
    return seat
  }

  /** Subscribes where that has to fail for good: code and reason. */
  async deniedSubscription(client, channel, options = {}) {
    const { subscription } = this.seat(client, channel, options)
    const gone = event(subscription, 'unsubscribed', `${channel} refused`)
    subscription.subscribe()
    const { code, reason } = await gone
    return { code, reason }
  }

  bare(options = {}) { return this.#tracked(Bare.open(options.url ?? this.server.client, { encoding: this.encoding, ...options })) }
  bareConnected(options = {}) { return this.#tracked(Bare.connected(options.url ?? this.server.client, { encoding: this.encoding, ...options })) }
  async #tracked(opening) {
    const bare = await opening
    this.atEnd(() => bare.socket.terminate())
    return bare
  }

  async relay() {
    const relay = await startRelay(this.server.ports[0])
    this.atEnd(() => relay.close())
    return relay
  }
}

/** What an SDK call was refused with. */
export async function refusal(call) {
  try { await call } catch (error) { return { code: error.code, message: error.message } }
  throw new Error('the call succeeded')
}

/**
 * The tests of a file over one server. `register` gets `both(name, body)`; `prepare` may start a backend first and
 * returns what the configuration needs of it.
 */
export function scenarios(name, { config, prepare, options }, register) {
  describe(name, { concurrency: CONCURRENCY, ...options }, () => {
    const site = {}
    before(async () => {
      site.backend = await prepare?.()
      site.server = await startServer({ config: typeof config === 'function' ? config(site.backend) : config })
    })
    after(async () => {
      await site.server?.stop()
      await site.backend?.close?.()
    })
    const both = (what, body, settings = {}) => {
      for (const encoding of ENCODINGS) {
        test(`${what} [${encoding}]`, settings, async () => {
          const kit = new Kit(encoding, site)
          try { await body(kit) } finally { await kit.end() }
        })
      }
    }
    register(both, site)
  })
}
