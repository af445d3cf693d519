// A test bench for a program in another language: starts a server with a backend and a relay that the program can cut by
// HTTP, passes their addresses in the environment, and ends with the program's status.
import { spawn } from 'node:child_process'
import { createServer } from 'node:http'
import { once } from 'node:events'
import { startBackend } from './backend.mjs'
import { startRelay } from './relay.mjs'
import { startServer } from './server.mjs'
import { SECRET } from './tokens.mjs'

const open = { allow_subscribe_for_client: true, allow_publish_for_client: true, presence: true, allow_presence_for_client: true }
const kept = { history_size: 50, history_ttl: '60s', allow_history_for_client: true }
const config = (url) => ({
  client: { allow_anonymous_connect_without_token: true, token: { hmac_secret_key: SECRET } },
  channel: {
    namespaces: [
      { name: 'open', ...open }, { name: 'shut' },
      { name: 'room', ...open, join_leave: true, force_push_join_leave: true },
      { name: 'rec', ...open, ...kept, force_recovery: true },
      { name: 'diff', ...open, ...kept, force_recovery: true, allowed_delta_types: ['fossil'], delta_publish: true },
      { name: 'tags', ...open, allow_tags_filter: true },
    ],
  },
  rpc: { proxy: { endpoint: `${url}/rpc`, timeout: '2s' }, without_namespace: { proxy_enabled: true } },
})

/** What the backend answers to a call: its method and its data, or an error where the method says so. */
const answer = (path, { method, data }) => (method === 'fail' ? { error: { code: 1234, message: 'no' } } : { result: { data: { method, data } } })

const backend = await startBackend(answer)
const server = await startServer({ config: config(backend.url) })
const relay = await startRelay(server.ports[0])
const control = createServer((request, response) => {
  if (request.url === '/down') relay.down()
  else relay.up()
  response.end()
}).listen(0, '127.0.0.1')
await once(control, 'listening')

const [program, ...args] = process.argv.slice(2)
const child = spawn(program, args, {
  stdio: 'inherit',
  env: {
    ...process.env, STAND_URL: server.client, STAND_RELAY_URL: relay.client, STAND_CONTROL: `http://127.0.0.1:${control.address().port}`,
    STAND_API: `${server.admin}/api`, STAND_API_KEY: server.key, STAND_SECRET: SECRET, NO_PROXY: '127.0.0.1', no_proxy: '127.0.0.1',
  },
})
child.once('error', (error) => { console.error(`${program}: ${error.message}`); process.exitCode = 1 })
const [code] = await Promise.race([once(child, 'exit'), once(child, 'error').then(() => [1])])
control.closeAllConnections()
control.close()
relay.close()
backend.close()
const ended = await server.stop()
process.exitCode = code ?? 1
if (ended.code !== 0) {
  console.error(`the server ended with ${JSON.stringify(ended)}`)
  process.exitCode = 1
}
