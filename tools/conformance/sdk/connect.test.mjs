// Who may connect and for how long: anonymous connections, tokens, their expiry and refresh.
import assert from 'node:assert/strict'
import { createServer } from 'node:http'
import { createHmac, generateKeyPairSync, sign } from 'node:crypto'
import { once } from 'node:events'
import { ORIGINAL, until } from '../server.mjs'
import { SECRET, ending, jwt, now } from '../tokens.mjs'
import { ENCODINGS } from '../wire.mjs'
import { WAIT_MS, event } from './clients.mjs'
import { scenarios } from './kit.mjs'

const INVALID = { code: 3500, reason: 'invalid token' }
const OPEN_ROOM = { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true, allow_presence_for_client: true, allow_presence_for_anonymous: true, presence: true }

scenarios('connections', {
  config: {
    client: {
      allow_anonymous_connect_without_token: true, expired_close_delay: '1s',
      token: { hmac_secret_key: SECRET, hmac_previous_secret_key: 'the secret before' },
    },
    channel: { without_namespace: OPEN_ROOM },
  },
}, (both, site) => {
  /** What the server knows of a connection, from a channel's presence. */
  async function known(kit, client) {
    const { subscription } = await kit.subscribed(client, `who-${kit.tag}`)
    return (await subscription.presence()).clients[client.context.client]
  }

  both('anonymous', async (kit) => {
    const client = await kit.connected()
    assert.match(client.context.client, /^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$/)
    const me = await known(kit, client)
    assert.equal(me.user, '')
    assert.equal(me.client, client.context.client)
    const { ping, pong, expires, version } = client.frames.received.find((reply) => reply.connect).connect
    assert.deepEqual([ping, pong, expires ?? false], [25, true, false])
    assert.equal(typeof version, 'string')
  })

  both('a token names the user and carries info', async (kit) => {
    const client = await kit.connected({ token: jwt({ sub: kit.user, info: { name: 'Ann' } }) })
    const me = await known(kit, client)
    assert.equal(me.user, kit.user)
    assert.deepEqual(kit.unpack(me.connInfo), { name: 'Ann' })
  })

  both('info may come as base64', async (kit) => {
    const client = await kit.connected({ token: jwt({ sub: kit.user, b64info: Buffer.from('{"name":"Bea"}').toString('base64') }) })
    assert.deepEqual(kit.unpack((await known(kit, client)).connInfo), { name: 'Bea' })
  })

  both('the token before a rotation of the secret is still good', async (kit) => {
    const client = await kit.connected({ token: jwt({ sub: kit.user }, 'the secret before') })
    assert.equal((await known(kit, client)).user, kit.user)
  })

  for (const [digest, alg] of [['sha384', 'HS384'], ['sha512', 'HS512']]) {
    both(`${alg} is understood`, async (kit) => {
      const [head, body] = jwt({ sub: kit.user }, SECRET, { alg, typ: 'JWT' }).split('.')
      const client = await kit.connected({ token: `${head}.${body}.${createHmac(digest, SECRET).update(`${head}.${body}`).digest('base64url')}` })
      assert.equal((await known(kit, client)).user, kit.user)
    })
  }

  const wrong = {
    'a wrong signature': () => jwt({ sub: 'x' }, 'another secret'),
    'no JWT at all': () => 'something else',
    'the algorithm none': () => jwt({ sub: 'x' }, SECRET, { alg: 'none', typ: 'JWT' }),
    'an algorithm without a key': () => jwt({ sub: 'x' }, SECRET, { alg: 'RS256', typ: 'JWT' }),
    'a channel claim, which belongs to subscriptions': () => jwt({ sub: 'x', channel: 'news' }),
    'claims that are no object': () => jwt('claims'),
  }
  for (const [what, token] of Object.entries(wrong)) {
    both(`refused for good: ${what}`, async (kit) => assert.deepEqual(await kit.refused({ token: token() }), INVALID))
  }

  for (const [what, stale] of [['expired', () => ending(-10, { sub: 'x' })], ['not yet good', () => jwt({ sub: 'x', nbf: now() + 100 })]]) {
    both(`a token that is ${what} is answered with 109, and the SDK comes back with another`, async (kit) => {
      let asked = 0
      const client = await kit.connected({ token: stale(), getToken: async () => { asked++; return jwt({ sub: kit.user }) } })
      assert.equal(asked, 1)
      const refused = client.frames.received.find((reply) => reply.error)
      assert.deepEqual(refused, { id: 1, error: { code: 109, message: 'token expired' } })
      assert.equal((await known(kit, client)).user, kit.user)
    })
  }

  both('the SDK refreshes its token in time and stays connected', async (kit) => {
    const ends = now() + 2
    let asked = 0
    const client = await kit.connected({ token: jwt({ sub: kit.user, exp: ends }), getToken: async () => { asked++; return ending(300, { sub: kit.user }) } })
    const lost = []
    client.on('connecting', (context) => lost.push(context))
    const { expires, ttl } = client.frames.received.find((reply) => reply.connect).connect
    assert.equal(expires, true)
    assert.ok(ttl === 1 || ttl === 2, `ttl ${ttl}`)
    await until(WAIT_MS, 'the answer to the refresh', () => client.frames.received.some((reply) => reply.refresh))
    const { refresh } = client.frames.received.find((reply) => reply.refresh)
    assert.deepEqual(Object.keys(refresh), ['expires', 'ttl'])
    assert.ok(refresh.ttl > 290 && refresh.ttl <= 300, `ttl ${refresh.ttl}`)
    await until(WAIT_MS, 'the old end and its grace', () => Date.now() > (ends + 2) * 1000)
    assert.ok((await known(kit, client)).user === kit.user)
    assert.deepEqual([asked, lost], [1, []])
  })

  both('a token without a refresh ends the connection with 3005', async (kit) => {
    const bare = await kit.bareConnected({ connect: { token: ending(2, { sub: kit.user }) } })
    assert.deepEqual(await bare.closing(), { code: 3005, reason: 'connection expired' })
  })

  both('the SDK comes back with a new token after 3005', async (kit) => {
    let asked = 0
    const client = await kit.connected({ token: ending(2, { sub: kit.user }), getToken: async () => {
      // The first answer takes too long, so that the server gives up on this connection.
      if (!asked++) await until(WAIT_MS, 'the disconnect', () => client.state !== 'connected')
      return ending(300, { sub: kit.user })
    } })
    const { code, reason } = await event(client, 'connecting', 'the loss')
    assert.deepEqual({ code, reason }, { code: 3005, reason: 'connection expired' })
    await client.ready(WAIT_MS)
  })

  both('expire_at overrides exp', async (kit) => {
    const forever = await kit.bareConnected({ connect: { token: ending(100, { sub: kit.user, expire_at: 0 }) } })
    const { connect } = await forever.reply(1)
    assert.deepEqual([connect.expires, connect.ttl], [undefined, undefined])
    const longer = await kit.bareConnected({ connect: { token: ending(100, { sub: kit.user, expire_at: now() + 500 }) } })
    const { ttl } = (await longer.reply(1)).connect
    assert.ok(ttl > 490 && ttl <= 500, `ttl ${ttl}`)
  })

  for (const [what, token] of [['another user', () => ending(100, { sub: 'another user' })], ['a wrong signature', () => jwt({ sub: 'x' }, 'wrong')]]) {
    both(`a refresh with ${what} closes with 3500`, async (kit) => {
      const bare = await kit.bareConnected({ connect: { token: ending(100, { sub: kit.user }) } })
      bare.send({ id: 2, refresh: { token: token() } })
      assert.deepEqual(await bare.closing(), INVALID)
    })
  }

  both('a refresh without a token closes with 3501', async (kit) => {
    const bare = await kit.bareConnected({ connect: { token: ending(100, { sub: kit.user }) } })
    bare.send({ id: 2, refresh: {} })
    assert.deepEqual(await bare.closing(), { code: 3501, reason: 'bad request' })
  })

  both('a refresh with an expired token closes with 3005', async (kit) => {
    const bare = await kit.bareConnected({ connect: { token: ending(100, { sub: kit.user }) } })
    bare.send({ id: 2, refresh: { token: ending(-5, { sub: kit.user }) } })
    assert.deepEqual(await bare.closing(), { code: 3005, reason: 'connection expired' })
  })

  both('the server API ends a connection early, or makes it last', async (kit) => {
    const bare = await kit.bareConnected({ connect: { token: ending(100, { sub: kit.user }) } })
    await site.server.call('refresh', { user: kit.user, expire_at: now() + 500 })
    const { push } = await bare.line((line) => line.push?.refresh, 'the refresh push')
    assert.equal(push.refresh.expires, true)
    assert.ok(push.refresh.ttl > 490 && push.refresh.ttl <= 500, `ttl ${push.refresh.ttl}`)
    await site.server.call('refresh', { user: kit.user, expired: true })
    assert.deepEqual(await bare.closing(), { code: 3005, reason: 'connection expired' })
  })
})

