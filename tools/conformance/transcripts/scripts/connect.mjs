// Connecting, and what a connection may do about itself.
import { SECRET } from '../../tokens.mjs'

const history = { history_size: 10, history_ttl: '60s' }
export const config = {
  client: { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET } },
  channel: {
    without_namespace: { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true },
    namespaces: [
      { name: 'safe', force_recovery: true, presence: true, ...history },
      { name: 'mine', allow_user_limited_channels: true },
      { name: 'shut' },
    ],
  },
}

const anonymous = { id: 1, connect: {} }
const token = (claims) => ({ id: 1, connect: { token: { $token: claims } } })

export const transcripts = [
  { name: 'an anonymous connection', steps: [{ on: 'a', send: [anonymous] }] },
  { name: 'a name, a version and data are taken', steps: [{ on: 'a', send: [{ id: 7, connect: { name: 'js', version: '1.0', data: { any: 'thing' } } }] }] },
  { name: 'unknown fields are ignored', only: 'json', steps: [{ on: 'a', raw: { json: '{"id":1,"unknown":true,"connect":{"other":{"x":1}}}' }, replies: [1] }] },
  { name: 'a token that expires', steps: [{ on: 'a', send: [token({ sub: 'ann', exp: '$now+100' })] }] },
  { name: 'a token that has expired', steps: [{ on: 'a', send: [token({ sub: 'ann', exp: '$now-100' })] }] },
  { name: 'commands behind a connect that fails', endIsFree: true, steps: [{ on: 'a', send: [token({ sub: 'ann', exp: '$now-100' }), { id: 2, subscribe: { channel: 'x' } }], wait: [1] }] },
  { name: 'a wrong signature', steps: [{ on: 'a', send: [{ id: 1, connect: { token: { $token: { sub: 'ann' }, secret: 'wrong' } } }] }, { on: 'a', closes: true }] },
  { name: 'a second connect', steps: [{ on: 'a', send: [anonymous] }, { on: 'a', send: [{ id: 2, connect: {} }] }, { on: 'a', closes: true }] },
  { name: 'a second connect in the same frame', steps: [{ on: 'a', send: [anonymous, { id: 2, connect: {} }] }, { on: 'a', closes: true }] },
  { name: 'connect and subscribes in one frame', steps: [{ on: 'a', send: [anonymous, { id: 2, subscribe: { channel: 'x' } }, { id: 3, subscribe: { channel: 'shut:x' } }, { id: 4, subscribe: { channel: 'nowhere:x' } }] }] },
  { name: 'server-side channels of a token', steps: [{ on: 'a', send: [token({ sub: 'ann', channels: ['plain', 'safe:tokens'] })] }] },
  { name: 'server-side subscriptions of a token, with data', steps: [
    { on: 'a', send: [token({ sub: 'ann', info: { n: 1 }, subs: { plain: { data: { hello: 1 } }, 'safe:subs': { info: { role: 'x' } }, over: { override: { presence: { value: true } } } } })] },
    { api: 'presence', body: { channel: 'safe:subs' } },
    { api: 'presence', body: { channel: 'over' } },
  ] },
  { name: 'subs override channels in a token', steps: [{ on: 'a', send: [token({ sub: 'ann', channels: ['one'], subs: { two: {} } })] }] },
  { name: 'a token with a channel of no namespace', steps: [{ on: 'a', send: [token({ sub: 'ann', channels: ['nowhere:x'] })] }] },
  { name: 'channels that the client asks for', steps: [{ on: 'a', send: [{ id: 1, connect: { token: { $token: { sub: 'ann' } }, subs: { plain: {}, 'mine:x#ann': {}, 'mine:x#bob': {}, 'shut:x': {}, $priv: {} } } }] }] },
  { name: 'a channel of no namespace that the client asks for', steps: [{ on: 'a', send: [{ id: 1, connect: { subs: { 'nowhere:x': {} } } }] }, { on: 'a', closes: true }] },
  { name: 'recovery of a server-side subscription', steps: [
    { on: 'a', send: [token({ sub: 'ann', channels: ['safe:back'] })] },
    { on: 'a', leave: true },
    { api: 'publish', body: { channel: 'safe:back', data: 1 } },
    { api: 'publish', body: { channel: 'safe:back', data: 2 } },
    { on: 'b', send: [{ id: 1, connect: { token: { $token: { sub: 'ann', channels: ['safe:back'] } }, subs: { 'safe:back': { recover: true, offset: 0, epoch: '$epoch.safe:back' } } } }] },
    { on: 'c', send: [{ id: 1, connect: { token: { $token: { sub: 'ann', channels: ['safe:back'] } }, subs: { 'safe:back': { recover: true, offset: 1, epoch: 'other' } } } }] },
  ] },
  { name: 'a refresh', steps: [{ on: 'a', send: [token({ sub: 'ann', exp: '$now+100' })] }, { on: 'a', send: [{ id: 2, refresh: { token: { $token: { sub: 'ann', exp: '$now+200' } } } }] }, { on: 'a', send: [{ id: 3, refresh: { token: { $token: { sub: 'ann' } } } }] }] },
  { name: 'a refresh that changes the server-side channels', steps: [{ on: 'a', send: [token({ sub: 'ann', exp: '$now+100', channels: ['one'] })] }, { on: 'a', send: [{ id: 2, refresh: { token: { $token: { sub: 'ann', exp: '$now+200', channels: ['two'] } } } }] }, { on: 'a', closes: true }] },
  { name: 'a refresh with a token that has expired', steps: [{ on: 'a', send: [token({ sub: 'ann', exp: '$now+100' })] }, { on: 'a', send: [{ id: 2, refresh: { token: { $token: { sub: 'ann', exp: '$now-1' } } } }] }, { on: 'a', closes: true }] },
  { name: "a refresh with another user's token", steps: [{ on: 'a', send: [token({ sub: 'ann', exp: '$now+100' })] }, { on: 'a', send: [{ id: 2, refresh: { token: { $token: { sub: 'bob' } } } }] }, { on: 'a', closes: true }] },
  { name: 'a refresh without a token', steps: [{ on: 'a', send: [token({ sub: 'ann' })] }, { on: 'a', send: [{ id: 2, refresh: {} }] }, { on: 'a', closes: true }] },
  { name: 'a refresh of an anonymous connection', steps: [{ on: 'a', send: [anonymous] }, { on: 'a', send: [{ id: 2, refresh: { token: { $token: { sub: '', exp: '$now+50' } } } }] }] },
  { name: 'a subscribe before connect', steps: [{ on: 'a', send: [{ id: 1, subscribe: { channel: 'x' } }] }, { on: 'a', closes: true }] },
  { name: 'a connect without an id', steps: [{ on: 'a', send: [{ connect: {} }], wait: [] }, { on: 'a', closes: true }] },
]
