// Every code that can be provoked from outside, on a bare socket: what an SDK would never send, and what a connection is
// sent when a limit or a clock ends it. Codes and reasons exactly.
import assert from 'node:assert/strict'
import { ORIGINAL, until } from '../server.mjs'
import { SECRET, ending, jwt, now } from '../tokens.mjs'
import { WAIT_MS, event } from './clients.mjs'
import { scenarios } from './kit.mjs'

const BAD_REQUEST = { code: 3501, reason: 'bad request' }
const open = { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true, allow_publish_for_client: true, allow_publish_for_anonymous: true }
const anonymous = { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET } }
const frame = (kit, json, protobuf) => (kit.encoding === 'json' ? json : Buffer.from(protobuf, 'hex'))

scenarios('rules of the protocol', {
  config: {
    client: { ...anonymous, channel_limit: 5 },
    channel: {
      max_length: 100, without_namespace: open,
      namespaces: [
        { name: 'shut' }, { name: 'log', ...open, history_size: 5, history_ttl: '60s', allow_history_for_client: true, allow_history_for_anonymous: true, force_recovery: true },
        { name: 'tags', ...open, allow_tags_filter: true }, { name: 'diff', ...open, allowed_delta_types: ['fossil'] },
      ],
    },
  },
}, (both) => {
  /** Commands on a fresh connection, and the error that each of them is answered with. */
  const errors = [
    ['subscribe twice', 105, 'already subscribed', { subscribe: { channel: 'x' } }, { subscribe: { channel: 'x' } }],
    ['subscribe to an unknown namespace', 102, 'unknown channel', { subscribe: { channel: 'nowhere:x' } }],
    ['subscribe without permission', 103, 'permission denied', { subscribe: { channel: 'shut:x' } }],
    ['subscribe to a private channel', 103, 'permission denied', { subscribe: { channel: '$x' } }],
    ['subscribe to a long name', 107, 'bad request', { subscribe: { channel: 'x'.repeat(101) } }],
    ['subscribe to a name outside ASCII', 107, 'bad request', { subscribe: { channel: 'ä' } }],
    ['subscribe with a filter in a namespace without filters', 107, 'bad request', { subscribe: { channel: 'x', tf: { key: 'a', cmp: 'ex' } } }],
    ['subscribe with a broken filter', 107, 'bad request', { subscribe: { channel: 'tags:x', tf: { key: 'a', cmp: 'is' } } }],
    ['subscribe past the limit', 106, 'limit exceeded', ...Array.from({ length: 6 }, (_, at) => ({ subscribe: { channel: `x${at}` } }))],
    ['subscribe with an expired token', 109, 'token expired', () => ({ subscribe: { channel: 'x', token: ending(-9, { sub: '', channel: 'x' }) } })],
    ['subscribe, refusing to be unrecovered', 112, 'unrecoverable position', { subscribe: { channel: 'log:x', recover: true, offset: 3, epoch: 'z', flag: 2 } }],
    ['publish without permission', 103, 'permission denied', { publish: { channel: 'shut:x', data: 1 } }],
    ['publish to an unknown namespace', 102, 'unknown channel', { publish: { channel: 'nowhere:x', data: 1 } }],
    ['publish nothing', 107, 'bad request', { publish: { channel: 'x' } }],
    ['presence in a namespace without presence', 108, 'not available', { presence: { channel: 'x' } }],
    ['presence_stats in a namespace without presence', 108, 'not available', { presence_stats: { channel: 'x' } }],
    ['history in a namespace without history', 108, 'not available', { history: { channel: 'x' } }],
    ['history of another epoch', 112, 'unrecoverable position', { history: { channel: 'log:x', limit: 1, since: { offset: 1, epoch: 'z' } } }],
    ['history backwards from nothing', 107, 'bad request', { history: { channel: 'log:x', limit: 1, since: { offset: 0, epoch: '' }, reverse: true } }],
    ['rpc without a backend', 108, 'not available', { rpc: { method: 'm', data: 1 } }],
    ['sub_refresh of no subscription', 103, 'permission denied', { sub_refresh: { channel: 'x', token: 'x' } }],
    ['sub_refresh without a token', 107, 'bad request', { subscribe: { channel: 'x' } }, { sub_refresh: { channel: 'x' } }],
  ]
  for (const [what, code, message, ...commands] of errors) {
    both(`error ${code}: ${what}`, async (kit) => {
      const bare = await kit.bareConnected()
      bare.send(...commands.map((command, at) => ({ id: 2 + at, ...(typeof command === 'function' ? command() : command) })))
      const reply = await bare.reply(1 + commands.length)
      assert.deepEqual(reply, { id: 1 + commands.length, error: { code, message } })
      bare.send({ id: 99, publish: { channel: 'still-there', data: 1 } })
      assert.ok((await bare.reply(99)).publish, 'an error ends nothing')
    })
  }

  /** Frames on a fresh connection that end it; the first of a row says whether connect goes before. */
  const closes = [
    ['a first command that is not connect', false, (bare) => bare.send({ id: 1, subscribe: { channel: 'x' } }), BAD_REQUEST],
    ['a connect without an id', false, (bare) => bare.send({ connect: {} }), BAD_REQUEST],
    ['a pong before connect', false, (bare) => bare.send({}), BAD_REQUEST],
    ['a broken token', false, (bare) => bare.send({ id: 1, connect: { token: 'x' } }), { code: 3500, reason: 'invalid token' }],
    ['a channel of an unknown namespace in connect', false, (bare) => bare.send({ id: 1, connect: { subs: { 'nowhere:x': {} } } }), BAD_REQUEST],
    ['a second connect', true, (bare) => bare.send({ id: 2, connect: {} }), BAD_REQUEST],
    ['a command with nothing in it', true, (bare) => bare.send({ id: 2 }), BAD_REQUEST],
    ['a command without an id', true, (bare) => bare.send({ subscribe: { channel: 'x' } }), BAD_REQUEST],
    ['a pong without a ping', true, (bare) => bare.send({}), BAD_REQUEST],
    ['the ping command', true, (bare) => bare.send({ id: 2, ping: {} }), BAD_REQUEST],
    ['an empty frame', true, (bare, kit) => bare.send(frame(kit, '', '')), BAD_REQUEST],
    ['a malformed frame', true, (bare, kit) => bare.send(frame(kit, '{"id":2,', '05')), BAD_REQUEST],
    ['a refresh without a token', true, (bare) => bare.send({ id: 2, refresh: {} }), BAD_REQUEST],
    ['a broken refresh token', true, (bare) => bare.send({ id: 2, refresh: { token: 'x' } }), { code: 3500, reason: 'invalid token' }],
    ['a subscription token of another user', true, (bare) => bare.send({ id: 2, subscribe: { channel: 'x', token: jwt({ sub: 'bob', channel: 'x' }) } }), { code: 3500, reason: 'invalid token' }],
    ['a delta of an unknown kind', true, (bare) => bare.send({ id: 2, subscribe: { channel: 'diff:x', delta: 'zip' } }), BAD_REQUEST],
    ['an empty channel: subscribe', true, (bare) => bare.send({ id: 2, subscribe: { channel: '' } }), BAD_REQUEST],
    ['an empty channel: unsubscribe', true, (bare) => bare.send({ id: 2, unsubscribe: { channel: '' } }), BAD_REQUEST],
    ['an empty channel: publish', true, (bare) => bare.send({ id: 2, publish: { channel: '', data: 1 } }), BAD_REQUEST],
    ['an empty channel: presence', true, (bare) => bare.send({ id: 2, presence: { channel: '' } }), BAD_REQUEST],
    ['an empty channel: presence_stats', true, (bare) => bare.send({ id: 2, presence_stats: { channel: '' } }), BAD_REQUEST],
    ['an empty channel: history', true, (bare) => bare.send({ id: 2, history: { channel: '' } }), BAD_REQUEST],
    ['an empty channel: sub_refresh', true, (bare) => bare.send({ id: 2, sub_refresh: { channel: '', token: 'x' } }), BAD_REQUEST],
    ['a send, which is not served', true, (bare) => bare.send({ send: { data: 1 } }), { code: 3508, reason: 'not available' }],
  ]
  for (const [what, connectsFirst, act, expected] of closes) {
    both(`close ${expected.code}: ${what}`, async (kit) => {
      const bare = connectsFirst ? await kit.bareConnected() : await kit.bare()
      act(bare, kit)
      assert.deepEqual(await bare.closing(), expected)
    })
  }

  both('close 1009: a message past the limit', async (kit) => {
    const bare = await kit.bareConnected()
    bare.send({ id: 2, publish: { channel: 'x', data: 'x'.repeat(66_000) } })
    // The code is WebSocket's own; the text is chosen by the side that closes.
    assert.equal((await bare.closing()).code, 1009)
  })

  both('a message just below the limit is taken', async (kit) => {
    const bare = await kit.bareConnected()
    bare.send({ id: 2, publish: { channel: 'x', data: 'x'.repeat(65_000) } })
    assert.ok((await bare.reply(2)).publish)
  })

  both('server-side subscriptions past the limit close with 3505', async (kit) => {
    const bare = await kit.bare()
    bare.send({ id: 1, connect: { token: jwt({ sub: kit.user, channels: Array.from({ length: 6 }, (_, at) => `c${at}`) }) } })
    assert.deepEqual(await bare.closing(), { code: 3505, reason: 'channel limit' })
  })

  both('the server API takes a connection past the channel limit with 3505', async (kit) => {
    const bare = await kit.bareConnected({ connect: { token: jwt({ sub: kit.user, channels: [1, 2, 3, 4, 5].map((at) => `c${at}`) }) } })
    await kit.server.call('subscribe', { user: kit.user, channel: 'one-more' })
    assert.deepEqual(await bare.closing(), { code: 3505, reason: 'channel limit' })
  })

  both('bytes to a JSON client', async (kit) => {
    if (kit.encoding !== 'json') return
    const bare = await kit.bareConnected()
    const other = await kit.bareConnected()
    // Protobuf clients may publish what JSON clients cannot be given.
    const binary = await kit.bareConnected({ encoding: 'protobuf' })
    for (const one of [bare, other]) { one.send({ id: 2, subscribe: { channel: one === bare ? kit.tag : 'else' } }); await one.reply(2) }
    // id 2, publish { channel, data: the bytes ff fe }
    const channel = Buffer.from(kit.tag)
    const publish = Buffer.concat([Buffer.from([0x0a, channel.length]), channel, Buffer.from([0x12, 2, 0xff, 0xfe])])
    const command = Buffer.concat([Buffer.from([0x08, 2, 0x3a, publish.length]), publish])
    binary.send(Buffer.concat([Buffer.from([command.length]), command]))
    assert.ok((await binary.reply(2)).publish)
    if (!ORIGINAL) {
      // Ours gives it to them as text, where the original closes every such subscriber with 3506.
      const { push } = await bare.line((line) => line.push?.pub, 'the publication')
      assert.equal(push.pub.data, Buffer.from([0xff, 0xfe]).toString('base64'))
      return
    }
    assert.deepEqual(await bare.closing(), { code: 3506, reason: 'inappropriate protocol' })
    other.send({ id: 3, publish: { channel: 'else', data: 1 } })
    assert.ok((await other.reply(3)).publish)
  })

  both('JSON commands in a binary frame are served', async (kit) => {
    if (kit.encoding !== 'json') return
    const bare = await kit.bareConnected()
    bare.socket.send(Buffer.from(JSON.stringify({ id: 2, publish: { channel: kit.tag, data: 1 } })))
    assert.ok((await bare.reply(2)).publish)
  })

  both('numbers, escapes and order of keys stay as they were written', async (kit) => {
    if (kit.encoding !== 'json') return
    const bare = await kit.bareConnected()
    const frames = []
    bare.socket.on('message', (data) => frames.push(data.toString()))
    bare.send({ id: 2, subscribe: { channel: kit.tag } })
    await bare.reply(2)
    const data = '{"b":1.50,"a":1e3,"big":12345678901234567890,"t":"\\u00e4\\/"}'
    bare.send(`{"id":3,"publish":{"channel":"${kit.tag}","data":${data}}}`)
    await bare.line((line) => line.push?.pub, 'the publication')
    assert.ok(frames.join('\n').includes(data), frames.at(-1))
    await kit.server.api('publish', { channel: kit.tag, data: 'x' })
  })

  both('line ends in data do not break the framing', async (kit) => {
    const bare = await kit.bareConnected()
    bare.send({ id: 2, subscribe: { channel: kit.tag } })
    await bare.reply(2)
    const answer = await fetch(`${kit.server.admin}/api/publish`, { method: 'POST', headers: { 'x-api-key': kit.server.key }, body: `{"channel":"${kit.tag}","data":{\n "a":\r\n  [1,\n 2]\n}}` })
    assert.equal(answer.status, 200)
    const { push } = await bare.line((line) => line.push?.pub, 'the publication')
    assert.deepEqual(push.pub.data, { a: [1, 2] })
  })
})

