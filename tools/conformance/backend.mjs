// An application's backend for proxies: a little HTTP server that answers by what the test put there.
import { createServer } from 'node:http'
import { once } from 'node:events'

/**
 * `answer` gets the path without its slash, the parsed body and the headers; what it gives goes back as JSON, or as a
 * bare status when it is a number.
 */
export async function startBackend(answer) {
  const backend = { calls: [], answer }
  const listener = createServer(async (request, response) => {
    const chunks = []
    for await (const chunk of request) chunks.push(chunk)
    const call = { path: request.url.slice(1), body: JSON.parse(Buffer.concat(chunks).toString() || 'null'), headers: request.headers }
    backend.calls.push(call)
    const reply = await backend.answer(call.path, call.body, call.headers)
    if (typeof reply === 'number') { response.statusCode = reply; response.end() } else response.end(JSON.stringify(reply))
  }).listen(0, '127.0.0.1')
  await once(listener, 'listening')
  backend.url = `http://127.0.0.1:${listener.address().port}`
  backend.close = () => { listener.closeAllConnections(); listener.close() }
  return backend
}
