// A small client of the JSON protocol on the browser's WebSocket. It is independent of the page, which passes callbacks.
//
// States: connecting → open → waiting → connecting …, or refused, which ends only with `connect()`.

const BACKOFF_MS_MIN = 500;
const BACKOFF_MS_MAX = 20_000;
// How long after its announced interval a ping may arrive before the connection is closed.
const PING_GRACE_MS = 10_000;
// Earlier publications that are shown after joining.
const PAST_MAX = 50;
// Shortest time between two requests for the number of clients.
const COUNT_GAP_MS = 1000;

// Close codes after which a client must not reconnect.
const isFinal = (code) => code === 1009 || (code >= 3500 && code < 4000) || (code >= 4500 && code < 5000);

/** A connection that reconnects when it breaks, with a subscription to one channel that recovers if the server allows it. */
export class Client {
  constructor(url, channel, on) {
    Object.assign(this, { url, channel, on, id: 0, failures: 0, calls: new Map(), open: false });
    this.connect();
  }

  connect() {
    clearTimeout(this.retry);
    this.on.state("connecting");
    this.calls.clear();
    const socket = new WebSocket(this.url);
    this.socket = socket;
    socket.onmessage = (event) => this.receive(event.data);
    socket.onclose = (event) => this.closed(event.code, event.reason);
    socket.onopen = () => {
      // Both commands in one frame: the server handles them in order.
      const connect = this.command({ connect: { name: "page" } }, (reply) => this.connected(reply));
      socket.send(`${connect}\n${this.subscription()}`);
    };
  }

  command(body, done) {
    this.id += 1;
    this.calls.set(this.id, done);
    return JSON.stringify({ id: this.id, ...body });
  }

  connected(reply) {
    if (reply.error) {
      this.refusal = reply.error;
      this.socket.close();
      return;
    }
    const { client, data, ping = 0, pong = false } = reply.connect;
    Object.assign(this, { failures: 0, open: true, ping, pong });
    this.alive();
    this.on.state("open", { client, shard: data?.shard });
  }

  // With a position in the channel's history the server sends what was published after it.
  subscription() {
    const { channel, position } = this;
    const since = position ? { recover: true, ...position } : {};
    const subscribe = { channel, recoverable: true, join_leave: true, ...since };
    return this.command({ subscribe }, (reply) => channel === this.channel && this.subscribed(reply));
  }

  subscribed({ error, subscribe = {} }) {
    const { recoverable, epoch, offset = 0, publications = [], was_recovering: again = false, recovered } = subscribe;
    this.position = recoverable ? { offset, epoch } : undefined;
    this.on.subscribed(this.channel, { error, again, gap: again && !recovered });
    for (const publication of publications) this.published(publication);
    if (error) return;
    if (this.position && !again && offset > 0) this.askPast();
    this.askCount();
  }

  // The server may not allow it: then nothing is shown.
  askPast() {
    const { channel, position: { offset, epoch } } = this;
    const history = { channel, limit: PAST_MAX, reverse: true, since: { offset: offset + 1, epoch } };
    this.socket.send(this.command({ history }, ({ history: past }) => {
      if (past?.publications && channel === this.channel) this.on.past(past.publications.reverse());
    }));
  }

  askCount() {
    this.counting = undefined;
    if (!this.open) return;
    const { channel } = this;
    this.socket.send(this.command({ presence_stats: { channel } }, ({ presence_stats: present }) => {
      if (present && channel === this.channel) this.on.present(present.num_clients ?? 0);
    }));
  }

  // Any frame counts as a ping. The connection is closed if none arrives in time.
  alive() {
    clearTimeout(this.silence);
    if (this.ping > 0) {
      this.silence = setTimeout(() => this.socket.close(4000, "no ping"), this.ping * 1000 + PING_GRACE_MS);
    }
  }

  receive(frame) {
    if (this.open) this.alive();
    for (const line of frame.split("\n")) {
      if (line === "") continue;
      const reply = JSON.parse(line);
      if (reply.id) {
        const done = this.calls.get(reply.id);
        this.calls.delete(reply.id);
        done?.(reply);
      } else if (reply.push) {
        this.pushed(reply.push);
      } else if (this.pong) {
        this.socket.send("{}");
      }
    }
  }

  pushed({ channel, pub, join, leave, unsubscribe }) {
    if (channel !== this.channel) return;
    if (pub) this.published(pub);
    if (join || leave) this.counting ??= setTimeout(() => this.askCount(), COUNT_GAP_MS);
    if (!unsubscribe) return;
    // Codes from 2500 ask the client to subscribe again.
    if (unsubscribe.code >= 2500) this.subscribe();
    else this.on.subscribed(channel, { error: { code: unsubscribe.code, message: unsubscribe.reason } });
  }

  published(publication) {
    if (this.position && publication.offset) this.position.offset = publication.offset;
    this.on.publication(publication);
  }

  subscribe() {
    this.socket.send(this.subscription());
  }

  join(channel) {
    if (channel === this.channel) return;
    const left = this.channel;
    this.channel = channel;
    this.position = undefined;
    if (!this.open) return;
    this.socket.send(this.command({ unsubscribe: { channel: left } }, () => {}));
    this.subscribe();
  }

  publish(data, done) {
    this.socket.send(this.command({ publish: { channel: this.channel, data } }, done));
  }

  closed(code, reason) {
    clearTimeout(this.silence);
    clearTimeout(this.counting);
    this.counting = undefined;
    this.open = false;
    const refusal = this.refusal;
    this.refusal = undefined;
    if (refusal && refusal.code >= 100 && !refusal.temporary && refusal.code !== 109) {
      this.on.state("refused", { code: refusal.code, reason: refusal.message });
    } else if (isFinal(code)) {
      this.on.state("refused", { code, reason });
    } else {
      // Full jitter, so that the clients of a failed server do not reconnect at the same time.
      const span = Math.min(BACKOFF_MS_MAX, BACKOFF_MS_MIN * 2 ** this.failures);
      const delay = Math.max(100, Math.random() * span);
      this.failures += 1;
      this.retry = setTimeout(() => this.connect(), delay);
      this.on.state("waiting", { code, reason, delay });
    }
  }
}
