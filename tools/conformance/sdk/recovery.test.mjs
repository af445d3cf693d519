// Connections that break and reconnect: what was missed arrives once and in order, or the client learns that it is lost.
// And what rides on history besides: the newest value only, deltas, filters.
import assert from 'node:assert/strict'
import { until } from '../server.mjs'
import { SECRET, jwt } from '../tokens.mjs'
import { WAIT_MS, event } from './clients.mjs'
import { scenarios } from './kit.mjs'

const open = { allow_subscribe_for_client: true, allow_publish_for_client: true }
const kept = (size) => ({ ...open, history_size: size, history_ttl: '60s' })
const config = {
  client: { token: { hmac_secret_key: SECRET } },
  channel: {
    namespaces: [
      { name: 'rec', ...kept(50), force_recovery: true },
      { name: 'short', ...kept(3), force_recovery: true },
      { name: 'ask', ...kept(50), allow_recovery: true, allow_positioning: true },
      { name: 'cache', ...kept(10), force_recovery: true, force_recovery_mode: 'cache' },
      { name: 'diff', ...kept(50), force_recovery: true, allowed_delta_types: ['fossil'] },
      { name: 'tags', ...kept(50), force_recovery: true, allow_tags_filter: true },
      { name: 'plain', ...open },
    ],
  },
}
const big = (number) => ({ number, items: Array.from({ length: 40 }, (_, at) => ({ name: `item ${at}`, price: at * 100 + (at === number % 40 ? number : 0) })) })

