// History and recovery: streams, the newest value only, deltas, filters.
import { SECRET } from '../../tokens.mjs'

const history = { history_size: 5, history_ttl: '60s' }
const open = { allow_subscribe_for_client: true, allow_publish_for_client: true, allow_history_for_client: true }
export const config = {
  client: { token: { hmac_secret_key: SECRET }, history_max_publication_limit: 4, recovery_max_publication_limit: 4 },
  channel: {
    namespaces: [
      { name: 'log', ...open, ...history, allow_recovery: true },
      { name: 'long', ...open, history_size: 100, history_ttl: '60s', force_recovery: true },
      { name: 'sub', allow_subscribe_for_client: true, allow_history_for_subscriber: true, ...history },
      { name: 'shut', allow_subscribe_for_client: true, ...history },
      { name: 'off', allow_subscribe_for_client: true, allow_history_for_client: true },
      { name: 'rec', ...open, ...history, force_recovery: true },
      { name: 'cache', ...open, ...history, force_recovery: true, force_recovery_mode: 'cache' },
      { name: 'auto', ...open, ...history, force_recovery: true, force_recovery_mode: 'cache', auto_cache_recover: true },
      { name: 'diff', ...open, ...history, force_recovery: true, allowed_delta_types: ['fossil'], delta_publish: true },
      { name: 'live', ...open, allowed_delta_types: ['fossil'], delta_publish: true },
      { name: 'tags', ...open, ...history, force_recovery: true, allow_tags_filter: true },
    ],
  },
}

const connect = (name) => ({ on: name, send: [{ id: 1, connect: { token: { $token: { sub: name } } } }] })
const asks = (name, ...commands) => ({ on: name, send: commands })
const history_ = (id, channel, rest = {}) => ({ id, history: { channel, ...rest } })
const subscribe = (id, channel, rest = {}) => ({ id, subscribe: { channel, ...rest } })
const recover = (id, channel, offset, rest = {}) => subscribe(id, channel, { recover: true, offset, epoch: `$epoch.${channel}`, ...rest })
const publishes = (channel, count, rest = {}) => Array.from({ length: count }, (_, at) => ({ api: 'publish', body: { channel, data: { number: at + 1 }, ...rest } }))
const text = (number) => ({ text: 'a body that is long enough for a delta to pay, and that hardly changes from one to the next', number })
const publishesText = (channel, ...numbers) => numbers.map((number) => ({ api: 'publish', body: { channel, data: text(number) } }))
const tagged = (channel, ...tags) => tags.map((kind, at) => ({ api: 'publish', body: { channel, data: at + 1, ...(kind && { tags: { kind } }) } }))
const since = (channel, offset, epoch = `$epoch.${channel}`) => ({ since: { offset, epoch } })

