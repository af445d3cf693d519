// The unidirectional WebSocket: a connect request in, pushes out.
import { SECRET } from '../../tokens.mjs'

const history = { history_size: 10, history_ttl: '60s' }
export const config = {
  client: { token: { hmac_secret_key: SECRET }, allow_anonymous_connect_without_token: true },
  uni_websocket: { enabled: true },
  channel: {
    without_namespace: { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true },
    namespaces: [
      { name: 'rec', force_recovery: true, allow_subscribe_for_client: true, ...history },
      { name: 'room', presence: true, join_leave: true, force_push_join_leave: true },
      { name: 'auto', force_recovery: true, force_recovery_mode: 'cache', auto_cache_recover: true, ...history },
    ],
  },
}

// There is no Protobuf here: every script is for JSON.
const transcript = (name, ...steps) => ({ name, only: 'json', steps })
const asked = (request) => ({ open: 'u', uni: true, query: { cf_connect: request } })
const pushed = (pushes, channel) => ({ on: 'u', pushes, channel })
const closes = { on: 'u', closes: true }
const api = (method, body) => ({ api: method, body })

export const transcripts = [
  transcript('connect by the URL', asked({}), pushed(1)),
  transcript('connect by the first frame', { open: 'u', uni: true }, { on: 'u', raw: { json: '{"subs":{"plain":{}}}' } }, pushed(1), api('publish', { channel: 'plain', data: { x: 1 }, tags: { k: 'v' } }), pushed(1, 'plain')),
  transcript('the first frame is null', { open: 'u', uni: true }, { on: 'u', raw: { json: 'null' } }, pushed(1)),
  transcript('the first frame is no JSON', { open: 'u', uni: true }, { on: 'u', raw: { json: '{' } }, closes),
  transcript('frames after the first are not looked at', asked({}), pushed(1), { on: 'u', raw: { json: '{' } }, { on: 'u', raw: { json: '{"id":1,"subscribe":{"channel":"plain"}}' } }, api('publish', { channel: 'plain', data: 1 })),
  transcript('a token with channels', asked({ token: { $token: { sub: 'u1', channels: ['plain', 'rec:1'], exp: '$now+100' } } }), pushed(1), api('publish', { channel: 'rec:1', data: 1 }), pushed(1, 'rec:1')),
  transcript('a token that has expired', asked({ token: { $token: { sub: 'u2', exp: '$now-10' } } }), closes),
  transcript('a malformed token', asked({ token: 'x' }), closes),
  transcript('recovery', api('publish', { channel: 'rec:2', data: 1 }), api('publish', { channel: 'rec:2', data: 2 }), asked({ subs: { 'rec:2': { recover: true, offset: 1, epoch: '$epoch.rec:2' } }, token: { $token: { sub: 'u3' } } }), pushed(1)),
  transcript('the newest', api('publish', { channel: 'auto:1', data: 1 }), asked({ token: { $token: { sub: 'u4', channels: ['auto:1'] } } }), pushed(1)),
  transcript('joins, leaves, subscribe and unsubscribe', asked({ token: { $token: { sub: 'u5' } } }), pushed(1), api('subscribe', { user: 'u5', channel: 'room:1', data: { hello: 1 } }), pushed(2, 'room:1'), api('unsubscribe', { user: 'u5', channel: 'room:1' }), pushed(3, 'room:1')),
  transcript('refresh', asked({ token: { $token: { sub: 'u6', exp: '$now+100' } } }), pushed(1), api('refresh', { user: 'u6', expire_at: '$now+200' }), pushed(2)),
  transcript('disconnect', asked({ token: { $token: { sub: 'u7' } } }), pushed(1), api('disconnect', { user: 'u7' }), closes),
  transcript('disconnect with a code that lets reconnect', asked({ token: { $token: { sub: 'u8' } } }), pushed(1), api('disconnect', { user: 'u8', disconnect: { code: 4001, reason: 'again' } }), closes),
]
