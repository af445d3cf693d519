// A TCP relay between a client and the server, so that a test can cut the connection: the sockets just end, without a close.
// While the relay is down it accepts connections and drops them.
import { connect, createServer } from 'node:net'
import { once } from 'node:events'

export async function startRelay(port) {
  const pairs = new Set()
  let up = true
  const listener = createServer((near) => {
    if (!up) { near.destroy(); return }
    const far = connect(port, '127.0.0.1')
    const pair = { near, far }
    pairs.add(pair)
    const end = () => { near.destroy(); far.destroy(); pairs.delete(pair) }
    for (const socket of [near, far]) socket.on('error', end).on('close', end)
    near.pipe(far)
    far.pipe(near)
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  const cut = () => { for (const { near, far } of pairs) { near.destroy(); far.destroy() } }
  return {
    client: `ws://127.0.0.1:${listener.address().port}/connection/websocket`,
    down() { up = false; cut() },
    up() { up = true },
    close() { cut(); listener.close() },
  }
}