export const transcripts = [
  { name: 'history of a channel without publications', steps: [connect('a'), asks('a', history_(2, 'log:new', { limit: 10 }), history_(3, 'log:new'))] },
  { name: 'history with limits', steps: [connect('a'), ...publishes('log:l', 7), asks('a', history_(2, 'log:l'), history_(3, 'log:l', { limit: 2 }), history_(4, 'log:l', { limit: -1 }), history_(5, 'log:l', { limit: 100 }), history_(6, 'log:l', { limit: 2, reverse: true }))] },
  { name: 'history from a position', steps: [connect('a'), ...publishes('log:s', 7), asks('a', ...[0, 2, 3, 6, 7, 9].map((offset, at) => history_(2 + at, 'log:s', { limit: 2, ...since('log:s', offset) })))] },
  { name: 'history from a position backwards', steps: [connect('a'), ...publishes('log:r', 7), asks('a', ...[0, 3, 4, 7, 8, 9].map((offset, at) => history_(2 + at, 'log:r', { limit: 2, reverse: true, ...since('log:r', offset) })))] },
  { name: 'history from a position of another epoch', steps: [connect('a'), ...publishes('log:e', 2), asks('a', history_(2, 'log:e', { limit: 2, ...since('log:e', 1, 'other') }), history_(3, 'log:e', { limit: 2, ...since('log:e', 1, '') }))] },
  { name: 'history refused', steps: [connect('a'), asks('a', history_(2, 'sub:x'), history_(3, 'shut:x'), history_(4, 'off:x'), history_(5, 'nowhere:x'), subscribe(6, 'sub:x'), history_(7, 'sub:x'))] },
  { name: 'history of an empty name', steps: [connect('a'), asks('a', history_(2, '')), { on: 'a', settled: true }] },
  { name: 'history of what clients published', steps: [connect('a'), asks('a', { id: 2, publish: { channel: 'log:c', data: 'x' } }, history_(3, 'log:c', { limit: 1 }))] },
  { name: 'history with tags', steps: [connect('a'), ...publishes('log:t', 1, { tags: { kind: 'x' } }), asks('a', history_(2, 'log:t', { limit: 1 }))] },

  { name: 'recovery with nothing missed', steps: [connect('a'), ...publishes('rec:0', 2), asks('a', recover(2, 'rec:0', 2))] },
  { name: 'recovery of what was missed', steps: [connect('a'), ...publishes('rec:1', 4), asks('a', recover(2, 'rec:1', 1)), ...publishes('rec:1', 1), { on: 'a', pushes: 1, channel: 'rec:1' }] },
  { name: 'recovery from the start', steps: [connect('a'), ...publishes('rec:2', 3), asks('a', recover(2, 'rec:2', 0))] },
  { name: 'recovery of an empty stream', steps: [connect('a'), asks('a', recover(2, 'rec:3', 0, { epoch: '' }))] },
  { name: 'recovery with an empty epoch', steps: [connect('a'), ...publishes('rec:4', 3), asks('a', recover(2, 'rec:4', 1, { epoch: '' }))] },
  { name: 'recovery with another epoch', steps: [connect('a'), ...publishes('rec:5', 3), asks('a', recover(2, 'rec:5', 1, { epoch: 'other' }))] },
  { name: 'recovery where history was overrun', steps: [connect('a'), ...publishes('rec:6', 8), asks('a', recover(2, 'rec:6', 1))] },
  { name: 'recovery from a position that is yet to come', steps: [connect('a'), ...publishes('rec:7', 2), asks('a', recover(2, 'rec:7', 5))] },
  { name: 'recovery of more than the limit', steps: [connect('a'), ...publishes('long:1', 6), asks('a', recover(2, 'long:1', 1))] },
  { name: 'recovery of just the limit', steps: [connect('a'), ...publishes('long:2', 6), asks('a', recover(2, 'long:2', 2))] },
  { name: 'recovery where the namespace allows and the client does not ask to be recoverable', steps: [connect('a'), ...publishes('log:8', 2), asks('a', recover(2, 'log:8', 1)), connect('b'), asks('b', recover(2, 'log:8', 1, { recoverable: true }))] },
  { name: 'recovery without history', steps: [connect('a'), asks('a', subscribe(2, 'off:1', { recover: true, offset: 1, epoch: 'x' }))] },
  { name: 'an unrecovered position refused, if the client wants that', steps: [connect('a'), ...publishes('rec:9', 3), asks('a', recover(2, 'rec:9', 1, { epoch: 'other', flag: 2 }), recover(3, 'rec:9', 1, { flag: 2 }))] },
  { name: 'recovery after history was removed', steps: [connect('a'), ...publishes('rec:10', 3), { api: 'history_remove', body: { channel: 'rec:10' } }, asks('a', recover(2, 'rec:10', 3)), connect('b'), asks('b', recover(2, 'rec:10', 1))] },
  { name: 'recovery with a publication that was not kept', steps: [connect('a'), ...publishes('rec:11', 2), { api: 'publish', body: { channel: 'rec:11', data: 'passing', skip_history: true } }, asks('a', recover(2, 'rec:11', 1))] },

  { name: 'the newest only: missed', steps: [connect('a'), ...publishes('cache:1', 3), asks('a', recover(2, 'cache:1', 1)), ...publishes('cache:1', 1), { on: 'a', pushes: 1, channel: 'cache:1' }] },
  { name: 'the newest only: known', steps: [connect('a'), ...publishes('cache:2', 3), asks('a', recover(2, 'cache:2', 3))] },
  { name: 'the newest only: nothing there', steps: [connect('a'), asks('a', recover(2, 'cache:3', 0, { epoch: '' }))] },
  { name: 'the newest only: another epoch', steps: [connect('a'), ...publishes('cache:4', 3), asks('a', recover(2, 'cache:4', 3, { epoch: 'other' }))] },
  { name: 'the newest only: no position', steps: [connect('a'), ...publishes('cache:5', 3), asks('a', recover(2, 'cache:5', 0, { epoch: '' }))] },
  { name: 'the newest only: not asked for', steps: [connect('a'), ...publishes('cache:6', 3), asks('a', subscribe(2, 'cache:6'))] },
  { name: 'the newest only: not asked for, and given', steps: [connect('a'), ...publishes('auto:1', 3), asks('a', subscribe(2, 'auto:1'), subscribe(3, 'auto:2'))] },
  { name: 'the newest only: after history was removed', steps: [connect('a'), ...publishes('cache:7', 3), { api: 'history_remove', body: { channel: 'cache:7' } }, asks('a', recover(2, 'cache:7', 1))] },

  { name: 'deltas of live publications', steps: [connect('a'), connect('b'), asks('a', subscribe(2, 'diff:1', { delta: 'fossil' })), asks('b', subscribe(2, 'diff:1')), ...publishesText('diff:1', 1, 2, 3), { on: 'a', pushes: 3, channel: 'diff:1' }, { on: 'b', pushes: 3, channel: 'diff:1' }] },
  { name: 'deltas without history', steps: [connect('a'), asks('a', subscribe(2, 'live:1', { delta: 'fossil' })), ...publishesText('live:1', 1, 2), { on: 'a', pushes: 2, channel: 'live:1' }] },
  { name: 'deltas for a later subscriber', steps: [connect('a'), ...publishesText('diff:2', 1, 2), asks('a', subscribe(2, 'diff:2', { delta: 'fossil' })), ...publishesText('diff:2', 3, 4), { on: 'a', pushes: 2, channel: 'diff:2' }] },
  { name: 'deltas of recovered publications', steps: [connect('a'), ...publishesText('diff:3', 1, 2, 3), asks('a', recover(2, 'diff:3', 1, { delta: 'fossil' })), ...publishesText('diff:3', 4), { on: 'a', pushes: 1, channel: 'diff:3' }] },
  { name: 'a delta that is longer than the data', steps: [connect('a'), asks('a', subscribe(2, 'diff:4', { delta: 'fossil' })), { api: 'publish', body: { channel: 'diff:4', data: 1 } }, { api: 'publish', body: { channel: 'diff:4', data: 'entirely else' } }, { api: 'publish', body: { channel: 'diff:4', data: 'entirely else' } }, { on: 'a', pushes: 3, channel: 'diff:4' }] },
  { name: 'deltas asked for by the publisher only', steps: [connect('a'), asks('a', subscribe(2, 'diff:5', { delta: 'fossil' })), { api: 'publish', body: { channel: 'diff:5', data: text(1), delta: true } }, { api: 'publish', body: { channel: 'diff:5', data: text(2), delta: true } }, { on: 'a', pushes: 2, channel: 'diff:5' }] },
  { name: 'deltas of publications of clients', steps: [connect('a'), asks('a', subscribe(2, 'diff:6', { delta: 'fossil' }), { id: 3, publish: { channel: 'diff:6', data: text(1) } }, { id: 4, publish: { channel: 'diff:6', data: text(2) } }), { on: 'a', pushes: 2, channel: 'diff:6' }] },

  { name: 'a filter on live publications', steps: [connect('a'), asks('a', subscribe(2, 'tags:1', { tf: { key: 'kind', cmp: 'eq', val: 'x' } })), ...tagged('tags:1', 'x', 'y', undefined, 'x'), { on: 'a', pushes: 2, channel: 'tags:1' }, { on: 'a', settled: true }] },
  { name: 'a filter on recovered publications', steps: [connect('a'), ...tagged('tags:2', 'x', 'y', 'x', 'y'), asks('a', recover(2, 'tags:2', 0, { tf: { key: 'kind', cmp: 'eq', val: 'x' } }))] },
  ...Object.entries({
    neq: [7, { cmp: 'neq', val: 'ab' }], in: [2, { cmp: 'in', vals: ['ab', '7'] }], nin: [6, { cmp: 'nin', vals: ['ab', '7'] }], ex: [7, { cmp: 'ex' }], nex: [1, { cmp: 'nex' }],
    sw: [2, { cmp: 'sw', val: 'a' }], ew: [2, { cmp: 'ew', val: 'b' }], ct: [3, { cmp: 'ct', val: 'b' }],
    lt: [2, { cmp: 'lt', val: '7.5' }], lte: [2, { cmp: 'lte', val: '7' }], gt: [2, { cmp: 'gt', val: '7' }], gte: [3, { cmp: 'gte', val: '7' }], 'gt of no number': [0, { cmp: 'gt', val: 'many' }],
    not: [1, { op: 'not', nodes: [{ key: 'kind', cmp: 'ex' }] }],
    or: [2, { op: 'or', nodes: [{ key: 'kind', cmp: 'eq', val: 'ab' }, { key: 'kind', cmp: 'gt', val: '8' }] }],
    and: [1, { op: 'and', nodes: [{ key: 'kind', cmp: 'sw', val: 'a' }, { key: 'kind', cmp: 'ew', val: 'b' }] }],
  }).map(([what, [count, filter]]) => ({ name: `a filter by ${what}`, steps: [connect('a'), asks('a', subscribe(2, `tags:${what}`, { tf: filter.op ? filter : { key: 'kind', ...filter } })), ...tagged(`tags:${what}`, 'ab', 'b', 'abc', '7', '8', '10', '-1', undefined), { on: 'a', pushes: count, channel: `tags:${what}` }, { on: 'a', settled: true }] })),
  { name: 'history knows no filter', steps: [connect('a'), ...tagged('tags:h', 'x', 'y'), asks('a', history_(2, 'tags:h', { limit: 4 }))] },

  { name: 'an idempotency key', steps: [connect('a'), asks('a', subscribe(2, 'log:i')), ...publishes('log:i', 1, { idempotency_key: 'k' }), ...publishes('log:i', 1, { idempotency_key: 'k' }), ...publishes('log:i', 1, { idempotency_key: 'l' }), { on: 'a', pushes: 2, channel: 'log:i' }, { on: 'a', settled: true }] },
  { name: 'an idempotency key without history', steps: [connect('a'), asks('a', subscribe(2, 'live:i')), ...publishes('live:i', 1, { idempotency_key: 'k' }), ...publishes('live:i', 1, { idempotency_key: 'k' }), { on: 'a', pushes: 1, channel: 'live:i' }, { on: 'a', settled: true }] },
  { name: 'versions', steps: [connect('a'), asks('a', subscribe(2, 'log:v')), ...[[2], [1], [2], [3], [1, 'e'], [0, 'e'], [2, 'e'], [9], [1, 'f']].map(([version, version_epoch]) => ({ api: 'publish', body: { channel: 'log:v', data: `${version}${version_epoch ?? ''}`, version, version_epoch } })), { on: 'a', pushes: 7, channel: 'log:v' }, { on: 'a', settled: true }, asks('a', history_(3, 'log:v'))] },
  { name: 'versions without history', steps: [connect('a'), asks('a', subscribe(2, 'live:v')), ...[2, 1].map((version) => ({ api: 'publish', body: { channel: 'live:v', data: version, version } })), { on: 'a', pushes: 2, channel: 'live:v' }] },
]
