// The HTTP API: every method, its refusals, batches, error modes and keys.
import { SECRET } from '../../tokens.mjs'

const history = { history_size: 3, history_ttl: '60s' }
export const config = {
  client: { token: { hmac_secret_key: SECRET } },
  channel: {
    without_namespace: { allow_subscribe_for_client: true },
    namespaces: [
      { name: 'log', ...history, allow_subscribe_for_client: true },
      { name: 'room', presence: true, allow_subscribe_for_client: true },
      { name: 'objects', publication_data_format: 'json_object' },
      { name: 'texts', publication_data_format: 'json' },
    ],
  },
}

const connect = (name, user, ...channels) => ({ on: name, send: [{ id: 1, connect: { token: { $token: { sub: user } } } }, ...channels.map((channel, at) => ({ id: 2 + at, subscribe: { channel } }))] })
const api = (method, body, rest = {}) => ({ api: method, body, ...rest })
const each = (name, method, ...bodies) => ({ name, steps: bodies.map((body) => api(method, body)) })
const transport = { 'x-centrifugo-error-mode': 'transport' }

export const transcripts = [
  each('publish', 'publish', { channel: 'a', data: { x: 1 } }, { channel: 'log:p', data: 1 }, { channel: 'log:p', data: 2, skip_history: true }, { channel: 'log:p', data: null }, { channel: 'log:p', b64data: 'eyJ4IjoxfQ==' }, { channel: 'log:p', data: 1, tags: { a: 'b' }, unknown: true }),
  each('publish refused', 'publish', {}, { channel: 'a' }, { channel: '', data: 1 }, { channel: 'nowhere:x', data: 1 }, { channel: 'objects:x', data: 1 }, { channel: 'objects:x', data: {} }, { channel: 'texts:x', b64data: 'bm90IGpzb24=' }, { channel: 'a', b64data: '???' }),
  { name: 'malformed bodies', steps: ['', '{', '[]', 'null', '{"channel":1,"data":1}', '{"channel":"a","data":1} '].map((raw) => ({ api: 'publish', raw })) },
  { name: 'base64 data reaches subscribers', steps: [connect('a', 'b64', 'log:b'), api('publish', { channel: 'log:b', b64data: 'eyJ4IjoxfQ==' }), { on: 'a', pushes: 1, channel: 'log:b' }] },
  { name: 'broadcast', steps: [connect('a', 'bc', 'log:c1', 'c2'), api('broadcast', { channels: ['log:c1', 'c2', 'nowhere:x', '', 'objects:x'], data: 'all' }), { on: 'a', pushes: 1, channel: 'log:c1' }, { on: 'a', pushes: 1, channel: 'c2' }] },
  each('broadcast refused', 'broadcast', {}, { channels: [], data: 1 }, { channels: ['a'] }, { channels: ['a'], b64data: '???' }),
  { name: 'broadcast with an idempotency key', steps: [api('broadcast', { channels: ['log:bi1', 'log:bi2'], data: 1, idempotency_key: 'k' }), api('broadcast', { channels: ['log:bi1', 'log:bi2'], data: 1, idempotency_key: 'k' })] },
  each('subscribe refused', 'subscribe', {}, { user: 'x' }, { user: 'x', channel: '' }, { user: 'x', channel: 'nowhere:x' }, { channel: 'a' }, { user: 'nobody', channel: 'a' }, { user: 'x', channel: 'a', b64info: '???' }),
  each('unsubscribe refused', 'unsubscribe', {}, { user: 'x', channel: 'nowhere:x' }, { user: 'nobody', channel: 'a' }, { user: 'x' }),
  each('disconnect refused', 'disconnect', {}, { user: 'nobody' }, { user: 'nobody', disconnect: { code: 1, reason: 'x' } }),
  each('refresh refused', 'refresh', {}, { user: 'nobody' }, { user: 'nobody', expire_at: 1 }),
  { name: 'presence', steps: [connect('a', 'pr1', 'room:p'), connect('b', 'pr2', 'room:p'), connect('c', 'pr2', 'room:p'), api('presence', { channel: 'room:p' }), api('presence_stats', { channel: 'room:p' }), api('presence', { channel: 'room:empty' }), api('presence_stats', { channel: 'room:empty' })] },
  each('presence refused', 'presence', {}, { channel: 'a' }, { channel: 'nowhere:x' }),
  each('presence_stats refused', 'presence_stats', {}, { channel: 'a' }, { channel: 'nowhere:x' }),
  { name: 'history', steps: [...[1, 2, 3, 4, 5].map((data) => api('publish', { channel: 'log:h', data, tags: data === 5 ? { last: 'yes' } : undefined })), ...[{}, { limit: 2 }, { limit: -1 }, { limit: 2, reverse: true }, { limit: 2, since: { offset: 3, epoch: '$epoch.log:h' } }, { limit: 2, since: { offset: 4, epoch: '$epoch.log:h' }, reverse: true }, { limit: 2, since: { offset: 3, epoch: 'other' } }, { limit: 2, since: { offset: 1, epoch: '$epoch.log:h' } }].map((rest) => api('history', { channel: 'log:h', ...rest }))] },
  each('history of a channel without publications', 'history', { channel: 'log:new' }, { channel: 'log:new', limit: 5 }),
  each('history refused', 'history', {}, { channel: 'a' }, { channel: 'nowhere:x' }),
  { name: 'history_remove', steps: [api('publish', { channel: 'log:r', data: 1 }), api('history_remove', { channel: 'log:r' }), api('history', { channel: 'log:r', limit: 5 }), api('publish', { channel: 'log:r', data: 2 }), api('history', { channel: 'log:r', limit: 5 })] },
  each('history_remove refused', 'history_remove', {}, { channel: 'a' }, { channel: 'nowhere:x' }, { channel: 'log:never' }),
  { name: 'channels', steps: [connect('a', 'ch1', 'ch-one', 'ch-two'), connect('b', 'ch2', 'ch-two', 'room:ch'), api('channels', { pattern: 'ch-*' }), api('channels', { pattern: 'ch-t??' }), api('channels', { pattern: '*:ch' }), api('channels', { pattern: 'zz*' })] },
  { name: 'info', steps: [api('info', {})] },
  each('rpc without a handler', 'rpc', {}, { method: 'any', params: {} }),
  { name: 'batch', steps: [api('batch', { commands: [{ publish: { channel: 'log:b1', data: 1 } }, { publish: { channel: 'nowhere:x', data: 1 } }, { broadcast: { channels: ['log:b1', 'b2'], data: 2 } }, { history: { channel: 'log:b1', limit: 5 } }, { presence: { channel: 'room:x' } }, { presence_stats: { channel: 'room:x' } }, { channels: { pattern: 'zz*' } }, { history_remove: { channel: 'log:b1' } }, { unsubscribe: { user: 'x', channel: 'b2' } }, { disconnect: { user: 'nobody' } }, { refresh: { user: 'nobody' } }, { subscribe: { user: 'nobody', channel: 'b2' } }, { rpc: { method: 'x' } }, {}, { fly: {} }] })] },
  { name: 'batch in parallel', steps: [api('batch', { parallel: true, commands: [{ publish: { channel: 'log:b2', data: 1 } }, { publish: { channel: 'nowhere:x', data: 1 } }, { presence: { channel: 'room:x' } }] })] },
  each('batch of nothing', 'batch', {}, { commands: [] }),
  { name: 'batch keeps the order of publications', steps: [connect('a', 'bo', 'log:bo'), api('batch', { commands: Array.from({ length: 20 }, (_, data) => ({ publish: { channel: 'log:bo', data } })) }), { on: 'a', pushes: 20, channel: 'log:bo' }] },
  { name: 'errors as statuses', steps: [['publish', {}], ['publish', { channel: 'nowhere:x', data: 1 }], ['presence', { channel: 'a' }], ['history', { channel: 'log:h', limit: 1, since: { offset: 1, epoch: 'other' } }], ['rpc', { method: 'x' }], ['publish', { channel: 'a', data: 1 }], ['batch', { commands: [{ publish: {} }] }]].map(([method, body]) => api(method, body, { headers: transport })) },
  { name: 'keys', steps: [
    api('info', {}, { key: 'wrong' }), api('info', {}, { key: null }),
    api('publish', { channel: 'a', data: 1 }, { key: null, headers: { authorization: 'apikey conformance' } }), api('publish', { channel: 'a', data: 1 }, { key: null, headers: { authorization: 'apikey wrong' } }), api('publish', { channel: 'a', data: 1 }, { key: null, headers: { authorization: 'Bearer conformance' } }),
    api('publish', { channel: 'a', data: 1 }, { key: null, query: '?api_key=conformance' }), api('publish', { channel: 'a', data: 1 }, { key: null, query: '?api_key=wrong' }),
  ] },
  { name: 'unknown methods and paths', steps: [{ api: 'nothing', body: {} }, { api: 'publish', method: 'GET' }, { api: '', body: {} }] },
]