scenarios('clocks', {
  config: { client: { ...anonymous, ping_interval: '1s', pong_timeout: '500ms', stale_close_delay: '1s', expired_close_delay: '1s', expired_sub_close_delay: '1s', presence_update_interval: '1s' }, channel: { without_namespace: open } },
}, (both) => {
  both('close 3502: no connect', async (kit) => assert.deepEqual(await (await kit.bare()).closing(), { code: 3502, reason: 'stale' }))
  both('close 3012: no pong', async (kit) => assert.deepEqual(await (await kit.bareConnected({ answerPings: false })).closing(), { code: 3012, reason: 'no pong' }))
  both('close 3005: a token that ran out', async (kit) => {
    const bare = await kit.bareConnected({ connect: { token: ending(2, { sub: kit.user }) } })
    assert.deepEqual(await bare.closing(), { code: 3005, reason: 'connection expired' })
  })
  both('unsubscribe 2501: a subscription that ran out', async (kit) => {
    const bare = await kit.bareConnected({ connect: { token: jwt({ sub: kit.user }) } })
    bare.send({ id: 2, subscribe: { channel: kit.tag, token: jwt({ sub: kit.user, channel: kit.tag, exp: now() + 2 }) } })
    assert.equal((await bare.reply(2)).subscribe.expires, true)
    const { push } = await bare.line((line) => line.push?.unsubscribe, 'the end of the subscription')
    assert.deepEqual(push, { channel: kit.tag, unsubscribe: { code: 2501, reason: 'subscription expired' } })
    bare.send({ id: 3, subscribe: { channel: kit.tag } })
    assert.ok((await bare.reply(3)).subscribe, 'and it may be had again')
  })
  both('pings come in time and a pong for each keeps the connection', async (kit) => {
    const bare = await kit.bareConnected()
    const { ping, pong } = (await bare.reply(1)).connect
    assert.deepEqual([ping, pong], [1, true])
    await until(WAIT_MS, 'four pings', () => bare.pings >= 4)
    bare.send({ id: 2, publish: { channel: 'x', data: 1 } })
    assert.ok((await bare.reply(2)).publish)
  })
  both('close 3501: two pongs for one ping', async (kit) => {
    const bare = await kit.bareConnected()
    await until(WAIT_MS, 'a ping', () => bare.pings)
    bare.send({})
    assert.deepEqual(await bare.closing(), BAD_REQUEST)
  })
  both('native pings, where they are asked for', async (kit) => {
    const bare = await kit.bare({ url: `${kit.server.client}?cf_ws_frame_ping_pong=true` })
    let pings = 0
    bare.socket.on('ping', () => pings++)
    bare.send({ id: 1, connect: {} })
    const { connect } = await bare.reply(1)
    assert.deepEqual([connect.ping, connect.pong], [undefined, undefined])
    await until(WAIT_MS, 'two native pings', () => pings >= 2)
    assert.equal(bare.pings, 0)
    bare.send({ id: 2, publish: { channel: 'x', data: 1 } })
    assert.ok((await bare.reply(2)).publish)
  })
  both('the SDK reconnects after 3012', async (kit) => {
    // A connection whose pongs get lost on the way.
    const client = await kit.connected()
    client._transport._transport.send = () => {}
    const { code, reason } = await event(client, 'connecting', 'the end')
    assert.deepEqual({ code, reason }, { code: 3012, reason: 'no pong' })
    await client.ready(WAIT_MS)
  })
})

