// The page of the admin address: a chat through the server itself, and a table of the shards from /stats, updated every
// second. Text of other users enters the page only as textContent.

import { Client } from "/client.js";

const $ = (id) => document.getElementById(id);
const element = (name, className, text) => {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
};

// --- The chat -------------------------------------------------------------------------------------------------------

const MESSAGES_MAX = 500;

const chat = { client: undefined, shard: undefined, count: 0, joined: undefined, sent: new Map() };

const stored = (key, fallback) => {
  try {
    return sessionStorage.getItem(key) ?? fallback;
  } catch {
    return fallback;
  }
};
const store = (key, value) => {
  try {
    sessionStorage.setItem(key, value);
  } catch {
    // Without storage the name is not remembered.
  }
};

const channelOfAddress = () => {
  try {
    return decodeURIComponent(location.hash.slice(1)) || "lobby";
  } catch {
    return "lobby";
  }
};

function note(text, bad = false) {
  $("note").textContent = text;
  $("note").classList.toggle("bad", bad);
}

function showState(state, facts = {}) {
  const { code, reason, delay, client, shard } = facts;
  const why = code ? `${reason || "Connection lost"} (${code})` : "";
  $("dot").dataset.state = { open: "open", refused: "refused" }[state] ?? "waiting";
  $("now").hidden = !(state === "waiting" && delay > 1500) && state !== "refused";
  $("composer").querySelector("button").setAttribute("aria-disabled", String(state !== "open"));
  chat.shard = state === "open" ? shard : undefined;
  markShard();
  const words = {
    connecting: "Connecting",
    waiting: delay > 1500 ? `${why}. Reconnecting in ${Math.ceil(delay / 1000)} s` : `${why}. Reconnecting`,
    refused: `Rejected: ${why}`,
  };
  if (state !== "open") {
    $("present").textContent = "";
    $("state").textContent = words[state];
    return;
  }
  const where = shard === undefined ? [] : [" on ", element("b", "", `shard ${shard}`)];
  note("");
  const id = element("span", "faint", ` client ${client.slice(0, 8)}`);
  id.title = client;
  $("state").replaceChildren("Connected", ...where, id);
}

function append(item) {
  const log = $("log");
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  $("empty").hidden = true;
  $("messages").append(item);
  while ($("messages").children.length > MESSAGES_MAX) $("messages").firstElementChild.remove();
  if (atEnd) log.scrollTop = log.scrollHeight;
}

function line(number, className, ...content) {
  const item = element("li", className);
  const text = element("p");
  text.append(...content);
  const time = element("time", "", new Date().toLocaleTimeString([], { hour12: false }));
  item.append(element("span", "number", number), text, time);
  return item;
}

/** A publication as a line of the log. */
function publicationLine({ data, info, offset }, className = "") {
  chat.count += 1;
  const text = typeof data?.text === "string" ? data.text : undefined;
  const named = text !== undefined && typeof data.name === "string";
  const name = named ? data.name.slice(0, 32) : info ? "client" : "api";
  return line(`#${offset ?? chat.count}`, className, element("b", "", name), text ?? JSON.stringify(data));
}

function showPublication(publication) {
  const id = publication.data?.id;
  const began = chat.sent.get(id);
  append(publicationLine(publication, began ? "mine" : ""));
  if (began) {
    chat.sent.delete(id);
    note(`Round trip: ${(performance.now() - began).toFixed(1)} ms`);
  }
}

/** Messages from before this tab joined; their time is not known. */
function showPast(publications) {
  const lines = publications.map((publication) => publicationLine(publication, "past"));
  for (const old of lines) old.querySelector("time").remove();
  chat.joined?.before(...lines);
  $("log").scrollTop = $("log").scrollHeight;
}

function showPresent(clients) {
  $("present").textContent = `${whole(clients)} here`;
}

function showSubscribed(channel, { error, again, gap }) {
  $("present").textContent = "";
  if (error) return note(`Cannot join ${channel}: ${error.message} (${error.code})`, true);
  const missed = gap ? "; messages may be missing" : "";
  chat.joined = line("", "event", again ? `rejoined ${channel}${missed}` : `joined ${channel}`);
  append(chat.joined);
}

