// The two encodings of the client protocol, apart from any SDK: commands to frames, frames to replies. Both ways a
// message is the same plain object, with the protocol's names and with `bytes` fields as JSON values, so that a test is
// written once and a reply of one encoding can be held against the other's.
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import protobuf from 'protobufjs'

const { root } = protobuf.parse(readFileSync(join(import.meta.dirname, 'client.proto'), 'utf8'), { keepCase: true })
const Command = root.lookupType('Command')
const Reply = root.lookupType('Reply')
const Push = root.lookupType('Push')

export const ENCODINGS = ['json', 'protobuf']
const PLAIN = { longs: Number, enums: Number }

/** Applies `change` to every `bytes` field of a plain object of this type, however deep. */
function overBytes(type, object, change) {
  const result = {}
  for (const [name, value] of Object.entries(object)) {
    const field = type.fields[name]
    if (!field) { result[name] = value; continue }
    field.resolve()
    const one = (item) => {
      if (field.type === 'bytes') return change(item)
      return field.resolvedType instanceof protobuf.Type && item && typeof item === 'object' ? overBytes(field.resolvedType, item, change) : item
    }
    if (field.map) result[name] = Object.fromEntries(Object.entries(value).map(([key, item]) => [key, one(item)]))
    else if (field.repeated) result[name] = value.map(one)
    else result[name] = one(value)
  }
  return result
}

const toBytes = (value) => Buffer.from(JSON.stringify(value))
/** What is not JSON (a delta, for one) is shown as it is. */
export function fromBytes(bytes) {
  const text = Buffer.from(bytes).toString()
  try { return JSON.parse(text) } catch { return { $bytes: Buffer.from(bytes).toString('hex') } }
}

const encodeProtobuf = (command) => Command.encodeDelimited(Command.fromObject(overBytes(Command, command, toBytes))).finish()

/** One frame of these commands. The empty command, which is a pong, has its own short form in either encoding. */
export function encodeFrame(encoding, commands) {
  if (encoding === 'json') return commands.map((command) => JSON.stringify(command)).join('\n')
  return Buffer.concat(commands.map(encodeProtobuf))
}

/** Replies and pushes of one frame; a ping comes out as `{}`. */
export function decodeFrame(encoding, frame, type = Reply) {
  if (encoding === 'json') return frame.toString().split('\n').filter(Boolean).map((line) => JSON.parse(line))
  const reader = protobuf.Reader.create(frame)
  const replies = []
  while (reader.pos < reader.len) replies.push(overBytes(type, type.toObject(type.decodeDelimited(reader), PLAIN), fromBytes))
  return replies
}

/** What a unidirectional transport sends: pushes without the reply around them. */
export const decodePushFrame = (encoding, frame) => decodeFrame(encoding, frame, Push)

/** What a client sent, seen from outside. */
export const decodeCommandFrame = (encoding, frame) => decodeFrame(encoding, frame, Command)

/** The subprotocol that asks for an encoding. */
export const subprotocols = (encoding) => (encoding === 'protobuf' ? ['centrifuge-protobuf'] : [])