scenarios('limits of connections', {
  config: { client: { ...anonymous, user_connection_limit: 2, allowed_origins: ['https://chat.example', 'https://*.example.org'] }, channel: { without_namespace: open } },
}, (both) => {
  both('close 3504: one connection of a user too many', async (kit) => {
    const connect = { token: jwt({ sub: kit.user }) }
    await kit.bareConnected({ connect })
    const second = await kit.bareConnected({ connect })
    const third = await kit.bare()
    third.send({ id: 1, connect })
    assert.deepEqual(await third.closing(), { code: 3504, reason: 'connection limit' })
    second.socket.close()
    await second.closing()
    await until(WAIT_MS, 'room for another', async () => {
      const again = await kit.bare()
      again.send({ id: 1, connect })
      return Promise.race([again.closed.then(() => false), again.reply(1).then(() => true).catch(() => false)])
    })
  })
  const upgrade = async (kit, origin) => {
    try { await (await kit.bare({ headers: origin ? { origin } : {} })); return 101 } catch (error) { return Number(/\d{3}$/.exec(error.message)?.[0]) }
  }
  both('origins', async (kit) => {
    const statuses = {}
    for (const origin of [undefined, 'https://chat.example', 'https://a.example.org', 'https://evil.example', 'http://chat.example']) statuses[origin] = await upgrade(kit, origin)
    assert.deepEqual(statuses, { undefined: 101, 'https://chat.example': 101, 'https://a.example.org': 101, 'https://evil.example': 403, 'http://chat.example': 403 })
  })
})

