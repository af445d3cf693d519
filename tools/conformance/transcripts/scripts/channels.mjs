// Subscribe, unsubscribe, publish, presence and their refusals.
import { SECRET } from '../../tokens.mjs'

const history = { history_size: 10, history_ttl: '60s' }
export const config = {
  client: { allow_anonymous_connect_without_token: true, channel_limit: 3, token: { hmac_secret_key: SECRET } },
  channel: {
    max_length: 20,
    namespaces: [
      { name: 'open', allow_subscribe_for_client: true, allow_publish_for_client: true },
      { name: 'talk', allow_subscribe_for_client: true, allow_publish_for_subscriber: true },
      { name: 'own', allow_user_limited_channels: true },
      { name: 'room', allow_subscribe_for_client: true, allow_publish_for_client: true, presence: true, join_leave: true, force_push_join_leave: true, allow_presence_for_subscriber: true },
      { name: 'quiet', allow_subscribe_for_client: true, presence: true, join_leave: true, allow_presence_for_subscriber: true },
      { name: 'shape', allow_subscribe_for_client: true, channel_regex: '^[0-9]+$' },
      { name: 'objects', allow_subscribe_for_client: true, allow_publish_for_client: true, publication_data_format: 'json_object' },
      { name: 'pos', allow_subscribe_for_client: true, force_positioning: true, ...history },
      { name: 'rec', allow_subscribe_for_client: true, force_recovery: true, allow_publish_for_client: true, ...history },
      { name: 'may', allow_subscribe_for_client: true, allow_positioning: true, allow_recovery: true, ...history },
      { name: 'hist', allow_subscribe_for_client: true, allow_history_for_subscriber: true, ...history },
      { name: 'none', allow_subscribe_for_client: true, ...history },
      { name: 'diff', allow_subscribe_for_client: true, allowed_delta_types: ['fossil'], delta_publish: true },
      { name: 'tags', allow_subscribe_for_client: true, allow_tags_filter: true },
    ],
  },
}

const as = (name, user = name) => ({ on: name, send: [{ id: 1, connect: { token: { $token: { sub: user, info: { of: user } } } } }] })
const ann = as('ann')
const onAnn = (...commands) => ({ on: 'ann', send: commands })
const subscribe = (id, channel, rest = {}) => ({ id, subscribe: { channel, ...rest } })
const closes = { on: 'ann', closes: true }
const subToken = (claims, secret) => ({ $token: { sub: 'ann', ...claims }, secret })
const one = (name, ...commands) => ({ name, steps: [ann, onAnn(...commands)] })

