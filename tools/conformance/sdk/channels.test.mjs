// What a connection may do in a channel: subscribe, publish, ask for presence and history, and what it receives.
import assert from 'node:assert/strict'
import { ORIGINAL, until } from '../server.mjs'
import { SECRET, ending, jwt, now } from '../tokens.mjs'
import { WAIT_MS, event } from './clients.mjs'
import { refusal, scenarios } from './kit.mjs'

const DENIED = { code: 103, message: 'permission denied' }
const UNAVAILABLE = { code: 108, message: 'not available' }
const UNKNOWN = { code: 102, message: 'unknown channel' }
const history = { history_size: 10, history_ttl: '60s' }

const config = {
  client: { token: { hmac_secret_key: SECRET }, allow_anonymous_connect_without_token: true, expired_sub_close_delay: '1s', channel_limit: 10, presence_update_interval: '1s' },
  channel: {
    without_namespace: {},
    namespaces: [
      { name: 'open', allow_subscribe_for_client: true, allow_publish_for_client: true },
      { name: 'anyone', allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true, allow_publish_for_client: true, allow_publish_for_anonymous: true },
      { name: 'talk', allow_subscribe_for_client: true, allow_publish_for_subscriber: true },
      { name: 'own', allow_user_limited_channels: true, allow_subscribe_for_client: true },
      { name: 'seen', allow_subscribe_for_client: true, presence: true, join_leave: true, force_push_join_leave: true, allow_presence_for_subscriber: true },
      { name: 'asked', allow_subscribe_for_client: true, presence: true, join_leave: true, allow_presence_for_client: true },
      { name: 'unseen', allow_subscribe_for_client: true, presence: true, join_leave: true },
      { name: 'past', allow_subscribe_for_client: true, allow_publish_for_client: true, allow_history_for_subscriber: true, ...history },
      { name: 'archive', allow_subscribe_for_client: true, allow_history_for_client: true, ...history },
      { name: 'secret', allow_subscribe_for_client: true, ...history },
      { name: 'shape', allow_subscribe_for_client: true, channel_regex: '^[0-9]+$' },
      { name: 'objects', allow_subscribe_for_client: true, allow_publish_for_client: true, publication_data_format: 'json_object' },
    ],
  },
}