scenarios('a limit of all connections', { config: { client: { ...anonymous, connection_limit: 3 } } }, (both) => {
  both('one connection too many is refused before it is one', async (kit) => {
    if (kit.encoding !== 'json') return
    for (let number = 0; number < 3; number++) await kit.bareConnected()
    await assert.rejects(kit.bare(), /503/)
  })
})

scenarios('slow peers', { config: { client: { ...anonymous, queue_max_size: 65_536 }, channel: { without_namespace: open } } }, (both) => {
  both('a client that does not read is closed, and the others notice nothing', async (kit) => {
    const [slow, quick] = [await kit.bareConnected(), await kit.bareConnected()]
    for (const bare of [slow, quick]) { bare.send({ id: 2, subscribe: { channel: kit.tag } }); await bare.reply(2) }
    slow.socket.pause()
    const data = 'x'.repeat(50_000)
    const count = 300
    for (let number = 0; number < count; number++) {
      await kit.server.call('publish', { channel: kit.tag, data: `${number} ${data}` })
    }
    await until(2 * WAIT_MS, 'all of them', () => quick.lines.filter((line) => line.push?.pub).length === count)
    slow.socket.resume()
    const { code } = await slow.closing()
    assert.ok(code === 3008 || code === 1006, `closed with ${code}`)
    assert.ok(slow.lines.filter((line) => line.push?.pub).length < count)
  })
})

