"""The Python SDK, unmodified, doing what an application does with it, in both encodings.

Every scenario runs once with JSON and once with Protobuf on a server that `stand.mjs` has started. The last line is
"N passed, N failed".
"""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import os
import sys
import time
import traceback
import urllib.request

from centrifuge import CentrifugeError, Client, ClientEventHandler, DeltaType, Filter, ReplyError, StreamPosition, SubscriptionEventHandler

WAIT = 10
STAND = {name: os.environ[f"STAND_{name}"] for name in ("URL", "RELAY_URL", "CONTROL", "API", "API_KEY", "SECRET")}
SCENARIOS = []


def scenario(function):
    SCENARIOS.append(function)
    return function


def jwt(**claims):
    part = lambda value: base64.urlsafe_b64encode(value).rstrip(b"=")
    signed = part(b'{"alg":"HS256","typ":"JWT"}') + b"." + part(json.dumps(claims).encode())
    return (signed + b"." + part(hmac.new(STAND["SECRET"].encode(), signed, hashlib.sha256).digest())).decode()


def call(url, body=b"{}"):
    request = urllib.request.Request(url, data=body, headers={"X-API-Key": STAND["API_KEY"], "Content-Type": "application/json"})
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=WAIT) as answer:
        return answer.read()


async def api(method, **body):
    answer = json.loads(await asyncio.to_thread(call, f"{STAND['API']}/{method}", json.dumps(body).encode()))
    assert "result" in answer, answer
    return answer["result"]


async def relay(state):
    await asyncio.to_thread(call, f"{STAND['CONTROL']}/{state}")


async def until(what, probe):
    deadline = time.monotonic() + WAIT
    while not (value := probe()):
        assert time.monotonic() < deadline, f"{WAIT} s passed without {what}"
        await asyncio.sleep(0.02)
    return value


class Events(ClientEventHandler, SubscriptionEventHandler):
    """Remembers what happened: names, and what came with them."""

    def __init__(self, kit):
        self.kit = kit
        self.seen = []
        self.got = []

    def all(self, name):
        return [context for seen, context in self.seen if seen == name]

    async def first(self, name, count=1):
        return (await until(f"{name} (number {count})", lambda: self.all(name)[count - 1 : count]))[0]

    async def on_publication(self, ctx):
        self.seen.append(("publication", ctx))
        self.got.append(self.kit.unpack(ctx.pub.data))


def _remember(name):
    async def handler(self, ctx):
        self.seen.append((name, ctx))

    return handler


for _name in ("connecting", "connected", "disconnected", "error", "subscribing", "subscribed", "unsubscribed", "join", "leave"):
    setattr(Events, f"on_{_name}", _remember(_name))


class Kit:
    serial = 0

    def __init__(self, encoding):
        Kit.serial += 1
        self.encoding = encoding
        self.tag = f"py-{encoding}-{Kit.serial}"
        self.user = f"user-{self.tag}"
        self.clients = []

    def pack(self, value):
        return json.dumps(value, separators=(",", ":")).encode() if self.encoding == "protobuf" else value

    def unpack(self, data):
        return json.loads(data) if self.encoding == "protobuf" and data is not None else data

    def client(self, url=None, **options):
        events = Events(self)
        client = Client(url or STAND["URL"], events=events, use_protobuf=self.encoding == "protobuf", min_reconnect_delay=0.02, max_reconnect_delay=0.1, proxy=None, **options)
        client.seen = events
        self.clients.append(client)
        return client

    async def connected(self, url=None, **options):
        client = self.client(url, **options)
        await client.connect()
        await client.seen.first("connected")
        return client

    async def subscribed(self, client, channel, **options):
        events = Events(self)
        subscription = client.new_subscription(channel, events=events, **options)
        await subscription.subscribe()
        await events.first("subscribed")
        return subscription, events

    async def end(self):
        for client in self.clients:
            with contextlib.suppress(CentrifugeError):
                await client.disconnect()


async def refusal(awaitable):
    try:
        await awaitable
    except ReplyError as error:
        return error.code, error.message
    raise AssertionError("the call succeeded")


@scenario
async def anonymous_connect(kit):
    client = await kit.connected()
    assert client.seen.all("connected")[0].client