function join() {
  const channel = channelOfAddress();
  $("channel").value = channel;
  $("second").href = `/#${encodeURIComponent(channel)}`;
  document.title = `${channel} · Corecast`;
  const body = JSON.stringify({ channel, data: { name: "shell", text: "hello" } }).replaceAll("'", "'\\''");
  $("curl").textContent = `curl -H 'X-API-Key: the API key that the server printed' \\\n  -d '${body}' \\\n  ${location.origin}/api/publish`;
  chat.client?.join(channel);
}

function start({ scheme, host, port, path, anonymous }) {
  if (!anonymous) {
    $("dot").dataset.state = "refused";
    $("state").textContent = "Chat is off: clients need a token (client.insecure is false)";
    return;
  }
  const on = {
    state: showState, publication: showPublication, past: showPast, present: showPresent, subscribed: showSubscribed,
  };
  chat.client = new Client(`${scheme}://${host ?? location.hostname}:${port}${path}`, channelOfAddress(), on);
}

$("name").value = stored("name", `user-${Math.floor(Math.random() * 900 + 100)}`);
$("name").addEventListener("change", () => store("name", $("name").value));
$("identity").addEventListener("submit", (event) => {
  event.preventDefault();
  store("name", $("name").value);
  location.hash = encodeURIComponent($("channel").value.trim());
  $("text").focus();
});
$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  if (text === "") return;
  if (!chat.client?.open) {
    note("Not sent: not connected", true);
    return;
  }
  const id = Math.random().toString(36).slice(2);
  chat.sent.set(id, performance.now());
  chat.client.publish({ name: $("name").value || "user", text, id }, ({ error }) => {
    if (!error) return;
    chat.sent.delete(id);
    note(`Not sent: ${error.message} (${error.code})`, true);
  });
  $("text").value = "";
});
$("now").addEventListener("click", () => chat.client?.connect());
window.addEventListener("hashchange", join);
join();

// --- The numbers ----------------------------------------------------------------------------------------------------

const POLL_MS = 1000;
const stats = { before: undefined, started: false };

const whole = (number) => Math.round(number).toLocaleString("en-US");
const ratio = (writes, deliveries) => (deliveries > 0 ? (writes / deliveries).toFixed(2) : "–");
const microseconds = (us) => (us >= 1000 ? `${us / 1000} ms` : `${us} µs`);
const sum = (rows, field) => rows.reduce((total, row) => total + row[field], 0);

/** The upper bound of the histogram bucket that contains the quantile. */
function quantile(counts, bounds, share) {
  const total = counts.reduce((a, b) => a + b, 0);
  if (total === 0) return "–";
  let seen = 0;
  const index = counts.findIndex((count) => (seen += count) >= share * total);
  return index < bounds.length ? microseconds(bounds[index]) : `> ${microseconds(bounds.at(-1))}`;
}

/** The difference between two responses, for each shard; rates use the server's time. */
function between(before, now) {
  const seconds = before ? (now.at_ms - before.at_ms) / 1000 : 0;
  return now.shards.map((shard) => {
    const old = before?.shards.find((other) => other.shard === shard.shard);
    const known = old !== undefined && seconds > 0;
    return {
      ...shard,
      deliveries: known ? shard.deliveries - old.deliveries : 0,
      writes: known ? shard.writes - old.writes : 0,
      rate: known ? (shard.deliveries - old.deliveries) / seconds : 0,
      turns: shard.turn_counts.map((count, index) => (known ? count - old.turn_counts[index] : 0)),
    };
  });
}

const LABELS = ["Shard", "Connections", "Subscriptions", "Deliveries / s", "Writes / delivery", "Loop turn p50 · p99"];

