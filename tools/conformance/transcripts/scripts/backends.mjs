// Calls to the application's backend: what it is asked, and what its answers do. The application of these scripts says
// what the test asks for: the data of a command, or an earlier meta, holds the reply.
export const backend = (path, { data, meta, channel }) => data?.reply ?? meta?.[path] ?? (channel?.endsWith('?500') ? 500 : { result: {} })

const history = { history_size: 10, history_ttl: '60s' }
const proxied = (name, options = {}) => ({ name, subscribe_proxy_enabled: true, publish_proxy_enabled: true, ...options })

export const config = ({ url }) => {
  const proxy = (path) => ({ endpoint: `${url}/${path}`, timeout: '2s', http_headers: ['Cookie', 'X-Trace'], emulated_headers: ['X-Device'], include_connection_meta: true })
  return {
    client: {
      expired_sub_close_delay: '1s', presence_update_interval: '1s',
      proxy: { connect: { enabled: true, ...proxy('connect') }, refresh: { enabled: true, ...proxy('refresh') } },
    },
    channel: {
      proxy: { subscribe: proxy('subscribe'), publish: proxy('publish'), sub_refresh: proxy('sub_refresh') },
      namespaces: [
        proxied('px', { presence: true, sub_refresh_proxy_enabled: true }),
        proxied('log', { ...history, force_recovery: true, allow_history_for_client: true }),
        { name: 'open', allow_subscribe_for_client: true, presence: true, allow_presence_for_client: true },
        { name: 'rec', force_recovery: true, ...history },
      ],
    },
    rpc: { proxy: proxy('rpc'), without_namespace: { proxy_enabled: true }, namespaces: [{ name: 'off' }, { name: 'on', proxy_enabled: true }] },
  }
}

const user = { result: { user: 'ann', info: { name: 'Ann' }, data: { welcome: 1 }, meta: { secret: 1 } } }
const connect = (reply = user, rest = {}) => ({ on: 'a', send: [{ id: 1, connect: { data: { reply }, ...rest } }] })
const asks = (...commands) => ({ on: 'a', send: commands })
const subscribe = (id, channel, reply, rest = {}) => ({ id, subscribe: { channel, ...(reply !== undefined && { data: { reply } }), ...rest } })
const publish = (id, channel, reply, rest = {}) => ({ id, publish: { channel, data: { reply, ...rest } } })
const rpc = (id, method, reply, rest = {}) => ({ id, rpc: { method, data: { reply, ...rest } } })
const closes = { on: 'a', closes: true }
const settled = { on: 'a', settled: true }
const connects = (name, reply, ...rest) => ({ name: `connect: ${name}`, steps: [connect(reply), ...rest] })
const error = { error: { code: 1234, message: 'not today' } }
const temporary = { error: { code: 1235, message: 'later', temporary: true } }
const disconnect = { disconnect: { code: 4567, reason: 'go away' } }

/** A connection that ends in a second, and what the application then says. */
const refreshes = (name, reply, ...rest) => ({ name: `refresh: ${name}`, steps: [connect({ result: { user: 'ann', expire_at: '$now+1', meta: { refresh: reply } } }), ...rest] })
/** The same for a subscription. */
const subRefreshes = (name, reply, ...rest) => ({
  name: `sub_refresh: ${name}`,
  steps: [connect({ result: { user: 'ann', meta: { sub_refresh: reply } } }), asks(subscribe(2, 'px:e', { result: { expire_at: '$now+1' } })), ...rest],
})
const stays = [{ on: 'a', asked: 'sub_refresh' }, { api: 'publish', body: { channel: 'px:e', data: 1 } }, { on: 'a', pushes: 1, channel: 'px:e' }]
const ends = { on: 'a', pushes: 1, channel: 'px:e' }