scenarios('subscribing', { config }, (both, site) => {
  const connectedUser = (kit, claims = {}) => kit.connected({ token: jwt({ sub: kit.user, ...claims }) })
  const subToken = (kit, channel, claims = {}) => jwt({ sub: kit.user, channel, ...claims })

  both('allowed for every user, and not for anonymous ones', async (kit) => {
    await kit.subscribed(await connectedUser(kit), `open:${kit.tag}`)
    assert.deepEqual(await kit.deniedSubscription(await kit.connected(), `open:${kit.tag}`), { code: 103, reason: 'permission denied' })
  })
  both('allowed for anonymous ones where that is said', async (kit) => { await kit.subscribed(await kit.connected(), `anyone:${kit.tag}`) })
  both('not allowed by default', async (kit) => assert.deepEqual(await kit.deniedSubscription(await connectedUser(kit), kit.tag), { code: 103, reason: 'permission denied' }))
  both('an unknown namespace', async (kit) => assert.deepEqual(await kit.deniedSubscription(await connectedUser(kit), `nowhere:${kit.tag}`), { code: 102, reason: 'unknown channel' }))
  both('a name that the pattern of the namespace does not know', async (kit) => {
    const client = await connectedUser(kit)
    await kit.subscribed(client, 'shape:42')
    assert.deepEqual(await kit.deniedSubscription(client, 'shape:forty'), { code: 107, reason: 'bad request' })
  })
  both('a name outside ASCII', async (kit) => assert.deepEqual(await kit.deniedSubscription(await connectedUser(kit), 'open:größe'), { code: 107, reason: 'bad request' }))
  both('a private channel without a token', async (kit) => assert.deepEqual(await kit.deniedSubscription(await connectedUser(kit), `$open:${kit.tag}`), { code: 103, reason: 'permission denied' }))

  both('a user-limited channel admits only the users in its name', async (kit) => {
    const client = await connectedUser(kit)
    await kit.subscribed(client, `own:${kit.tag}#${kit.user}`)
    await kit.subscribed(client, `own:${kit.tag}#another,${kit.user}`)
    assert.deepEqual(await kit.deniedSubscription(client, `own:${kit.tag}#another`), { code: 103, reason: 'permission denied' })
  })

  both('a token opens a channel that is closed, private or not', async (kit) => {
    const client = await connectedUser(kit)
    for (const channel of [`closed-${kit.tag}`, `$open:${kit.tag}`]) {
      const { got } = await kit.subscribed(client, channel, { token: subToken(kit, channel) })
      await site.server.call('publish', { channel, data: { to: channel } })
      await until(WAIT_MS, 'the publication', () => got.length)
      assert.deepEqual(got, [{ to: channel }])
    }
  })

  both('a token carries info and data', async (kit) => {
    const client = await connectedUser(kit, { info: { name: 'Ann' } })
    const channel = `seen:${kit.tag}`
    const { subscription, context } = await kit.subscribed(client, channel, { token: subToken(kit, channel, { info: { role: 'host' }, data: { topic: 1 } }) })
    assert.deepEqual(kit.unpack(context.data), { topic: 1 })
    const me = (await subscription.presence()).clients[client.context.client]
    assert.deepEqual([kit.unpack(me.connInfo), kit.unpack(me.chanInfo)], [{ name: 'Ann' }, { role: 'host' }])
  })

  both('a token may name the client', async (kit) => {
    const client = await connectedUser(kit)
    const channel = `closed-${kit.tag}`
    await kit.subscribed(client, channel, { token: subToken(kit, channel, { client: client.context.client }) })
  })

  const mismatched = {
    'another channel': (kit, channel) => jwt({ sub: kit.user, channel: `${channel}x` }),
    'another user': (kit, channel) => jwt({ sub: 'another', channel }),
    'another client': (kit, channel) => jwt({ sub: kit.user, channel, client: 'not me' }),
  }
  for (const [what, token] of Object.entries(mismatched)) {
    both(`a token for ${what} ends the connection with 3500`, async (kit) => {
      const client = await connectedUser(kit)
      const gone = event(client, 'disconnected')
      kit.seat(client, `closed-${kit.tag}`, { token: token(kit, `closed-${kit.tag}`) }).subscription.subscribe()
      const { code, reason } = await gone
      assert.deepEqual({ code, reason }, { code: 3500, reason: 'invalid token' })
    })
  }
  const invalid = {
    'a wrong signature': (kit, channel) => jwt({ sub: kit.user, channel }, 'wrong'),
    'no channel': (kit) => jwt({ sub: kit.user }),
    'nothing of a JWT': () => 'token',
  }
  for (const [what, token] of Object.entries(invalid)) {
    both(`a token with ${what} is answered with 103`, async (kit) => {
      const channel = `open:${kit.tag}`
      assert.deepEqual(await kit.deniedSubscription(await connectedUser(kit), channel, { token: token(kit, channel) }), { code: 103, reason: 'permission denied' })
    })
  }

  both('an expired token is answered with 109, and the SDK asks for another', async (kit) => {
    const channel = `closed-${kit.tag}`
    let asked = 0
    const { errors } = await kit.subscribed(await connectedUser(kit), channel, {
      token: subToken(kit, channel, { exp: now() - 10 }), getToken: async () => { asked++; return subToken(kit, channel) },
    })
    assert.equal(asked, 1)
    assert.deepEqual(errors, [{ type: 'subscribe', code: 109, message: 'token expired' }])
  })

  both('the SDK refreshes a subscription in time', async (kit) => {
    const channel = `closed-${kit.tag}`
    const client = await connectedUser(kit)
    const exp = now() + 2
    let asked = 0
    const { subscription } = await kit.subscribed(client, channel, { token: subToken(kit, channel, { exp }), getToken: async () => { asked++; return subToken(kit, channel, { exp: now() + 300 }) } })
    const lost = []
    subscription.on('subscribing', (context) => lost.push(context))
    subscription.on('unsubscribed', (context) => lost.push(context))
    await until(WAIT_MS, 'the answer', () => client.frames.received.some((reply) => reply.sub_refresh))
    const { sub_refresh: answer } = client.frames.received.find((reply) => reply.sub_refresh)
    assert.deepEqual(Object.keys(answer), ['expires', 'ttl'])
    assert.ok(answer.ttl > 290 && answer.ttl <= 300)
    await until(WAIT_MS, 'the old end and its grace', () => Date.now() > (exp + 2) * 1000)
    await client.rpc('nothing', kit.pack({})).catch(() => {})
    assert.deepEqual([asked, lost], [1, []])
  })

  both('an expired subscription is ended with 2501, and the SDK takes it up again', async (kit) => {
    const channel = `closed-${kit.tag}`
    const client = await connectedUser(kit)
    let asked = 0
    const { subscription } = await kit.subscribed(client, channel, { token: subToken(kit, channel, { exp: now() + 2 }), getToken: async () => {
      if (!asked++) await until(WAIT_MS, 'the end', () => subscription.state !== 'subscribed')
      return subToken(kit, channel, { exp: now() + 300 })
    } })
    const { code, reason } = await event(subscription, 'subscribing', 'the end of the subscription')
    assert.deepEqual({ code, reason }, { code: 2501, reason: 'subscription expired' })
    await subscription.ready(WAIT_MS)
  })

  // The original accepts the expired token, and the subscription never expires again.
  both('a refresh of a subscription with an expired token does not end it for good', async (kit) => {
    const channel = `closed-${kit.tag}`
    const client = await connectedUser(kit)
    let asked = 0
    const { subscription, errors } = await kit.subscribed(client, channel, {
      token: subToken(kit, channel, { exp: now() + 2 }),
      getToken: async () => subToken(kit, channel, { exp: now() + (asked++ ? 300 : -10) }),
    })
    const gone = []
    subscription.on('unsubscribed', (context) => gone.push(context))
    const { code } = await event(subscription, 'subscribing', 'the end of the subscription')
    await subscription.ready(WAIT_MS)
    assert.deepEqual({ code, gone }, { code: 2501, gone: [] })
    assert.deepEqual(errors[0], { type: 'refresh', code: 109, message: 'token expired' })
  }, { skip: ORIGINAL })

  both('a refresh of a subscription with a wrong token ends the connection', async (kit) => {
    const bare = await kit.bareConnected({ connect: { token: jwt({ sub: kit.user }) } })
    const channel = `closed-${kit.tag}`
    bare.send({ id: 2, subscribe: { channel, token: subToken(kit, channel, { exp: now() + 100 }) } })
    const { subscribe } = await bare.reply(2)
    assert.equal(subscribe.expires, true)
    bare.send({ id: 3, sub_refresh: { channel, token: jwt({ sub: 'another', channel }) } })
    assert.deepEqual(await bare.closing(), { code: 3500, reason: 'invalid token' })
  })

  both('more channels than allowed', async (kit) => {
    const client = await connectedUser(kit)
    for (let number = 0; number < 10; number++) await kit.subscribed(client, `open:${kit.tag}-${number}`)
    assert.deepEqual(await kit.deniedSubscription(client, `open:${kit.tag}-10`), { code: 106, reason: 'limit exceeded' })
    client.getSubscription(`open:${kit.tag}-0`).unsubscribe()
    await kit.subscribed(client, `open:${kit.tag}-11`)
  })
})