function makeRow(shard) {
  const row = element("tr");
  row.setAttribute("role", "row");
  row.dataset.shard = shard.shard;
  for (const label of LABELS) {
    const cell = element("td");
    cell.setAttribute("role", label === "Shard" ? "rowheader" : "cell");
    cell.dataset.label = label;
    cell.append(element("span", "value"));
    row.append(cell);
  }
  const first = row.cells[0];
  first.firstChild.textContent = shard.shard;
  if (shard.core !== null) first.append(element("span", "core", `core ${shard.core}`));
  const you = element("span", "you", "this tab");
  you.hidden = true;
  first.append(you);
  for (const index of [1, 3]) {
    const bar = element("span", "bar");
    bar.setAttribute("aria-hidden", "true");
    row.cells[index].append(bar);
  }
  return row;
}

function fill(cell, text, share) {
  cell.querySelector(".value").textContent = text;
  cell.querySelector(".bar")?.style.setProperty("--fill", `${(share * 100).toFixed(1)}%`);
}

function markShard() {
  for (const row of $("shards").rows) {
    const here = Number(row.dataset.shard) === chat.shard;
    row.classList.toggle("here", here);
    row.querySelector(".you").hidden = !here;
  }
}

const NODE_LABELS = ["Name", "State", "Connections", "Subscriptions", "Channels", "Heard"];

/** The other servers of the cluster. */
function drawNodes(nodes) {
  $("cluster").hidden = nodes.length === 0;
  const rows = nodes.map((node) => {
    const row = element("tr");
    row.setAttribute("role", "row");
    row.title = `${node.uid}, version ${node.version}`;
    const heard = `${(node.heard_ms_ago / 1000).toFixed(1)} s ago`;
    const { name, state, connections, subscriptions, channels } = node;
    const texts = [name, state, whole(connections), whole(subscriptions), whole(channels), heard];
    texts.forEach((text, index) => {
      const cell = element("td");
      cell.setAttribute("role", index === 0 ? "rowheader" : "cell");
      cell.dataset.label = NODE_LABELS[index];
      cell.append(element("span", "value", text));
      row.append(cell);
    });
    return row;
  });
  $("nodes").replaceChildren(...rows);
}

function draw(now) {
  const rows = between(stats.before, now);
  const body = $("shards");
  if (body.rows.length !== rows.length) {
    body.replaceChildren(...rows.map(makeRow));
    markShard();
  }
  const most = (field) => Math.max(1, ...rows.map((row) => row[field]));
  const [connections, rate] = [most("connections"), most("rate")];
  rows.forEach((row, index) => {
    const cells = body.rows[index].cells;
    fill(cells[1], whole(row.connections), row.connections / connections);
    fill(cells[2], whole(row.subscriptions));
    fill(cells[3], whole(row.rate), row.rate / rate);
    fill(cells[4], ratio(row.writes, row.deliveries));
    const at = (share) => quantile(row.turns, now.turn_bounds_us, share);
    fill(cells[5], `${at(0.5)} · ${at(0.99)}`);
  });
  $("total-connections").textContent = whole(sum(rows, "connections"));
  $("total-subscriptions").textContent = whole(sum(rows, "subscriptions"));
  $("total-deliveries").textContent = whole(sum(rows, "rate"));
  $("total-writes").textContent = ratio(sum(rows, "writes"), sum(rows, "deliveries"));
  $("version").textContent = now.version;
  drawNodes(now.nodes ?? []);
  stats.before = now;
}

async function poll() {
  try {
    if (document.hidden && stats.started) return;
    const answer = await fetch("/stats");
    if (!answer.ok) throw new Error(`status ${answer.status}`);
    const now = await answer.json();
    draw(now);
    $("age").textContent = now.draining ? "the server is shutting down" : "updated every second";
    if (!stats.started) {
      stats.started = true;
      if (now.client) start(now.client);
      else $("state").textContent = "Chat is off: the server has no TCP address for clients";
    }
  } catch (error) {
    $("age").textContent = `not updated: ${error.message}`;
    stats.before = undefined;
    if (!stats.started) $("state").textContent = "The admin address does not respond";
  } finally {
    setTimeout(poll, POLL_MS);
  }
}

poll();