@scenario
async def a_token_names_the_user(kit):
    client = await kit.connected(token=jwt(sub=kit.user, info={"name": "Ann"}))
    subscription, _ = await kit.subscribed(client, f"open:{kit.tag}")
    presence = await subscription.presence()
    me = presence.clients[client.seen.all("connected")[0].client]
    assert (me.user, kit.unpack(me.conn_info)) == (kit.user, {"name": "Ann"}), me


@scenario
async def a_wrong_token_is_refused_for_good(kit):
    client = kit.client(token=jwt(sub=kit.user)[:-4] + "AAAA")
    await client.connect()
    ctx = await client.seen.first("disconnected")
    assert (ctx.code, ctx.reason) == (3500, "invalid token"), ctx


@scenario
async def an_expired_token_is_replaced(kit):
    async def get_token():
        return jwt(sub=kit.user)

    await kit.connected(token=jwt(sub=kit.user, exp=int(time.time()) - 10), get_token=get_token)


@scenario
async def a_token_is_refreshed_in_time(kit):
    asked = []

    async def get_token():
        asked.append(time.time())
        return jwt(sub=kit.user, exp=int(time.time()) + 300)

    client = await kit.connected(token=jwt(sub=kit.user, exp=int(time.time()) + 2), get_token=get_token)
    await until("the refresh", lambda: asked)
    await client.publish(f"open:{kit.tag}", kit.pack(1))
    assert len(client.seen.all("connecting")) == 1, "never reconnected"


@scenario
async def subscribe_and_publish(kit):
    listener, speaker = await kit.connected(token=jwt(sub="listener")), await kit.connected(token=jwt(sub="speaker"))
    _, events = await kit.subscribed(listener, f"open:{kit.tag}")
    data = {"text": 'ünïcode "quoted"', "list": [1, None, {"a": []}]}
    await speaker.publish(f"open:{kit.tag}", kit.pack(data))
    ctx = await events.first("publication")
    assert events.got == [data], events.got
    assert ctx.pub.info.user == "speaker"
    await api("publish", channel=f"open:{kit.tag}", data={"from": "the server"}, tags={"k": "v"})
    ctx = await events.first("publication", 2)
    assert (events.got[1], ctx.pub.tags) == ({"from": "the server"}, {"k": "v"}), ctx


@scenario
async def what_is_not_allowed(kit):
    client = await kit.connected(token=jwt(sub=kit.user))
    assert await refusal(client.publish(f"shut:{kit.tag}", kit.pack(1))) == (103, "permission denied")
    assert await refusal(client.history(f"open:{kit.tag}")) == (108, "not available")
    assert await refusal(client.presence(f"nowhere:{kit.tag}")) == (102, "unknown channel")
    events = Events(kit)
    await client.new_subscription(f"shut:{kit.tag}", events=events).subscribe()
    ctx = await events.first("unsubscribed")
    assert (ctx.code, ctx.reason) == (103, "permission denied"), ctx


@scenario
async def a_subscription_token(kit):
    client = await kit.connected(token=jwt(sub=kit.user))
    channel = f"shut:{kit.tag}"
    _, events = await kit.subscribed(client, channel, token=jwt(sub=kit.user, channel=channel))
    await api("publish", channel=channel, data=1)
    await events.first("publication")


@scenario
async def presence_joins_and_leaves(kit):
    channel = f"room:{kit.tag}"
    watcher, visitor = await kit.connected(token=jwt(sub=kit.user)), await kit.connected(token=jwt(sub="visitor"))
    subscription, events = await kit.subscribed(watcher, channel)
    await kit.subscribed(visitor, channel)
    await until("the join", lambda: [ctx for ctx in events.all("join") if ctx.info.user == "visitor"])
    stats = await subscription.presence_stats()
    assert (stats.num_clients, stats.num_users) == (2, 2), stats
    assert sorted(info.user for info in (await subscription.presence()).clients.values()) == sorted(["visitor", kit.user])
    await visitor.disconnect()
    ctx = await events.first("leave")
    assert ctx.info.user == "visitor"