scenarios('publishing, presence and history', { config }, (both, site) => {
  const connectedUser = (kit, user = kit.user) => kit.connected({ token: jwt({ sub: user, info: { of: user } }) })

  both('a publication of a client names its publisher', async (kit) => {
    const [listener, speaker] = [await connectedUser(kit), await connectedUser(kit, 'speaker')]
    const { got, publications } = await kit.subscribed(listener, `open:${kit.tag}`)
    await speaker.publish(`open:${kit.tag}`, kit.pack({ text: 'ünïcode "quoted"', list: [1, null, { a: [] }] }))
    await until(WAIT_MS, 'the publication', () => got.length)
    assert.deepEqual(got, [{ text: 'ünïcode "quoted"', list: [1, null, { a: [] }] }])
    const [{ info, offset }] = publications
    assert.deepEqual([info.user, info.client, kit.unpack(info.connInfo)], ['speaker', speaker.context.client, { of: 'speaker' }])
    assert.equal(offset ?? 0, 0, 'no history, no offset')
  })

  both('a publication of the server names no publisher, and carries tags', async (kit) => {
    const { got, publications } = await kit.subscribed(await connectedUser(kit), `open:${kit.tag}`)
    await site.server.call('publish', { channel: `open:${kit.tag}`, data: 'text', tags: { kind: 'note' } })
    await until(WAIT_MS, 'the publication', () => got.length)
    assert.deepEqual(got, ['text'])
    assert.equal(publications[0].info, undefined)
    assert.deepEqual({ ...publications[0].tags }, { kind: 'note' })
  })

  both('permission to publish', async (kit) => {
    const [user, anonymous] = [await connectedUser(kit), await kit.connected()]
    await user.publish(`open:${kit.tag}`, kit.pack(1))
    assert.deepEqual(await refusal(anonymous.publish(`open:${kit.tag}`, kit.pack(1))), DENIED)
    await anonymous.publish(`anyone:${kit.tag}`, kit.pack(1))
    assert.deepEqual(await refusal(user.publish(`talk:${kit.tag}`, kit.pack(1))), DENIED, 'not yet a subscriber')
    const { subscription } = await kit.subscribed(user, `talk:${kit.tag}`)
    await subscription.publish(kit.pack(1))
    assert.deepEqual(await refusal(user.publish(kit.tag, kit.pack(1))), DENIED)
    assert.deepEqual(await refusal(user.publish(`nowhere:${kit.tag}`, kit.pack(1))), UNKNOWN)
  })

  both('data has to have the form that the namespace asks for', async (kit) => {
    const user = await connectedUser(kit)
    await user.publish(`objects:${kit.tag}`, kit.pack({ a: 1 }))
    assert.deepEqual(await refusal(user.publish(`objects:${kit.tag}`, kit.pack([1]))), { code: 107, message: 'bad request' })
    const { body } = await site.server.api('publish', { channel: `objects:${kit.tag}`, data: 'text' })
    assert.deepEqual(body, { error: { code: 107, message: 'bad request' } })
  })

  both('presence and its numbers', async (kit) => {
    const channel = `seen:${kit.tag}`
    const [first, second] = [await connectedUser(kit), await connectedUser(kit)]
    const third = await connectedUser(kit, `other-${kit.tag}`)
    const { subscription } = await kit.subscribed(first, channel)
    for (const client of [second, third]) await kit.subscribed(client, channel)
    const { clients } = await subscription.presence()
    assert.deepEqual(Object.keys(clients).toSorted(), [first, second, third].map((client) => client.context.client).toSorted())
    assert.deepEqual(await subscription.presenceStats(), { numClients: 3, numUsers: 2 })
    second.disconnect()
    await until(WAIT_MS, 'one less', async () => (await subscription.presenceStats()).numClients === 2)
    assert.deepEqual(await site.server.call('presence_stats', { channel }), { num_clients: 2, num_users: 2 })
    const { presence } = await site.server.call('presence', { channel })
    assert.deepEqual(presence[third.context.client], { client: third.context.client, user: `other-${kit.tag}`, conn_info: { of: `other-${kit.tag}` } })
  })

  both('permission for presence', async (kit) => {
    const [user, other] = [await connectedUser(kit), await connectedUser(kit, 'other')]
    await kit.subscribed(user, `seen:${kit.tag}`)
    for (const call of ['presence', 'presenceStats']) {
      assert.deepEqual(await refusal(other[call](`seen:${kit.tag}`)), DENIED, 'not a subscriber')
      await other[call](`asked:${kit.tag}`)
      assert.deepEqual(await refusal(user[call](`unseen:${kit.tag}`)), DENIED)
      assert.deepEqual(await refusal(user[call](`open:${kit.tag}`)), UNAVAILABLE)
      assert.deepEqual(await refusal(user[call](`nowhere:${kit.tag}`)), UNKNOWN)
    }
  })

  both('joins and leaves, if they are pushed to every subscriber', async (kit) => {
    const channel = `seen:${kit.tag}`
    const [watcher, visitor] = [await connectedUser(kit), await connectedUser(kit, `visitor-${kit.tag}`)]
    const { joins, leaves } = await kit.subscribed(watcher, channel)
    const { subscription } = await kit.subscribed(visitor, channel)
    await until(WAIT_MS, 'both joins', () => joins.length === 2)
    subscription.unsubscribe()
    await until(WAIT_MS, 'the leave', () => leaves.length === 1)
    subscription.subscribe()
    await until(WAIT_MS, 'the third join', () => joins.length === 3)
    visitor.disconnect()
    await until(WAIT_MS, 'the second leave', () => leaves.length === 2)
    assert.deepEqual(joins.map(({ client }) => client), [watcher, visitor, visitor].map((client) => client.context?.client))
    assert.deepEqual(leaves.map(({ user, connInfo }) => [user, kit.unpack(connInfo)]), [0, 1].map(() => [`visitor-${kit.tag}`, { of: `visitor-${kit.tag}` }]))
  })

  both('joins and leaves for subscribers that ask and may', async (kit) => {
    const visitor = await connectedUser(kit, 'visitor')
    const watchers = { asks: [`asked:${kit.tag}`, true], silent: [`asked:${kit.tag}`, false], mayNot: [`unseen:${kit.tag}`, true] }
    for (const [name, [channel, joinLeave]] of Object.entries(watchers)) watchers[name] = await kit.subscribed(await connectedUser(kit), channel, { joinLeave })
    for (const channel of [`unseen:${kit.tag}`, `asked:${kit.tag}`]) await kit.subscribed(visitor, channel)
    await until(WAIT_MS, 'the join', () => watchers.asks.joins.some(({ user }) => user === 'visitor'))
    visitor.disconnect()
    await until(WAIT_MS, 'the leave', () => watchers.asks.leaves.length)
    assert.deepEqual([watchers.silent.joins, watchers.silent.leaves, watchers.mayNot.joins, watchers.mayNot.leaves], [[], [], [], []])
  })

  both('history: nothing, the newest, from a position, backwards', async (kit) => {
    const channel = `past:${kit.tag}`
    const { subscription } = await kit.subscribed(await connectedUser(kit), channel)
    const empty = await subscription.history({ limit: 10 })
    assert.deepEqual([empty.publications, empty.offset], [[], 0])
    for (let number = 1; number <= 12; number++) await subscription.publish(kit.pack(number))
    const read = async (options) => (await subscription.history(options)).publications.map(({ data, offset }) => [kit.unpack(data), offset])
    const pairs = (...numbers) => numbers.map((number) => [number, number])
    const { publications, offset, epoch } = await subscription.history()
    assert.deepEqual([publications, offset, typeof epoch], [[], 12, 'string'])
    assert.equal(epoch, empty.epoch)
    assert.deepEqual(await read({ limit: -1 }), pairs(3, 4, 5, 6, 7, 8, 9, 10, 11, 12), 'the size of the namespace')
    assert.deepEqual(await read({ limit: 2 }), pairs(3, 4))
    assert.deepEqual(await read({ limit: 2, reverse: true }), pairs(12, 11))
    assert.deepEqual(await read({ limit: 2, since: { offset: 6, epoch } }), pairs(7, 8))
    assert.deepEqual(await read({ limit: 2, since: { offset: 6, epoch }, reverse: true }), pairs(5, 4))
    assert.deepEqual(await read({ limit: 5, since: { offset: 12, epoch } }), [])
    assert.deepEqual(await read({ limit: 2, since: { offset: 0, epoch } }), pairs(3, 4), 'what is left of a range that is lost')
    assert.deepEqual(await refusal(subscription.history({ limit: 5, since: { offset: 6, epoch: 'other' } })), { code: 112, message: 'unrecoverable position' })
    assert.deepEqual(await refusal(subscription.history({ limit: 5, since: { offset: 0, epoch }, reverse: true })), { code: 107, message: 'bad request' })
    const { info } = (await subscription.history({ limit: 1 })).publications[0]
    assert.equal(info.user, kit.user)
  })

  both('permission for history', async (kit) => {
    const user = await connectedUser(kit)
    assert.deepEqual(await refusal(user.history(`past:${kit.tag}`)), DENIED, 'not a subscriber')
    await user.history(`archive:${kit.tag}`)
    assert.deepEqual(await refusal(user.history(`secret:${kit.tag}`)), DENIED)
    assert.deepEqual(await refusal(user.history(`open:${kit.tag}`)), UNAVAILABLE)
    assert.deepEqual(await refusal((await kit.connected()).history(`archive:${kit.tag}`)), DENIED, 'anonymous')
  })

  both('history over the server API, and its removal', async (kit) => {
    const channel = `past:${kit.tag}`
    for (const number of [1, 2, 3]) await site.server.call('publish', { channel, data: { number }, tags: { parity: number % 2 ? 'odd' : 'even' } })
    const result = await site.server.call('history', { channel, limit: 2, reverse: true })
    assert.deepEqual(result.publications.map(({ data, offset, tags }) => [data, offset, tags]), [[{ number: 3 }, 3, { parity: 'odd' }], [{ number: 2 }, 2, { parity: 'even' }]])
    await site.server.call('history_remove', { channel })
    const after = await site.server.call('history', { channel, limit: 10 })
    assert.deepEqual([after.publications ?? [], after.offset, after.epoch], [[], 3, result.epoch])
    assert.equal((await site.server.call('publish', { channel, data: 4 })).offset, 4)
  })

  both('a repeated idempotency key publishes once', async (kit) => {
    const channel = `past:${kit.tag}`
    const { got } = await kit.subscribed(await connectedUser(kit), channel)
    const first = await site.server.call('publish', { channel, data: 1, idempotency_key: kit.tag })
    assert.deepEqual(await site.server.call('publish', { channel, data: 1, idempotency_key: kit.tag }), first)
    await site.server.call('publish', { channel, data: 2 })
    await until(WAIT_MS, 'the second publication', () => got.includes(2))
    assert.deepEqual(got, [1, 2])
  })

  both('an older version is dropped', async (kit) => {
    const channel = `past:${kit.tag}`
    const { got } = await kit.subscribed(await connectedUser(kit), channel)
    for (const version of [1, 3, 2, 3, 4]) await site.server.call('publish', { channel, data: version, version })
    await site.server.call('publish', { channel, data: 'a new count', version: 1, version_epoch: 'new' })
    await until(WAIT_MS, 'the last publication', () => got.includes('a new count'))
    assert.deepEqual(got, [1, 3, 4, 'a new count'])
  })

  both('a publication that skips history', async (kit) => {
    const channel = `past:${kit.tag}`
    const { got, publications, subscription } = await kit.subscribed(await connectedUser(kit), channel)
    await site.server.call('publish', { channel, data: 'kept' })
    await site.server.call('publish', { channel, data: 'passing', skip_history: true })
    await until(WAIT_MS, 'both', () => got.length === 2)
    assert.deepEqual(publications.map(({ offset }) => offset ?? 0), [1, 0])
    assert.deepEqual((await subscription.history({ limit: 5 })).publications.map(({ data }) => kit.unpack(data)), ['kept'])
  })
})
