// The scripts, and the servers they are played against.
import { readdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { startBackend } from '../backend.mjs'
import { startServer } from '../server.mjs'

const FOLDER = join(import.meta.dirname, 'scripts')
export const expectedFile = (name) => join(import.meta.dirname, 'expected', `${name}.json`)
export const expectedOf = (name) => JSON.parse(readFileSync(expectedFile(name), 'utf8'))

/** Every script: its name, its configuration and its transcripts. */
export async function scripts() {
  const names = readdirSync(FOLDER).filter((file) => file.endsWith('.mjs')).map((file) => file.slice(0, -4)).toSorted()
  return Promise.all(names.map(async (name) => ({ name, ...(await import(join(FOLDER, `${name}.mjs`))) })))
}

/** Whether a transcript is for an encoding: its `only` names the one it is about. */
export const plays = (encoding) => ({ only }) => (only ?? encoding) === encoding

/** A fresh server for one playing of a script, with the backend that it asks for. */
export async function stage({ config, backend }) {
  const application = backend && (await startBackend(backend))
  const server = await startServer({ config: typeof config === 'function' ? config(application) : config })
  return { server, application, async close() { await server.stop(); application?.close() } }
}