scenarios('recovery', { config }, (both, site) => {
  const publish = (channel, data, rest) => site.server.call('publish', { channel, data, ...rest })

  /** A client behind a relay with a live subscription. */
  async function behind(kit, channel, options) {
    const relay = await kit.relay()
    const client = await kit.connected({ token: jwt({ sub: kit.user }) }, relay.client)
    return { relay, client, ...(await kit.subscribed(client, channel, options)) }
  }
  /** Cuts the connection, lets `meanwhile` happen, and restores it: what the subscription received then. */
  async function severed({ relay, client, subscription }, meanwhile) {
    const lost = event(client, 'connecting', 'the loss')
    relay.down()
    await lost
    await meanwhile?.()
    const again = event(subscription, 'subscribed', 'the subscription coming back')
    relay.up()
    return again
  }

  both('nothing is missing and nothing comes twice over a severed connection', async (kit) => {
    const channel = `rec:${kit.tag}`
    const seat = await behind(kit, channel)
    for (const number of [1, 2, 3]) await publish(channel, number)
    await until(WAIT_MS, 'the first three', () => seat.got.length === 3)
    const context = await severed(seat, async () => { for (const number of [4, 5, 6]) await publish(channel, number) })
    assert.deepEqual([context.wasRecovering, context.recovered], [true, true])
    for (const number of [7, 8]) await publish(channel, number)
    await until(WAIT_MS, 'the last', () => seat.got.includes(8))
    assert.deepEqual(seat.got, [1, 2, 3, 4, 5, 6, 7, 8])
    assert.deepEqual(seat.publications.map(({ offset }) => offset), [1, 2, 3, 4, 5, 6, 7, 8])
  })

  both('the same again and again, with a publisher that never stops', async (kit) => {
    const channel = `rec:${kit.tag}`
    const seat = await behind(kit, channel)
    let running = true
    let number = 0
    const publisher = (async () => { while (running && number < 45) await publish(channel, ++number) })()
    for (let round = 0; round < 4; round++) assert.equal((await severed(seat)).recovered, true)
    running = false
    await publisher
    await until(WAIT_MS, 'the last', () => seat.got.includes(number))
    assert.deepEqual(seat.got, Array.from({ length: number }, (_, at) => at + 1))
  })

  both('nothing was missed', async (kit) => {
    const seat = await behind(kit, `rec:${kit.tag}`)
    await publish(`rec:${kit.tag}`, 1)
    await until(WAIT_MS, 'the first', () => seat.got.length)
    const context = await severed(seat)
    assert.deepEqual([context.recovered, context.hasRecoveredPublications], [true, false])
    assert.deepEqual(seat.got, [1])
  })

  both('history was overrun meanwhile', async (kit) => {
    const channel = `short:${kit.tag}`
    const seat = await behind(kit, channel)
    await publish(channel, 1)
    await until(WAIT_MS, 'the first', () => seat.got.length)
    const context = await severed(seat, async () => { for (const number of [2, 3, 4, 5, 6]) await publish(channel, number) })
    assert.deepEqual([context.wasRecovering, context.recovered, context.streamPosition.offset], [true, false, 6])
    await publish(channel, 7)
    await until(WAIT_MS, 'what comes after', () => seat.got.includes(7))
    assert.deepEqual(seat.got, [1, 7])
  })

  both('history was removed meanwhile', async (kit) => {
    const channel = `rec:${kit.tag}`
    const seat = await behind(kit, channel)
    await publish(channel, 1)
    await until(WAIT_MS, 'the first', () => seat.got.length)
    const context = await severed(seat, async () => { await publish(channel, 2); await site.server.call('history_remove', { channel }) })
    assert.deepEqual([context.wasRecovering, context.recovered], [true, false])
  })

  both('from a position that the application kept', async (kit) => {
    const channel = `rec:${kit.tag}`
    let epoch
    for (const number of [1, 2, 3, 4]) ({ epoch } = await publish(channel, number))
    const client = await kit.connected({ token: jwt({ sub: kit.user }) })
    const { got, context } = await kit.subscribed(client, channel, { since: { offset: 2, epoch } })
    assert.deepEqual([context.wasRecovering, context.recovered], [true, true])
    await until(WAIT_MS, 'what was missed', () => got.length === 2)
    assert.deepEqual(got, [3, 4])
    const other = await kit.connected({ token: jwt({ sub: kit.user }) })
    const lost = await kit.subscribed(other, channel, { since: { offset: 2, epoch: 'another' } })
    assert.deepEqual([lost.context.wasRecovering, lost.context.recovered, lost.context.streamPosition.offset, lost.context.streamPosition.epoch], [true, false, 4, epoch])
  })

  both('a subscription that asks to be recoverable, where it may', async (kit) => {
    const channel = `ask:${kit.tag}`
    const seat = await behind(kit, channel, { recoverable: true, positioned: true })
    assert.deepEqual([seat.context.recoverable, seat.context.positioned], [true, true])
    const context = await severed(seat, () => publish(channel, 1))
    assert.equal(context.recovered, true)
    await until(WAIT_MS, 'what was missed', () => seat.got.length)
    const silent = await behind(kit, `${channel}-2`)
    assert.deepEqual([silent.context.recoverable, silent.context.positioned], [false, false])
    assert.equal((await severed(silent, () => publish(`${channel}-2`, 1))).wasRecovering, false)
    assert.deepEqual(silent.got, [])
  })

  both('a channel without history just goes on', async (kit) => {
    const channel = `plain:${kit.tag}`
    const seat = await behind(kit, channel)
    const context = await severed(seat, () => publish(channel, 'missed'))
    assert.deepEqual([context.wasRecovering, context.recovered], [false, false])
    await publish(channel, 'after')
    await until(WAIT_MS, 'what comes after', () => seat.got.length)
    assert.deepEqual(seat.got, ['after'])
  })

  both('the newest only', async (kit) => {
    const channel = `cache:${kit.tag}`
    const seat = await behind(kit, channel)
    await publish(channel, 1)
    await until(WAIT_MS, 'the first', () => seat.got.length)
    const context = await severed(seat, async () => { for (const number of [2, 3, 4]) await publish(channel, number) })
    assert.equal(context.recovered, true)
    await until(WAIT_MS, 'the newest', () => seat.got.includes(4))
    assert.deepEqual(seat.got, [1, 4])
    assert.equal((await severed(seat)).recovered, true)
    await publish(channel, 5)
    await until(WAIT_MS, 'what comes after', () => seat.got.includes(5))
    assert.deepEqual(seat.got, [1, 4, 5], 'a client that has the newest does not get it again')
    const newcomer = await kit.connected({ token: jwt({ sub: kit.user }) })
    const { got } = await kit.subscribed(newcomer, channel, { since: { offset: 0, epoch: '' } })
    await until(WAIT_MS, 'the newest for the newcomer', () => got.length)
    assert.deepEqual(got, [5])
  })

  both('deltas give what was published, and are used', async (kit) => {
    const channel = `diff:${kit.tag}`
    const seat = await behind(kit, channel, { delta: 'fossil' })
    const other = await kit.subscribed(await kit.connected({ token: jwt({ sub: kit.user }) }), channel)
    const numbers = (from, to) => Array.from({ length: to - from + 1 }, (_, at) => from + at)
    for (const number of numbers(1, 5)) await publish(channel, big(number), { delta: true })
    await until(WAIT_MS, 'five', () => seat.got.length === 5)
    const context = await severed(seat, async () => { for (const number of numbers(6, 9)) await publish(channel, big(number), { delta: true }) })
    assert.equal(context.recovered, true)
    for (const number of numbers(10, 12)) await publish(channel, big(number), { delta: true })
    await until(WAIT_MS, 'all at both', () => seat.got.length >= 12 && other.got.length >= 12)
    assert.deepEqual(seat.got, numbers(1, 12).map(big))
    assert.deepEqual(other.got, numbers(1, 12).map(big))
    const { received } = seat.client.frames
    assert.ok(received.find((reply) => reply.subscribe).subscribe.delta, 'negotiated')
    const live = received.filter((reply) => reply.push?.pub).map(({ push }) => Boolean(push.pub.delta))
    assert.deepEqual(live, [false, true, true, true, true, true, true, true], 'one whole, then deltas, also after the recovery')
    const recovered = received.filter((reply) => reply.subscribe).at(-1).subscribe.publications.map(({ delta }) => Boolean(delta))
    assert.deepEqual(recovered, [false, true, true, true], 'recovered: one whole, then deltas')
    const whole = Buffer.byteLength(JSON.stringify(big(1)))
    const small = seat.client.frames.raw.filter((frame) => frame.length < whole / 2)
    assert.ok(small.length >= 7, 'and they are small on the wire')
  })

  both('a publication without delta among those with', async (kit) => {
    const channel = `diff:${kit.tag}`
    const { got } = await kit.subscribed(await kit.connected({ token: jwt({ sub: kit.user }) }), channel, { delta: 'fossil' })
    for (const number of [1, 2, 3, 4, 5]) await publish(channel, big(number), { delta: number !== 3 })
    await until(WAIT_MS, 'all', () => got.length === 5)
    assert.deepEqual(got, [1, 2, 3, 4, 5].map(big))
  })

  both('a filter by tags, live and recovered', async (kit) => {
    const channel = `tags:${kit.tag}`
    const tagsFilter = { op: 'or', nodes: [{ key: 'kind', cmp: 'eq', val: 'goal' }, { key: 'minute', cmp: 'gte', val: '90' }] }
    const seat = await behind(kit, channel, { tagsFilter })
    const events = [['goal', 5], ['foul', 10], ['goal', 15], ['foul', 91], ['card', 20], ['goal', 40], ['foul', 50], ['foul', 95], ['goal', 96]]
    const say = (at) => publish(channel, at, { tags: { kind: events[at][0], minute: String(events[at][1]) } })
    for (const at of [0, 1, 2, 3]) await say(at)
    await until(WAIT_MS, 'the live ones', () => seat.got.length === 3)
    const context = await severed(seat, async () => { for (const at of [4, 5, 6]) await say(at) })
    assert.equal(context.recovered, true)
    for (const at of [7, 8]) await say(at)
    await until(WAIT_MS, 'the last', () => seat.got.includes(8))
    assert.deepEqual(seat.got, [0, 2, 3, 5, 7, 8])
    assert.equal((await severed(seat)).recovered, true)
  })

  both('a server-side subscription recovers, too', async (kit) => {
    const channel = `rec:${kit.tag}`
    const relay = await kit.relay()
    const client = kit.client({ token: jwt({ sub: kit.user, channels: [channel] }) }, relay.client)
    const got = []
    client.on('publication', (publication) => got.push(kit.unpack(publication.data)))
    const ready = event(client, 'subscribed')
    client.connect()
    await ready
    await publish(channel, 1)
    await until(WAIT_MS, 'the first', () => got.length)
    const context = await severed({ relay, client, subscription: client }, async () => { for (const number of [2, 3]) await publish(channel, number) })
    assert.deepEqual([context.wasRecovering, context.recovered], [true, true])
    await publish(channel, 4)
    await until(WAIT_MS, 'the last', () => got.includes(4))
    assert.deepEqual(got, [1, 2, 3, 4])
  })
})
