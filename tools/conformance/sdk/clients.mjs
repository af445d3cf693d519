// The two kinds of client that the tests speak through: the SDK as people use it, and a bare socket for what the SDK
// would never send.
import { Centrifuge } from 'centrifuge'
import WebSocket from 'ws'
import { within } from '../server.mjs'
import { decodeFrame, encodeFrame, subprotocols } from '../wire.mjs'

export const WAIT_MS = 10_000

/** A WebSocket that remembers the frames it carried, so that a test can see what the SDK did. */
export class Watched extends WebSocket {
  sentFrames = []
  receivedFrames = []
  constructor(...args) {
    super(...args)
    this.on('message', (data) => this.receivedFrames.push(data.toString()))
    Watched.last = this
  }
  send(data, ...rest) {
    this.sentFrames.push(data.toString())
    super.send(data, ...rest)
  }
}

export const event = (emitter, name, what = name) =>
  within(WAIT_MS, what, new Promise((resolve) => emitter.once(name, resolve)))

/** An SDK client, not yet connected. */
export const sdk = (url, options = {}) => new Centrifuge(url, { websocket: WebSocket, minReconnectDelay: 50, maxReconnectDelay: 200, ...options })

/** An SDK client that is connected; its `shard` is what the server said. */
export async function connected(url, options) {
  const client = sdk(url, options)
  const ready = event(client, 'connected')
  client.connect()
  client.shard = (await ready).data?.shard
  return client
}

/** A live subscription that keeps what it got in `got`. */
export async function subscribed(client, channel) {
  const subscription = client.newSubscription(channel)
  const got = []
  subscription.on('publication', (publication) => got.push(publication.data))
  const ready = event(subscription, 'subscribed')
  subscription.subscribe()
  await ready
  return { subscription, got }
}

/** Connections until each of `count` shards holds one: the kernel chooses the shard, so it may take many. */
export async function acrossShards(url, count, limit = 200) {
  const clients = []
  const byShard = new Map()
  while (byShard.size < count) {
    if (clients.length === limit) throw new Error(`${limit} connections reached ${byShard.size} shards only`)
    const client = await connected(url)
    clients.push(client)
    if (typeof client.shard !== 'number') throw new Error(`the connect result names no shard: ${client.shard}`)
    if (!byShard.has(client.shard)) byShard.set(client.shard, client)
  }
  return { clients, byShard }
}

/** A bare connection in either encoding: replies come out one by one, whatever frames they came in. */
export class Bare {
  static async open(url, { answerPings = true, encoding = 'json', headers = {}, decode = decodeFrame } = {}) {
    const bare = new Bare()
    bare.encoding = encoding
    bare.lines = []
    bare.pings = 0
    bare.waiters = []
    bare.socket = new WebSocket(url, subprotocols(encoding), { headers })
    bare.closed = new Promise((resolve) => bare.socket.once('close', (code, reason) => resolve({ code, reason: reason.toString() })))
    bare.socket.on('error', () => {}) // the close that follows carries what the tests ask about
    bare.socket.on('message', (frame) => {
      for (const line of decode(encoding, frame)) {
        if (Object.keys(line).length) bare.#arrived(line)
        else { bare.pings++; if (answerPings) bare.send({}) }
      }
    })
    await within(WAIT_MS, 'the upgrade', new Promise((resolve, reject) => {
      bare.socket.once('open', resolve)
      bare.socket.once('error', reject)
    }))
    return bare
  }

  static async connected(url, { connect = {}, ...options } = {}) {
    const bare = await Bare.open(url, options)
    bare.send({ id: 1, connect })
    bare.client = (await bare.reply(1)).connect?.client
    return bare
  }

  #arrived(line) {
    this.lines.push(line)
    for (const waiter of this.waiters) waiter()
  }

  /** Objects go as one frame of commands; a string or a buffer goes as it is. */
  send(...commands) {
    if (commands.length === 1 && (typeof commands[0] === 'string' || Buffer.isBuffer(commands[0]))) this.socket.send(commands[0])
    else this.socket.send(encodeFrame(this.encoding, commands))
  }

  /** The first line that `wanted` accepts, now or later. */
  line(wanted, what) {
    const closed = this.closed.then(({ code }) => { throw new Error(`closed with ${code} before ${what}`) })
    const found = new Promise((resolve) => {
      const look = () => { const line = this.lines.find(wanted); if (line) resolve(line) }
      this.waiters.push(look)
      look()
    })
    return within(WAIT_MS, what, Promise.race([found, closed]))
  }

  reply(id) { return this.line((line) => line.id === id, `the reply to ${id}`) }

  closing() { return within(WAIT_MS, 'the close frame', this.closed) }
}