scenarios('state that is lost', {
  config: { client: { ...anonymous, channel_position_check_delay: '1s', presence_update_interval: '1s' }, channel: { namespaces: [{ name: 'log', ...open, history_size: 5, history_ttl: '1s', history_meta_ttl: '1s', force_recovery: true }] } },
}, (both) => {
  both('a stream that may be forgotten goes on, or ends subscriptions with 2500 and connections with 3010', async (kit) => {
    const channel = `log:${kit.tag}`
    const [bare, other] = [await kit.bareConnected(), await kit.bareConnected({ connect: { token: jwt({ sub: kit.user, channels: [channel] }) } })]
    bare.send({ id: 2, subscribe: { channel } })
    const { epoch } = (await bare.reply(2)).subscribe
    await kit.server.call('publish', { channel, data: 1 })
    const published = Date.now()
    await until(WAIT_MS, 'the stream being forgotten', () => Date.now() > published + 2_500)
    const again = await kit.server.call('publish', { channel, data: 2 })
    if (again.epoch === epoch) {
      // A server need not forget a stream that has subscribers; then no subscriber may miss anything either.
      for (const one of [bare, other]) await one.line((line) => line.push?.pub?.offset === 2, 'the second publication')
      return
    }
    assert.equal(again.offset, 1)
    const { push } = await bare.line((line) => line.push?.unsubscribe, 'the end of the subscription')
    assert.deepEqual(push.unsubscribe, { code: 2500, reason: 'insufficient state' })
    assert.deepEqual(await other.closing(), { code: 3010, reason: 'insufficient state' })
  })
})
