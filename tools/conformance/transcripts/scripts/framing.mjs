// Frames and commands as such: what is taken, what ends the connection.
export const config = {
  client: { allow_anonymous_connect_without_token: true },
  channel: { without_namespace: { allow_subscribe_for_client: true, allow_subscribe_for_anonymous: true, allow_publish_for_client: true, allow_publish_for_anonymous: true } },
}

const connect = { on: 'a', send: [{ id: 1, connect: {} }] }
const subscribe = (channel) => ({ on: 'a', send: [{ id: 2, subscribe: { channel } }] })
const closes = { on: 'a', closes: true }
/** One raw frame after connect. */
/** With replies to wait for, or with what ends it. */
const raw = (frame, [first, ...rest]) => (Array.isArray(first) ? [{ on: 'a', raw: frame, replies: first }, ...rest] : [{ on: 'a', raw: frame }, first, ...rest])
const jsonFrame = (name, json, ...rest) => ({ name: `JSON: ${name}`, only: 'json', steps: [connect, ...raw({ json }, rest)] })
const protobufFrame = (name, protobuf, ...rest) => ({ name: `Protobuf: ${name}`, only: 'protobuf', steps: [connect, ...raw({ protobuf }, rest)] })
const echoed = (name, data) => ({ name: `data comes back as it was: ${name}`, steps: [connect, subscribe(`data-${name}`), { on: 'a', send: [{ id: 3, publish: { channel: `data-${name}`, data } }] }, { on: 'a', pushes: 1, channel: `data-${name}` }] })

export const transcripts = [
  { name: 'many commands in one frame', steps: [{ on: 'a', send: [{ id: 1, connect: {} }, { id: 2, subscribe: { channel: 'many' } }, ...Array.from({ length: 40 }, (_, at) => ({ id: 3 + at, publish: { channel: 'many', data: at } }))] }, { on: 'a', pushes: 40, channel: 'many' }] },
  { name: 'the same id twice', steps: [connect, { on: 'a', send: [{ id: 5, presence: { channel: 'x' } }, { id: 5, history: { channel: 'x' } }] }, { on: 'a', count: 3 }] },
  { name: 'a command with two requests', only: 'json', steps: [connect, { on: 'a', send: [{ id: 5, history: { channel: 'x' }, publish: { channel: 'x', data: 1 } }] }] },
  { name: 'a command with an id and nothing else', steps: [connect, { on: 'a', send: [{ id: 2 }] }, closes] },
  { name: 'a pong without a ping', steps: [connect, { on: 'a', send: [{}], wait: [] }, closes] },
  { name: 'a command without an id', steps: [connect, { on: 'a', send: [{ subscribe: { channel: 'x' } }], wait: [] }, closes] },
  { name: 'a send', steps: [connect, { on: 'a', send: [{ send: { data: 1 } }], wait: [] }, closes] },
  { name: 'the ping command', steps: [connect, { on: 'a', send: [{ id: 2, ping: {} }] }, closes] },
  { name: 'commands behind one that ends the connection', steps: [connect, { on: 'a', send: [{ id: 2, subscribe: { channel: 'x' } }, { id: 3 }, { id: 4, subscribe: { channel: 'y' } }] }, closes] },
  jsonFrame('an unknown command', '{"id":2,"fly":{}}', closes),
  jsonFrame('no JSON', '{"id":2,', closes),
  jsonFrame('an empty frame', '', closes),
  jsonFrame('an array', '[{"id":2,"subscribe":{"channel":"x"}}]', closes),
  jsonFrame('null', 'null', closes),
  jsonFrame('an id that is text', '{"id":"2","subscribe":{"channel":"x"}}', closes),
  jsonFrame('an id that is negative', '{"id":-2,"subscribe":{"channel":"x"}}', closes),
  jsonFrame('an id past 32 bits', '{"id":4294967296,"subscribe":{"channel":"x"}}', closes),
  jsonFrame('the greatest id', '{"id":4294967295,"subscribe":{"channel":"x"}}', [4294967295]),
  jsonFrame('a channel that is a number', '{"id":2,"subscribe":{"channel":2}}', closes),
  jsonFrame('a negative offset', '{"id":2,"subscribe":{"channel":"x","offset":-1}}', closes),
  jsonFrame('a newline at the end', '{"id":2,"subscribe":{"channel":"x"}}\n', [2]),
  jsonFrame('two newlines at the end', '{"id":2,"subscribe":{"channel":"x"}}\n\n', closes),
  jsonFrame('an empty line between', '{"id":2,"subscribe":{"channel":"x"}}\n\n{"id":3,"subscribe":{"channel":"y"}}', closes),
  jsonFrame('blanks around lines', ' {"id":2,"subscribe":{"channel":"x"}} \r\n\t{"id":3, "subscribe" : {"channel":"y"}} ', [2, 3]),
  jsonFrame('a broken line behind a good one', '{"id":2,"subscribe":{"channel":"x"}}\n{"id":3', closes),
  jsonFrame('a null request', '{"id":2,"subscribe":null}', closes),
  jsonFrame('unknown fields', '{"id":2,"hint":1,"subscribe":{"channel":"x","wish":[{}]}}', [2]),
  jsonFrame('escapes in a name', '{"id":2,"subscribe":{"channel":"\\u0061\\u002db\\/c\\"d"}}', [2]),
  protobufFrame('an empty frame', '', closes),
  protobufFrame('a length without a message', '05', closes),
  protobufFrame('a malformed message', '02ffff', closes),
  protobufFrame('a length past the frame', '0a0802', closes),
  // id 2, and field 77 with the text "x"
  protobufFrame('an unknown command', '060802ea040178', closes),
  // id 2, subscribe { channel "x", field 77 "x" }
  protobufFrame('unknown fields', '0b08022a070a0178ea040178', [2]),
  echoed('null', null), echoed('false', false), echoed('number', -12.5), echoed('text', 'ünï "q" \\ \u2028 </script>'), echoed('empty text', ''),
  echoed('array', [1, [2, []]]), echoed('object', { a: { b: null, c: [{}] } }), echoed('empty object', {}),
  jsonFrame('data keeps its form, but for line ends', '{"id":2,"subscribe":{"channel":"raw"}}\n{"id":3,"publish":{"channel":"raw","data":{"b": 1.50,"a":1e3,"t":"\\u00e4"}}}', [2, 3], { on: 'a', pushes: 1, channel: 'raw' }),
  { name: 'a publish without data', steps: [connect, { on: 'a', send: [{ id: 2, publish: { channel: 'x' } }] }, { on: 'a', settled: true }] },
]