export const transcripts = [
  one('subscribe and unsubscribe', subscribe(2, 'open:1'), { id: 3, unsubscribe: { channel: 'open:1' } }, { id: 4, unsubscribe: { channel: 'open:1' } }, { id: 5, unsubscribe: { channel: 'never' } }),
  one('subscribe twice', subscribe(2, 'open:2'), subscribe(3, 'open:2')),
  one('subscribe again after unsubscribe', subscribe(2, 'open:3'), { id: 3, unsubscribe: { channel: 'open:3' } }, subscribe(4, 'open:3')),
  one('a name too long', subscribe(2, 'open:67890123456789012'), subscribe(3, 'open:678901234567890')),
  one('the channel limit', subscribe(2, 'open:a'), subscribe(3, 'open:b'), subscribe(4, 'open:c'), subscribe(5, 'open:d'), { id: 6, unsubscribe: { channel: 'open:a' } }, subscribe(7, 'open:d')),
  one('no permission', subscribe(2, 'x'), subscribe(3, '$open:x'), subscribe(4, 'own:x#bob')),
  one('an unknown namespace', subscribe(2, 'nowhere:x'), subscribe(3, '$nowhere:x')),
  one('a namespace without a name', subscribe(2, ':x')),
  one('names that do not fit', subscribe(2, 'shape:12'), subscribe(3, 'shape:no'), subscribe(4, 'open:ä')),
  { name: 'an empty name', steps: [ann, onAnn(subscribe(2, '')), { on: 'ann', settled: true }] },
  { name: 'the anonymous user in channels of users', steps: [{ on: 'nobody', send: [{ id: 1, connect: {} }] }, { on: 'nobody', send: [subscribe(2, 'own:x#ann,'), subscribe(3, 'own:x#'), subscribe(4, 'own:x#ann')] }, { on: 'nobody', settled: true }] },
  one('user-limited channels', subscribe(2, 'own:x#ann'), subscribe(3, 'own:x#bob,ann'), subscribe(4, 'own:x#annie'), subscribe(5, 'own:x')),
  { name: 'an anonymous user where users are allowed', steps: [{ on: 'a', send: [{ id: 1, connect: {} }, subscribe(2, 'open:x'), { id: 3, publish: { channel: 'open:x', data: 1 } }] }] },
  one('a token for a channel', subscribe(2, 'by-token', { token: subToken({ channel: 'by-token' }) }), subscribe(3, '$open:t', { token: subToken({ channel: '$open:t', info: { role: 1 }, data: { hello: 1 } }) })),
  one('a token for a channel that expires', subscribe(2, 'by-token', { token: subToken({ channel: 'by-token', exp: '$now+100' }) }), { id: 3, sub_refresh: { channel: 'by-token', token: subToken({ channel: 'by-token', exp: '$now+200' }) } }, { id: 4, sub_refresh: { channel: 'by-token', token: subToken({ channel: 'by-token' }) } }),
  one('a token for a channel with expire_at', subscribe(2, 'by-token', { token: subToken({ channel: 'by-token', exp: '$now+100', expire_at: 0 }) })),
  one('a token for a channel that has expired', subscribe(2, 'by-token', { token: subToken({ channel: 'by-token', exp: '$now-1' }) })),
  one('a token for a channel with a wrong signature', subscribe(2, 'open:x', { token: subToken({ channel: 'open:x' }, 'wrong') })),
  one('a token for a channel of no namespace', subscribe(2, 'nowhere:x', { token: subToken({ channel: 'nowhere:x' }) })),
  { name: 'a token for another channel', steps: [ann, onAnn(subscribe(2, 'open:x', { token: subToken({ channel: 'open:y' }) })), closes] },
  { name: 'a token of another user', steps: [ann, onAnn(subscribe(2, 'open:x', { token: subToken({ channel: 'open:x', sub: 'bob' }) })), closes] },
  { name: 'a token of another client', steps: [ann, onAnn(subscribe(2, 'open:x', { token: subToken({ channel: 'open:x', client: 'other' }) })), closes] },
  one('a token of this client', subscribe(2, 'by-token', { token: subToken({ channel: 'by-token', client: '$client.ann' }) })),
  { name: 'overrides of a token', steps: [ann, onAnn(subscribe(2, 'hist:o', { token: subToken({ channel: 'hist:o', override: { presence: { value: true }, join_leave: { value: true }, force_push_join_leave: { value: true }, force_recovery: { value: true } } }) })), { on: 'ann', pushes: 1, channel: 'hist:o' }] },
  one('overrides of a token that take away', subscribe(2, 'rec:o', { token: subToken({ channel: 'rec:o', override: { force_recovery: { value: false } } }) })),
  { name: 'a sub_refresh with a token that has expired', steps: [ann, onAnn(subscribe(2, 'by-token', { token: subToken({ channel: 'by-token', exp: '$now+100' }) }), { id: 3, sub_refresh: { channel: 'by-token', token: subToken({ channel: 'by-token', exp: '$now-1' }) } }), { on: 'ann', settled: true }] },
  { name: 'a sub_refresh without a token', steps: [ann, onAnn(subscribe(2, 'by-token', { token: subToken({ channel: 'by-token', exp: '$now+100' }) }), { id: 3, sub_refresh: { channel: 'by-token' } }), { on: 'ann', settled: true }] },
  { name: 'a sub_refresh for a channel without a subscription', steps: [ann, onAnn({ id: 3, sub_refresh: { channel: 'by-token', token: subToken({ channel: 'by-token' }) } }), { on: 'ann', settled: true }] },
  { name: 'a sub_refresh of a subscription without an end', steps: [ann, onAnn(subscribe(2, 'open:f'), { id: 3, sub_refresh: { channel: 'open:f', token: subToken({ channel: 'open:f', exp: '$now+100' }) } }), { on: 'ann', settled: true }] },
  { name: 'a sub_refresh with a token of another user', steps: [ann, onAnn(subscribe(2, 'by-token', { token: subToken({ channel: 'by-token', exp: '$now+100' }) }), { id: 3, sub_refresh: { channel: 'by-token', token: subToken({ channel: 'by-token', sub: 'bob' }) } }), closes] },
  one('positions and recovery that the namespace forces', subscribe(2, 'pos:1'), subscribe(3, 'rec:1')),
  one('positions and recovery that the client asks for', subscribe(2, 'may:1', { positioned: true }), subscribe(3, 'may:2', { recoverable: true }), subscribe(4, 'may:3')),
  one('positions and recovery with permission for history', subscribe(2, 'hist:1', { positioned: true, recoverable: true })),
  one('positions and recovery asked for in vain', subscribe(2, 'none:1', { positioned: true, recoverable: true }), subscribe(3, 'open:1', { positioned: true, recoverable: true, join_leave: true })),
  one('deltas', subscribe(2, 'diff:1', { delta: 'fossil' }), subscribe(3, 'open:1', { delta: 'fossil' }), subscribe(4, 'diff:2', { delta: 'other' })),
  one('a filter by tags', subscribe(2, 'tags:1', { tf: { key: 'k', cmp: 'eq', val: 'v' } }), subscribe(3, 'tags:2', { tf: { op: 'and', nodes: [{ key: 'k', cmp: 'in', vals: ['a', 'b'] }, { op: 'not', nodes: [{ key: 'k', cmp: 'ex' }] }] } })),
  one('a filter in a namespace without filters', subscribe(2, 'open:1', { tf: { key: 'k', cmp: 'eq', val: 'v' } })),
  ...Object.entries({ 'no comparison': { key: 'k' }, 'an unknown comparison': { key: 'k', cmp: 'like', val: 'x' }, 'an unknown operator': { op: 'xor', nodes: [{ key: 'k', cmp: 'ex' }] }, 'not of two': { op: 'not', nodes: [{ key: 'k', cmp: 'ex' }, { key: 'k', cmp: 'ex' }] }, 'and of none': { op: 'and' }, 'no key': { cmp: 'eq', val: 'v' }, 'a number that is none': { key: 'k', cmp: 'gt', val: 'many' }, 'in without values': { key: 'k', cmp: 'in' }, 'values for eq': { key: 'k', cmp: 'eq', vals: ['v'] } })
    .map(([what, tf]) => one(`a malformed filter: ${what}`, subscribe(2, 'tags:1', { tf }))),
  one('a subscription of a type that is not allowed', subscribe(2, 'open:1', { type: 1 }), subscribe(3, 'open:2', { type: 2 })),
  one('data of a subscribe is for a backend only', subscribe(2, 'open:1', { data: { any: 1 } })),

  { name: 'a publication of a client', steps: [ann, as('bob'), { on: 'bob', send: [subscribe(2, 'open:p')] }, onAnn({ id: 2, publish: { channel: 'open:p', data: { text: 'hi' } } }), { on: 'bob', pushes: 1, channel: 'open:p' }] },
  { name: 'a publication comes back to its publisher', steps: [ann, onAnn(subscribe(2, 'talk:p'), { id: 3, publish: { channel: 'talk:p', data: 1 } }, { id: 4, publish: { channel: 'talk:p', data: 2 } }), { on: 'ann', pushes: 2, channel: 'talk:p' }] },
  { name: 'publications with history have offsets', steps: [ann, onAnn(subscribe(2, 'rec:p'), { id: 3, publish: { channel: 'rec:p', data: 1 } }, { id: 4, publish: { channel: 'rec:p', data: 2 } }), { on: 'ann', pushes: 2, channel: 'rec:p' }] },
  one('publish refused', { id: 2, publish: { channel: 'talk:x', data: 1 } }, { id: 3, publish: { channel: 'x', data: 1 } }, { id: 4, publish: { channel: 'nowhere:x', data: 1 } }, { id: 5, publish: { channel: 'objects:x', data: 'text' } }, { id: 6, publish: { channel: 'objects:x', data: {} } }, { id: 7, publish: { channel: 'shape:x', data: 1 } }),
  { name: 'publish to an empty name', steps: [ann, onAnn({ id: 2, publish: { channel: '', data: 1 } }), { on: 'ann', settled: true }] },
  { name: 'publish without data', steps: [ann, onAnn({ id: 2, publish: { channel: 'open:x' } }), { on: 'ann', settled: true }] },
  one('publish to a name too long', { id: 2, publish: { channel: 'open:67890123456789012', data: 1 } }),
  { name: 'unsubscribe from an empty name', steps: [ann, onAnn({ id: 2, unsubscribe: { channel: '' } }), { on: 'ann', settled: true }] },

  { name: 'presence, with joins and leaves', steps: [ann, as('bob'), onAnn(subscribe(2, 'room:p')), { on: 'ann', pushes: 1, channel: 'room:p' }, { on: 'bob', send: [subscribe(2, 'room:p')] }, { on: 'ann', pushes: 2, channel: 'room:p' }, onAnn({ id: 3, presence: { channel: 'room:p' } }, { id: 4, presence_stats: { channel: 'room:p' } }), { on: 'bob', send: [{ id: 3, unsubscribe: { channel: 'room:p' } }] }, { on: 'ann', pushes: 3, channel: 'room:p' }, onAnn({ id: 5, presence: { channel: 'room:p' } }, { id: 6, presence_stats: { channel: 'room:p' } })] },
  { name: 'a leave when a connection ends', steps: [ann, as('bob'), onAnn(subscribe(2, 'room:l')), { on: 'bob', send: [subscribe(2, 'room:l')] }, { on: 'ann', pushes: 2, channel: 'room:l' }, { on: 'bob', leave: true }, { on: 'ann', pushes: 3, channel: 'room:l' }] },
  { name: 'joins on request', steps: [ann, as('bob'), as('eve'), onAnn(subscribe(2, 'quiet:j', { join_leave: true })), { on: 'eve', send: [subscribe(2, 'quiet:j')] }, { on: 'bob', send: [subscribe(2, 'quiet:j')] }, { on: 'ann', pushes: 3, channel: 'quiet:j' }, { on: 'eve', settled: true }] },
  one('presence refused', { id: 2, presence: { channel: 'room:x' } }, { id: 3, presence_stats: { channel: 'room:x' } }, { id: 4, presence: { channel: 'open:x' } }, { id: 5, presence_stats: { channel: 'open:x' } }, { id: 6, presence: { channel: 'nowhere:x' } }, { id: 7, presence_stats: { channel: 'nowhere:x' } }),
  { name: 'presence of an empty name', steps: [ann, onAnn({ id: 2, presence: { channel: '' } }), { on: 'ann', settled: true }] },
  { name: 'presence_stats of an empty name', steps: [ann, onAnn({ id: 2, presence_stats: { channel: '' } }), { on: 'ann', settled: true }] },
  one('rpc where no backend is configured', { id: 2, rpc: { method: 'any', data: {} } }),
  { name: 'a push never precedes the reply to its subscribe', steps: [ann, as('bob'), { on: 'bob', send: [subscribe(2, 'room:o')] }, onAnn(subscribe(2, 'room:o'), { id: 3, publish: { channel: 'room:o', data: 1 } }), { on: 'ann', pushes: 2, channel: 'room:o' }, { on: 'bob', pushes: 3, channel: 'room:o' }] },
]
