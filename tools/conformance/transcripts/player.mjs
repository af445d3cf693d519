// Plays a script of exchanges against a server and writes down what it saw, in a form that two servers and two runs
// share: replies by id, pushes by channel in their order, close codes, API answers in the order of the calls. Ids,
// epochs, versions and times are masked; that two of them were the same is kept.
//
// A transcript is a name, an encoding `only` if it is about one, `endIsFree` if it does not matter whether and how the
// connection ends, and a list of steps, which are plain objects:
//   { open: 'a', query, headers, uni }   a connection of that name; the first step on a name opens it otherwise
//   { on: 'a', send: [command, ...] }    one frame; waits for the reply to every id of it, or to those of `wait: [id]`
//   { on: 'a', raw: { json, protobuf }, replies: [id] }   one frame as it is (Protobuf in hex), and what is waited for
//   { on: 'a', pushes: n, channel }      waits until n pushes of that channel have come, counted from the start
//   { on: 'a', count: n }                waits until n replies have come, counted from the start
//   { on: 'a', settled: true }           waits for the answer to a call, so that whatever was sent before it has come, or for the end
//   { on: 'a', closes: true }            waits for the close frame
//   { on: 'a', asked: 'refresh' }         waits until the application was asked there
//   { on: 'a', leave: true }             closes the socket from our side
//   { api: 'publish', body, headers, query, key, raw }   a call of the server API
// Values: '$client.a', '$epoch.channel' and '$now+60' are replaced by their values, { $token: claims } for a signed token.
import { isDeepStrictEqual } from 'node:util'
import { ORIGINAL, until, within } from '../server.mjs'
import { jwt, now } from '../tokens.mjs'
import { applyDelta } from '../fossil.mjs'
import { decodeFrame, decodePushFrame, subprotocols } from '../wire.mjs'
import { Bare, WAIT_MS } from '../sdk/clients.mjs'

const BARRIER = 900_000
const PATIENCE_MS = 3_000

class Play {
  constructor({ server, application }, encoding) {
    this.application = application
    this.called = application?.calls.length
    this.server = server
    this.encoding = encoding
    this.connections = new Map()
    this.epochs = {}
    this.api = []
    this.barriers = 0
  }

  resolve(value) {
    if (typeof value === 'string') {
      if (value.startsWith('$client.')) return this.connections.get(value.slice(8)).client
      if (value.startsWith('$epoch.')) return this.epochs[value.slice(7)]
      const clock = /^\$now([+-]\d+)$/.exec(value)
      return clock ? now() + Number(clock[1]) : value
    }
    if (Array.isArray(value)) return value.map((item) => this.resolve(item))
    if (!value || typeof value !== 'object') return value
    if (value.$token) return jwt(this.resolve(value.$token), value.secret)
    return Object.fromEntries(Object.entries(value).map(([key, item]) => [key, this.resolve(item)]))
  }

  async open({ open, query = '', headers, uni, protocol, answerPings = true }) {
    const asked = typeof query === 'string' ? query : `?${new URLSearchParams(Object.entries(query).map(([key, value]) => [key, typeof value === 'string' ? value : JSON.stringify(this.resolve(value))]))}`
    const bare = await Bare.open((uni ? this.server.uni : this.server.client) + asked, {
      encoding: protocol ?? this.encoding, headers, answerPings, decode: uni ? decodePushFrame : decodeFrame,
    })
    bare.asked = new Map()
    this.connections.set(open, bare)
    return bare
  }

  async connection(name) { return this.connections.get(name) ?? this.open({ open: name }) }

  async step(step) {
    if (step.open) return this.open(step)
    if (step.api !== undefined) return this.call(step)
    const bare = await this.connection(step.on)
    if (step.send) return this.send(bare, this.resolve(step.send), step.wait)
    if (step.raw) {
      const raw = step.raw[this.encoding]
      bare.send(this.encoding === 'json' ? raw : Buffer.from(raw, 'hex'))
      return step.replies && Promise.all(step.replies.map((id) => bare.reply(id)))
    }
    if (step.pushes !== undefined) {
      const seen = () => bare.lines.filter((line) => channelOf(line) === (step.channel ?? '')).length
      return this.awaited(`${step.pushes} pushes of ${step.channel}`, () => seen() >= step.pushes)
    }
    if (step.settled) {
      const id = BARRIER + ++this.barriers
      bare.send({ id, rpc: { method: 'settled' } })
      return Promise.race([bare.reply(id).catch((error) => { if (bare.socket.readyState < 2) throw error }), bare.closing()])
    }
    if (step.count) return this.awaited(`${step.count} replies`, () => bare.lines.filter((line) => line.id).length >= step.count)
    if (step.asked) return this.awaited(`the application being asked at ${step.asked}`, () => this.application.calls.slice(this.called).some(({ path }) => path === step.asked))
    if (step.closes) return bare.closing()
    if (step.leave) { bare.socket.close(1000); return within(WAIT_MS, 'the end', bare.closed) }
    throw new Error(`no such step: ${JSON.stringify(step)}`)
  }

