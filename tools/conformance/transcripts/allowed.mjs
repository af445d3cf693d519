// Where our answers differ from the original's on purpose. Each entry says which differences it means and why; one that
// no longer happens fails the check.
//   script, transcript, encoding   which exchanges; an absent one means all
//   path                           where, as `check` prints it: text, or a pattern
//   ours                           what we answer there, or a function of (theirs, ours); absent, whatever it is
//   reason                         why
const explains = (theirs, ours) => typeof ours === 'string' && ours.startsWith(`${theirs}: `)
const nothingThere = (theirs, ours) => theirs === undefined && ours?.error !== undefined

export const ALLOWED = [
  { path: /message$/, ours: explains, reason: 'a bad request is answered with what is wrong with it' },
  { script: 'api', path: /^api\.\d+\.body$/, ours: nothingThere, reason: 'what never became a call is answered with a reason too, and not with a status alone' },
  { script: 'api', transcript: 'broadcast refused', path: /^api\.2\.body\.(result|error)$/, reason: 'a broadcast without data is refused whole, not once for each channel' },
  { script: 'api', transcript: 'disconnect refused', path: /^api\.2\.body\.(result|error)$/, reason: 'a close code that may not be in a close frame (RFC 6455, 7.4.2) is refused' },
  { script: 'api', transcript: 'info', path: 'api.0.body.result.nodes.0.metrics', reason: 'metrics are at /metrics' },
  { script: 'channels', transcript: 'a sub_refresh with a token that has expired', path: /^connections\.ann\.replies\.3\.0\.(sub_refresh|error)$/, reason: 'the original takes an expired token, and the subscription never expires again' },
  { script: 'channels', transcript: 'the anonymous user in channels of users', path: /^connections\.nobody\.replies\.[23]\.0\.(subscribe|error)$/, reason: 'an empty entry of a list of users names no user' },
  { script: 'channels', transcript: 'publish to a name too long', path: /^connections\.ann\.replies\.2\.0\.(publish|error)$/, reason: 'channel.max_length bounds every name, since a name is memory' },
  { transcript: 'a delta that is longer than the data', path: /^connections\.a\.pushes\.diff:4\.2\.pub\.(data\.\$full|data\.\$delta|delta)$/, reason: 'our delta is shorter than the data where the original\'s is not' },
  { transcript: 'subscribe a user to a stream since a position', path: 'connections.a.pushes.rec:2.1', reason: 'what was missed since the position follows the push; the original names the position and sends nothing' },
  { transcript: 'subscribe a user twice', path: 'connections.a.pushes.twice.1', reason: 'a subscription that is there is not announced again' },
  { transcript: 'unsubscribe from a channel without subscribers', path: 'connections.a.pushes.nothing', reason: 'the end of a subscription that never was is not announced' },
]
