// The unidirectional WebSocket, as an application without an SDK uses it: what it asks for is in the URL or in the
// first frame, and from then on it only listens.
import assert from 'node:assert/strict'
import { after, before, describe, test } from 'node:test'
import { startServer, until } from '../server.mjs'
import { SECRET, jwt } from '../tokens.mjs'
import { decodePushFrame } from '../wire.mjs'
import { Bare, WAIT_MS } from './clients.mjs'

const config = {
  client: { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET }, ping_interval: '1s', pong_timeout: '500ms', stale_close_delay: '1s' },
  uni_websocket: { enabled: true },
  channel: { without_namespace: { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true } },
}

describe('the unidirectional WebSocket', { concurrency: 4 }, () => {
  let server
  const open = []
  before(async () => { server = await startServer({ config }) })
  after(async () => {
    for (const bare of open) bare.socket.terminate()
    await server?.stop()
  })
  async function listen(query = '') {
    const bare = await Bare.open(`${server.uni}${query}`, { decode: decodePushFrame, answerPings: false })
    open.push(bare)
    return bare
  }
  const connecting = (request) => listen(`?cf_connect=${encodeURIComponent(JSON.stringify(request))}`)
  const connected = (bare) => bare.line((line) => line.connect, 'the connect push')

  test('connects by the URL and gets what is published', async () => {
    const bare = await connecting({ subs: { 'by-url': {} } })
    const { connect } = await connected(bare)
    assert.deepEqual([Object.keys(connect.subs), connect.ping, connect.pong], [['by-url'], 1, undefined])
    await server.call('publish', { channel: 'by-url', data: { x: 1 } })
    assert.deepEqual(await bare.line((line) => line.pub, 'the publication'), { channel: 'by-url', pub: { data: { x: 1 } } })
  })

  test('connects by the first frame', async () => {
    const bare = await listen()
    bare.send('{"subs":{"by-frame":{}}}')
    assert.deepEqual(Object.keys((await connected(bare)).connect.subs), ['by-frame'])
    bare.send('{"anything":')
    await server.call('publish', { channel: 'by-frame', data: 1 })
    await bare.line((line) => line.pub, 'the publication')
  })

  test('a token brings channels of its own', async () => {
    const bare = await connecting({ token: jwt({ sub: 'uni-1', channels: ['by-token'] }) })
    assert.deepEqual(Object.keys((await connected(bare)).connect.subs), ['by-token'])
    await server.call('disconnect', { user: 'uni-1' })
    assert.deepEqual((await bare.line((line) => line.disconnect, 'the disconnect push')).disconnect.code, 3503)
    assert.deepEqual(await bare.closing(), { code: 3503, reason: 'force disconnect' })
  })

  test('is pinged in both ways, and answers only with the pong of its WebSocket', async () => {
    const bare = await connecting({})
    let native = 0
    bare.socket.on('ping', () => native++)
    await until(WAIT_MS, 'pings', () => bare.pings >= 3 && native >= 2)
    assert.equal(bare.socket.readyState, 1)
  })

  test('a silent connection is stale', async () => {
    assert.equal((await (await listen()).closing()).code, 3502)
  })

  test('a malformed connect request is refused', async () => {
    await assert.rejects(listen('?cf_connect=%7B'), /400/)
    const bare = await listen()
    bare.send('{')
    assert.deepEqual(await bare.closing(), { code: 3501, reason: 'bad request' })
  })
})