  /** Waits for what the original does. A server that never does it shows that in what was seen. */
  async awaited(what, probe) {
    if (ORIGINAL) return until(WAIT_MS, what, probe)
    return until(PATIENCE_MS, what, probe).catch(() => {})
  }

  async send(bare, commands, wait) {
    for (const command of commands) if (command.id) bare.asked.set(command.id, command)
    bare.send(...commands)
    const ids = wait ?? commands.filter((command) => command.id && !command.send).map(({ id }) => id)
    const replies = ids.map((id) => bare.reply(id).catch((error) => { if (!/closed with/.test(error.message)) throw error }))
    for (const reply of await Promise.all(replies)) if (reply) this.learn(bare.asked.get(reply.id), reply, bare)
  }

  learn(command, reply, bare) {
    if (reply.connect) bare.client = reply.connect.client
    if (reply.subscribe?.epoch) this.epochs[command.subscribe.channel] = reply.subscribe.epoch
    if (reply.history?.epoch) this.epochs[command.history.channel] = reply.history.epoch
    for (const [channel, sub] of Object.entries(reply.connect?.subs ?? {})) if (sub.epoch) this.epochs[channel] = sub.epoch
  }

  async call({ api, body = {}, headers = {}, query = '', key = this.server.key, raw, method = 'POST' }) {
    const sent = this.resolve(body)
    const answer = await fetch(`${this.server.admin}/api/${api}${query}`, {
      method, headers: { 'content-type': 'application/json', ...(key !== null && { 'x-api-key': key }), ...headers },
      ...(method === 'POST' && { body: raw ?? JSON.stringify(sent) }),
    })
    const text = await answer.text()
    const seen = { method: api, status: answer.status }
    if ((answer.headers.get('content-type') ?? '').startsWith('application/json')) {
      seen.body = JSON.parse(text)
      if (seen.body.result?.epoch && sent.channel) this.epochs[sent.channel] = seen.body.result.epoch
    }
    this.api.push(seen)
  }

  /** What was seen, masked. */
  async seen(transcript) {
    const names = new Map([...this.connections].filter(([, { client }]) => client).map(([name, { client }]) => [client, name]))
    const result = { connections: {}, api: this.api, ...(this.application && { asked: this.asked() }) }
    for (const [name, bare] of this.connections) {
      undelta(bare)
      const replies = {}
      const pushes = {}
      for (const line of bare.lines) {
        if (line.id >= BARRIER) continue
        // Sorted by the reader, not by the wire: replies have ids, pushes have channels.
        if (line.id) (replies[line.id] ??= []).push(line)
        else (pushes[channelOf(line)] ??= []).push(line.push ?? line)
      }
      const seen = { replies: Object.fromEntries(Object.entries(replies).map(([id, lines]) => [id, lines.map(({ id: _, ...reply }) => reply)])), pushes: sorted(pushes) }
      if (bare.socket.readyState >= 2 && !transcript.endIsFree) seen.close = await bare.closing()
      result.connections[name] = seen
      orderly(bare)
    }
    return masked(result, names)
  }

  /**
   * What the application was asked: the bodies, and those headers that the configuration lets through. A call made
   * again because the first had failed counts once.
   */
  asked() {
    const calls = this.application.calls.slice(this.called).filter(({ body }) => body.method !== 'settled').map(({ path, body, headers }) => {
      const passed = Object.fromEntries(Object.entries(headers).filter(([name]) => name.startsWith('x-') || name === 'cookie'))
      return { path, body, ...(Object.keys(passed).length && { headers: passed }) }
    })
    return calls.filter((call, at) => !isDeepStrictEqual(call, calls[at - 1]))
  }