scenarios('connections that need a token', {
  config: { client: { disallow_anonymous_connection_tokens: true, token: { hmac_secret_key: SECRET, audience: 'chat', issuer: 'the application', user_id_claim: 'uid' } } },
}, (both) => {
  const claims = { aud: 'chat', iss: 'the application', uid: '42' }
  both('no token is a bad request, for good', async (kit) => assert.deepEqual(await kit.refused(), { code: 3501, reason: 'bad request' }))
  both('audience and issuer as configured', async (kit) => { await kit.connected({ token: jwt(claims) }) })
  both('an audience among several', async (kit) => { await kit.connected({ token: jwt({ ...claims, aud: ['mail', 'chat'] }) }) })
  both('another audience', async (kit) => assert.deepEqual(await kit.refused({ token: jwt({ ...claims, aud: 'mail' }) }), INVALID))
  both('another issuer', async (kit) => assert.deepEqual(await kit.refused({ token: jwt({ ...claims, iss: 'another' }) }), INVALID))
  both('a token without a user where that is not allowed', async (kit) => assert.deepEqual(await kit.refused({ token: jwt({ ...claims, uid: '' }) }), { code: 3507, reason: 'permission denied' }))
})

// Keys of three kinds, once as PEM in the configuration and once from a key server.
const rsa = generateKeyPairSync('rsa', { modulusLength: 2048 })
const ec = generateKeyPairSync('ec', { namedCurve: 'P-256' })
const ed = generateKeyPairSync('ed25519')
const pem = ({ publicKey }) => publicKey.export({ type: 'spki', format: 'pem' })