@scenario
async def history(kit):
    channel = f"rec:{kit.tag}"
    client = await kit.connected(token=jwt(sub=kit.user))
    subscription, _ = await kit.subscribed(client, channel)
    for number in range(1, 6):
        await subscription.publish(kit.pack(number))
    top = await subscription.history()
    assert (top.offset, top.publications) == (5, []), top
    read = lambda result: [kit.unpack(publication.data) for publication in result.publications]
    assert read(await subscription.history(limit=-1)) == [1, 2, 3, 4, 5]
    assert read(await subscription.history(limit=2, reverse=True)) == [5, 4]
    assert read(await subscription.history(limit=2, since=StreamPosition(offset=2, epoch=top.epoch))) == [3, 4]
    assert await refusal(subscription.history(limit=2, since=StreamPosition(offset=2, epoch="other"))) == (112, "unrecoverable position")


@scenario
async def recovery_over_a_severed_connection(kit):
    channel = f"rec:{kit.tag}"
    client = await kit.connected(STAND["RELAY_URL"], token=jwt(sub=kit.user))
    _, events = await kit.subscribed(client, channel)
    await api("publish", channel=channel, data=1)
    await events.first("publication")
    try:
        await relay("down")
        await client.seen.first("connecting", 2)
        for number in (2, 3, 4):
            await api("publish", channel=channel, data=number)
    finally:
        await relay("up")
    ctx = await events.first("subscribed", 2)
    assert (ctx.was_recovering, ctx.recovered) == (True, True), ctx
    await api("publish", channel=channel, data=5)
    await until("the last", lambda: 5 in events.got)
    assert events.got == [1, 2, 3, 4, 5], events.got


@scenario
async def deltas(kit):
    channel = f"diff:{kit.tag}"
    client = await kit.connected(token=jwt(sub=kit.user))
    _, events = await kit.subscribed(client, channel, delta=DeltaType.FOSSIL)
    body = lambda number: {"number": number, "rest": "always the same " * 20}
    for number in range(5):
        await api("publish", channel=channel, data=body(number))
    await events.first("publication", 5)
    assert events.got == [body(number) for number in range(5)], events.got
    assert [ctx.pub.delta for ctx in events.all("publication")] == [False, True, True, True, True]


@scenario
async def a_filter_by_tags(kit):
    channel = f"tags:{kit.tag}"
    client = await kit.connected(token=jwt(sub=kit.user))
    _, events = await kit.subscribed(client, channel, tags_filter=Filter.eq("kind", "goal"))
    for number, kind in enumerate(("goal", "foul", "goal")):
        await api("publish", channel=channel, data=number, tags={"kind": kind})
    await events.first("publication", 2)
    assert events.got == [0, 2], events.got


@scenario
async def rpc(kit):
    client = await kit.connected(token=jwt(sub=kit.user))
    result = await client.rpc("sum", kit.pack({"terms": [1, 2]}))
    assert kit.unpack(result.data) == {"method": "sum", "data": {"terms": [1, 2]}}, result
    assert await refusal(client.rpc("fail", kit.pack({}))) == (1234, "no")


@scenario
async def a_server_side_subscription(kit):
    channel = f"rec:{kit.tag}"
    client = await kit.connected(token=jwt(sub=kit.user, channels=[channel]))
    ctx = await client.seen.first("subscribed")
    assert ctx.channel == channel
    await api("publish", channel=channel, data={"x": 1})
    await client.seen.first("publication")
    assert client.seen.got == [{"x": 1}]
    await api("unsubscribe", user=kit.user, channel=channel)
    await client.seen.first("unsubscribed")


@scenario
async def disconnect_by_the_server(kit):
    client = await kit.connected(token=jwt(sub=kit.user))
    await api("disconnect", user=kit.user, disconnect={"code": 4000, "reason": "again"})
    ctx = await client.seen.first("connecting", 2)
    assert (ctx.code, ctx.reason) == (4000, "again"), ctx
    await client.seen.first("connected", 2)
    await api("disconnect", user=kit.user)
    ctx = await client.seen.first("disconnected")
    assert (ctx.code, ctx.reason) == (3503, "force disconnect"), ctx


async def main():
    passed, failed = 0, 0
    for encoding in ("json", "protobuf"):
        for run in SCENARIOS:
            kit = Kit(encoding)
            name = f"{run.__name__.replace('_', ' ')} [{encoding}]"
            try:
                await asyncio.wait_for(run(kit), 3 * WAIT)
                passed += 1
                print(f"ok      {name}")
            except Exception:
                failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}")
            finally:
                await kit.end()
    print(f"sdk-python: {passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(asyncio.run(main()))