  end() { for (const { socket } of this.connections.values()) socket.terminate() }
}

const sorted = (object) => Object.fromEntries(Object.entries(object).toSorted(([a], [b]) => (a < b ? -1 : 1)))
/** The channel of a push; none for a reply, and for a push of the connection itself the empty one. */
const channelOf = (line) => (line.id ? undefined : (line.push ?? line).channel ?? '')

/** Publications of channels with deltas by their full data: two servers may make different deltas for the same. */
function undelta(bare) {
  for (const { id, subscribe } of bare.asked.values()) {
    const reply = subscribe && bare.lines.find((line) => line.id === id)?.subscribe
    if (!reply?.delta) continue
    let base
    const pushed = bare.lines.filter((line) => channelOf(line) === subscribe.channel && line.push.pub).map(({ push }) => push.pub)
    for (const publication of [...(reply.publications ?? []), ...pushed]) {
      const { data, delta } = publication
      const text = bare.encoding === 'json' ? Buffer.from(data) : data?.$bytes ? Buffer.from(data.$bytes, 'hex') : Buffer.from(JSON.stringify(data))
      base = delta ? applyDelta(base, text) : text
      publication.data = { [delta ? '$delta' : '$full']: JSON.parse(base.toString()) }
    }
  }
}

/** A rule of every transcript: nothing of a channel before the reply that begins it. */
function orderly(bare) {
  for (const { id, subscribe } of [...bare.asked.values()].filter((command) => command.subscribe)) {
    const reply = bare.lines.findIndex((line) => line.id === id && line.subscribe)
    const first = bare.lines.findIndex((line) => channelOf(line) === subscribe.channel)
    const others = [...bare.asked.values()].filter((command) => command.subscribe?.channel === subscribe.channel)
    if (others.length === 1 && reply >= 0 && first >= 0 && first < reply) throw new Error(`a push of ${subscribe.channel} came before the reply to its subscribe`)
  }
}

const UUID = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$/
const MASKS = {
  version: (value) => (typeof value === 'string' ? '<version>' : value), time: () => '<time>', expire_at: (value) => (value > 1 ? '<time>' : value),
  session: () => '<session>', node: () => '<node>',
  // Seconds go by between the making of a token and the answer: a test says 100 and gets 99.
  ttl: (value) => `<about ${Math.round(value / 10) * 10}>`,
}

/** What `info` says of a node: that the fields are there. The original's counts are those of some seconds ago. */
function maskedNode({ uptime, process, ...node }) {
  return Object.fromEntries(Object.entries(node).map(([key, value]) => [key, `<${typeof value}>`]))
}

function masked(result, names) {
  const epochs = new Map()
  const mask = (value, key, parent) => {
    if (typeof value === 'string' && names.has(value)) return `<client ${names.get(value)}>`
    if (key === 'epoch' && typeof value === 'string') {
      if (!epochs.has(value)) epochs.set(value, `<epoch ${epochs.size + 1}>`)
      return epochs.get(value)
    }
    if (key === 'nodes' && Array.isArray(value)) return value.map(maskedNode)
    if (Object.hasOwn(MASKS, key ?? '') && parent !== 'data') return MASKS[key](value)
    if (typeof value === 'string' && UUID.test(value)) return '<uuid>'
    if (Array.isArray(value)) return value.map((item) => mask(item, undefined, key))
    if (!value || typeof value !== 'object') return value
    // In one order for all, whatever order a server writes its maps in.
    const named = Object.entries(value).map(([name, item]) => [names.has(name) ? `<client ${names.get(name)}>` : UUID.test(name) ? '<uuid>' : name, item, name])
    const entries = named.toSorted(([a], [b]) => (a < b ? -1 : 1)).map(([shown, item, name]) => [shown, mask(item, name, key)])
    return Object.fromEntries(entries)
  }
  return mask(result)
}

/** What the server of a stage answers to a transcript, and what it asked the application meanwhile. */
export async function play(stage, transcript, encoding) {
  const play = new Play(stage, encoding)
  try {
    for (const [at, step] of transcript.steps.entries()) {
      try { await play.step(step) } catch (error) { throw new Error(`step ${at + 1} of "${transcript.name}" (${JSON.stringify(step).slice(0, 200)}): ${error.message}`) }
    }
    return await play.seen(transcript)
  } finally { play.end() }
}