export const transcripts = [
  connects('a user', user),
  connects('an empty result', { result: {} }),
  connects('no result at all', {}, closes),
  connects('an error', error), connects('a temporary error', temporary), connects('a disconnect', disconnect, closes),
  connects('a status', 500), connects('a malformed reply', 'text'),
  connects('channels', { result: { user: 'ann', channels: ['open:1', 'rec:1'] } }),
  connects('a channel of no namespace', { result: { user: 'ann', channels: ['nowhere:1'] } }),
  connects('subscriptions', { result: { user: 'ann', subs: { 'open:2': { data: { d: 1 }, info: { i: 1 } }, 'rec:2': { override: { force_recovery: { value: false } } } } } }, { api: 'presence', body: { channel: 'open:2' } }),
  connects('base64', { result: { user: 'ann', b64info: 'eyJpIjoxfQ==', b64data: 'eyJkIjoxfQ==' } }),
  connects('an end', { result: { user: 'ann', expire_at: '$now+100' } }),
  connects('an end that has been', { result: { user: 'ann', expire_at: 1 } }),
  { name: 'connect: what the backend receives', steps: [{ open: 'a', headers: { cookie: 'k=v', 'x-trace': 't', 'x-other': 'o' } }, connect(user, { name: 'js', version: '1', headers: { 'x-device': 'd', 'x-more': 'm' }, subs: { 'open:x': {} } }), asks(rpc(2, 'm', { result: { data: 1 } }))] },
  { name: 'connect: a token goes past the application', steps: [{ on: 'a', send: [{ id: 1, connect: { token: 'x' } }] }, closes] },

  { name: 'refresh: a client must not', steps: [connect({ result: { user: 'ann', expire_at: '$now+100' } }), asks({ id: 2, refresh: { token: 'x' } }), closes] },
  { name: 'refresh: prolonged', steps: [connect({ result: { user: 'ann', expire_at: '$now+1', meta: { refresh: { result: { expire_at: '$now+100' } } } } }), { on: 'a', asked: 'refresh' }, settled] },
  { name: 'refresh: expired', steps: [connect({ result: { user: 'ann', expire_at: '$now+1', meta: { refresh: { result: { expired: true } } } } }), closes] },

  refreshes('an empty result', { result: {} }, closes),
  refreshes('no result', {}, closes),
  refreshes('an end of zero', { result: { expire_at: 0 } }, closes),
  refreshes('an end before 1970', { result: { expire_at: -5 } }, closes),
  refreshes('an end that has been', { result: { expire_at: 1 } }, closes),
  refreshes('an error', error, closes),
  refreshes('an error without a code', { error: {} }, closes),
  refreshes('a disconnect', disconnect, closes),
  refreshes('a disconnect with a code of no close frame', { disconnect: { code: 1000 } }, closes),
  refreshes('a status', 500, { on: 'a', asked: 'refresh' }, settled),
  refreshes('a malformed reply', 'text', { on: 'a', asked: 'refresh' }, settled),

  subRefreshes('prolonged', { result: { expire_at: '$now+100' } }, ...stays),
  subRefreshes('an empty result', { result: {} }, ...stays),
  subRefreshes('an end before 1970', { result: { expire_at: -5 } }, ...stays),
  subRefreshes('a status', 500, ...stays),
  subRefreshes('a malformed reply', 'text', ...stays),
  subRefreshes('expired', { result: { expired: true } }, ends),
  subRefreshes('no result', {}, ends),
  subRefreshes('an error', error, ends),
  subRefreshes('a disconnect', disconnect, ends),

  { name: 'subscribe: allowed', steps: [connect(), asks(subscribe(2, 'px:1', { result: { info: { i: 1 }, data: { d: 1 } } }), subscribe(3, 'px:2')), { api: 'presence', body: { channel: 'px:1' } }] },
  { name: 'subscribe: base64', steps: [connect(), asks(subscribe(2, 'px:1', { result: { b64info: 'eyJpIjoxfQ==', b64data: 'eyJkIjoxfQ==' } })), { api: 'presence', body: { channel: 'px:1' } }] },
  { name: 'subscribe: refused', steps: [connect(), asks(subscribe(2, 'px:1', error), subscribe(3, 'px:2', temporary), subscribe(4, 'px:3', 500), subscribe(5, 'px:4', {})), settled] },
  { name: 'subscribe: a disconnect', steps: [connect(), asks(subscribe(2, 'px:1', disconnect)), closes] },
  { name: 'subscribe: overrides', steps: [connect(), asks(subscribe(2, 'px:1', { result: { override: { presence: { value: false }, join_leave: { value: true }, force_push_join_leave: { value: true }, force_positioning: { value: true } } } })), { on: 'a', pushes: 1, channel: 'px:1' }, { api: 'presence', body: { channel: 'px:1' } }] },
  { name: 'subscribe: an end, which the application prolongs', steps: [connect(), asks(subscribe(2, 'px:1', { result: { expire_at: '$now+100' } }), { id: 3, sub_refresh: { channel: 'px:1', token: 'x' } }), closes] },
  { name: 'subscribe: an expiry without a refresh', steps: [connect(), asks(subscribe(2, 'log:1', { result: { expire_at: '$now+100' } })), settled] },
  { name: 'subscribe: a private channel', steps: [connect(), asks(subscribe(2, '$px:1')), settled] },
  { name: 'subscribe: recovery', steps: [connect(), { api: 'publish', body: { channel: 'log:r', data: 1 } }, asks(subscribe(2, 'log:r', { result: {} }, { recover: true, offset: 0, epoch: '' }))] },

  { name: 'publish: as it was, and changed', steps: [connect(), asks(subscribe(2, 'px:p'), publish(3, 'px:p', { result: {} }), publish(4, 'px:p', { result: { data: { changed: 1 } } }), publish(5, 'px:p', { result: { b64data: 'eyJjaGFuZ2VkIjoyfQ==' } }), publish(6, 'px:p', { result: { tags: { k: 'v' } } })), { on: 'a', pushes: 4, channel: 'px:p' }] },
  { name: 'publish: kept and not kept', steps: [connect(), asks(subscribe(2, 'log:p'), publish(3, 'log:p', { result: { data: 1 } }), publish(4, 'log:p', { result: { data: 2, skip_history: true } })), { on: 'a', pushes: 2, channel: 'log:p' }, asks({ id: 5, history: { channel: 'log:p', limit: 5 } })] },
  { name: 'publish: refused', steps: [connect(), asks(publish(2, 'px:1', error), publish(3, 'px:1', temporary), publish(4, 'px:1', 500), publish(5, 'px:1', {})), settled] },
  { name: 'publish: a disconnect', steps: [connect(), asks(publish(2, 'px:1', disconnect)), closes] },

  { name: 'rpc: answers', steps: [connect(), asks(rpc(2, 'm', { result: { data: { x: 1 } } }), rpc(3, 'on:m', { result: { data: null } }), rpc(4, 'm', { result: {} }), rpc(5, 'm', { result: { b64data: 'eyJ4IjoyfQ==' } }), { id: 6, rpc: { data: { reply: { result: { data: 1 } } } } }, { id: 7, rpc: { method: 'm' } })] },
  { name: 'rpc: refused', steps: [connect(), asks(rpc(2, 'm', error), rpc(3, 'm', temporary), rpc(4, 'm', 500), rpc(5, 'm', 404), rpc(6, 'm', {}), rpc(7, 'off:m', { result: {} }), rpc(8, 'nowhere:m', { result: {} })), settled] },
  { name: 'rpc: a disconnect', steps: [connect(), asks(rpc(2, 'm', disconnect)), closes] },
]
