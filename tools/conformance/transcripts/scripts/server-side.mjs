// Subscriptions that the server makes and ends, and what the server API does to connections.
import { SECRET } from '../../tokens.mjs'

const history = { history_size: 10, history_ttl: '60s' }
export const config = {
  client: { token: { hmac_secret_key: SECRET }, subscribe_to_user_personal_channel: { enabled: true, personal_channel_namespace: 'me' } },
  channel: {
    without_namespace: { presence: true },
    namespaces: [
      { name: 'me', presence: true },
      { name: 'rec', force_recovery: true, ...history },
      { name: 'room', presence: true, join_leave: true, force_push_join_leave: true, allow_subscribe_for_client: true },
      { name: 'cache', force_recovery: true, force_recovery_mode: 'cache', ...history },
    ],
  },
}

// The scripts of a file share a server, and the server API speaks of users: each transcript has its own.
const connect = (name, user = name, rest = {}) => ({ on: name, send: [{ id: 1, connect: { token: { $token: { sub: user, info: { of: user }, ...rest } } } }] })
const api = (method, body) => ({ api: method, body })

export const transcripts = [
  { name: 'the personal channel', steps: [connect('a', 'u1'), api('publish', { channel: 'me:#u1', data: 'hello' }), { on: 'a', pushes: 1, channel: 'me:#u1' }] },
  { name: 'a user without a name has no personal channel', steps: [connect('a', '')] },
  { name: 'subscribe and unsubscribe a user', steps: [connect('a', 'u2'), connect('b', 'u2'), api('subscribe', { user: 'u2', channel: 'news' }), ...['a', 'b'].map((on) => ({ on, pushes: 1, channel: 'news' })), api('publish', { channel: 'news', data: 1 }), ...['a', 'b'].map((on) => ({ on, pushes: 2, channel: 'news' })), api('unsubscribe', { user: 'u2', channel: 'news' }), ...['a', 'b'].map((on) => ({ on, pushes: 3, channel: 'news' })), api('publish', { channel: 'news', data: 2 }), { on: 'a', settled: true }, { on: 'b', settled: true }] },
  { name: 'subscribe one client of a user', steps: [connect('a', 'u3'), connect('b', 'u3'), api('subscribe', { user: 'u3', channel: 'one', client: '$client.a', info: { role: 'x' }, data: { hello: 1 } }), { on: 'a', pushes: 1, channel: 'one' }, api('presence', { channel: 'one' }), { on: 'b', settled: true }] },
  { name: 'subscribe a user to a stream', steps: [connect('a', 'u4'), api('publish', { channel: 'rec:1', data: 1 }), api('subscribe', { user: 'u4', channel: 'rec:1' }), { on: 'a', pushes: 1, channel: 'rec:1' }, api('publish', { channel: 'rec:1', data: 2 }), { on: 'a', pushes: 2, channel: 'rec:1' }] },
  { name: 'subscribe a user to a stream since a position', steps: [connect('a', 'u5'), api('publish', { channel: 'rec:2', data: 1 }), api('publish', { channel: 'rec:2', data: 2 }), api('subscribe', { user: 'u5', channel: 'rec:2', recover_since: { offset: 1, epoch: '$epoch.rec:2' } }), { on: 'a', pushes: 1, channel: 'rec:2' }, { on: 'a', settled: true }] },
  { name: 'subscribe with overrides', steps: [connect('a', 'u6'), api('subscribe', { user: 'u6', channel: 'room:o', override: { presence: { value: false }, join_leave: { value: false }, force_push_join_leave: { value: false } } }), { on: 'a', pushes: 1, channel: 'room:o' }, api('presence', { channel: 'room:o' })] },
  { name: 'subscribe a user twice', steps: [connect('a', 'u7'), api('subscribe', { user: 'u7', channel: 'twice' }), { on: 'a', pushes: 1, channel: 'twice' }, api('subscribe', { user: 'u7', channel: 'twice' }), { on: 'a', pushes: 2, channel: 'twice' }] },
  { name: 'joins of server-side subscriptions', steps: [connect('a', 'u8'), api('subscribe', { user: 'u8', channel: 'room:j' }), { on: 'a', pushes: 2, channel: 'room:j' }, api('unsubscribe', { user: 'u8', channel: 'room:j' }), { on: 'a', pushes: 3, channel: 'room:j' }, { on: 'a', settled: true }] },
  { name: 'a client subscribes to what the server subscribed', steps: [connect('a', 'u9', { channels: ['room:c'] }), { on: 'a', pushes: 1, channel: 'room:c' }, { on: 'a', send: [{ id: 2, subscribe: { channel: 'room:c' } }, { id: 3, unsubscribe: { channel: 'room:c' } }] }, { on: 'a', settled: true }] },
  { name: 'unsubscribe of a subscription that the client made', steps: [connect('a', 'u10'), { on: 'a', send: [{ id: 2, subscribe: { channel: 'room:u' } }] }, { on: 'a', pushes: 1, channel: 'room:u' }, api('unsubscribe', { user: 'u10', channel: 'room:u' }), { on: 'a', pushes: 2, channel: 'room:u' }, { on: 'a', settled: true }] },
  { name: 'unsubscribe from a channel without subscribers', steps: [connect('a', 'u11'), api('unsubscribe', { user: 'u11', channel: 'nothing' }), { on: 'a', pushes: 1, channel: 'nothing' }] },
  { name: 'disconnect a user', steps: [connect('a', 'u12'), connect('b', 'u12'), api('disconnect', { user: 'u12' }), { on: 'a', closes: true }, { on: 'b', closes: true }] },
  { name: 'disconnect with a code', steps: [connect('a', 'u13'), api('disconnect', { user: 'u13', disconnect: { code: 4321, reason: 'come back later' } }), { on: 'a', closes: true }] },
  { name: 'disconnect one client', steps: [connect('a', 'u14'), connect('b', 'u14'), api('disconnect', { user: 'u14', client: '$client.a' }), { on: 'a', closes: true }, { on: 'b', settled: true }] },
  { name: 'disconnect all but one', steps: [connect('a', 'u15'), connect('b', 'u15'), api('disconnect', { user: 'u15', whitelist: ['$client.b'] }), { on: 'a', closes: true }, { on: 'b', settled: true }] },
  { name: 'refresh a connection', steps: [connect('a', 'u16', { exp: '$now+100' }), api('refresh', { user: 'u16', expire_at: '$now+300' }), { on: 'a', pushes: 1 }, api('refresh', { user: 'u16', expire_at: 0 }), { on: 'a', pushes: 2 }] },
  { name: 'refresh a connection with info', steps: [connect('a', 'u17', { exp: '$now+100', channels: ['room:i'] }), api('refresh', { user: 'u17', expire_at: '$now+300', info: { new: 1 } }), { on: 'a', pushes: 1 }] },
  { name: 'refresh a connection to its end', steps: [connect('a', 'u18', { exp: '$now+100' }), api('refresh', { user: 'u18', expired: true }), { on: 'a', closes: true }] },
  { name: 'the newest publication for a subscription by token', steps: [api('publish', { channel: 'cache:1', data: 1 }), api('publish', { channel: 'cache:1', data: 2 }), connect('a', 'u19', { channels: ['cache:1'] })] },
  { name: 'publications and joins of a server-side subscription', steps: [connect('a', 'u20', { channels: ['room:p'] }), connect('b', 'u21', { channels: ['room:p'] }), { on: 'a', pushes: 2, channel: 'room:p' }, api('publish', { channel: 'room:p', data: { x: 1 }, tags: { k: 'v' } }), { on: 'a', pushes: 3, channel: 'room:p' }, { on: 'b', leave: true }, { on: 'a', pushes: 4, channel: 'room:p' }] },
]