function signed(alg, { privateKey }, claims, kid) {
  const parts = [{ alg, typ: 'JWT', ...(kid && { kid }) }, claims].map((part) => Buffer.from(JSON.stringify(part)).toString('base64url')).join('.')
  const digest = alg === 'EdDSA' ? null : `sha${alg.slice(2)}`
  return `${parts}.${sign(digest, Buffer.from(parts), { key: privateKey, dsaEncoding: 'ieee-p1363' }).toString('base64url')}`
}

scenarios('connections with public keys of the configuration', {
  config: { client: { token: { rsa_public_key: pem(rsa), ecdsa_public_key: pem(ec) } } },
}, (both) => {
  for (const [alg, key] of [['RS256', rsa], ['RS384', rsa], ['RS512', rsa], ['ES256', ec]]) {
    both(`${alg} is understood`, async (kit) => { await kit.connected({ token: signed(alg, key, { sub: kit.user }) }) })
  }
  both("another's RSA key", async (kit) => {
    const other = generateKeyPairSync('rsa', { modulusLength: 2048 })
    assert.deepEqual(await kit.refused({ token: signed('RS256', other, { sub: 'x' }) }), INVALID)
  })
  both('the public key taken for an HMAC secret', async (kit) => assert.deepEqual(await kit.refused({ token: jwt({ sub: 'x' }, pem(rsa)) }), INVALID))
})

async function keyServer() {
  const site = { asked: 0, keys: [] }
  const listener = createServer((request, response) => {
    site.asked++
    if (!site.keys) response.statusCode = 503
    response.end(JSON.stringify({ keys: site.keys }))
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const jwk = (key, kid, alg) => ({ ...key.publicKey.export({ format: 'jwk' }), kid, alg, use: 'sig' })
  site.keys = [jwk(rsa, 'r1', 'RS256'), jwk(ec, 'e1', 'ES256'), jwk(ed, 'd1', 'EdDSA')]
  site.url = `http://127.0.0.1:${listener.address().port}/keys`
  site.close = () => listener.close()
  site.add = (key, kid, alg) => site.keys.push(jwk(key, kid, alg))
  return site
}

scenarios('connections with keys of a key server', {
  prepare: keyServer,
  config: ({ url }) => ({ client: { token: { jwks_public_endpoint: url } } }),
}, (both, site) => {
  for (const [alg, key, kid] of [['RS256', rsa, 'r1'], ['ES256', ec, 'e1'], ['EdDSA', ed, 'd1']]) {
    both(`${alg} is understood`, async (kit) => { await kit.connected({ token: signed(alg, key, { sub: kit.user }, kid) }) })
  }
  both('a key that came later is found, and asked for once', async (kit) => {
    const later = generateKeyPairSync('ec', { namedCurve: 'P-256' })
    const kid = `later-${kit.tag}`
    site.backend.add(later, kid, 'ES256')
    const before = site.backend.asked
    await kit.connected({ token: signed('ES256', later, { sub: kit.user }, kid) })
    const after = site.backend.asked
    assert.ok(after > before)
    await kit.connected({ token: signed('ES256', later, { sub: kit.user }, kid) })
    assert.ok(site.backend.asked <= after + 1, 'kept after the first time')
  })
  both('a key that does not exist', async (kit) => assert.deepEqual(await kit.refused({ token: signed('RS256', rsa, { sub: 'x' }, 'nowhere') }), INVALID))
})

/** A key server that answers with 503 until clients in both encodings have met that. */
async function absentKeyServer() {
  const site = await keyServer()
  let missing = ENCODINGS.length
  const { keys } = site
  site.keys = undefined
  site.met = () => { if (--missing === 0) site.keys = keys }
  return site
}

// The original refuses such tokens for good.
scenarios('a key server that is away', {
  prepare: absentKeyServer,
  config: ({ url }) => ({ client: { token: { jwks_public_endpoint: url } } }),
  options: { skip: ORIGINAL },
}, (both, site) => {
  both('the SDK goes on trying, and is connected when the keys are back', async (kit) => {
    const client = kit.client({ token: signed('RS256', rsa, { sub: kit.user }, 'r1') })
    const gone = []
    client.on('disconnected', (context) => gone.push(context))
    const connected = event(client, 'connected')
    const { error } = await new Promise((resolve) => { client.once('error', resolve); client.connect() })
    assert.deepEqual({ code: error.code, message: error.message, temporary: error.temporary }, { code: 100, message: 'internal server error', temporary: true })
    site.backend.met()
    await connected
    assert.deepEqual(gone, [])
  })
})
