"""The measured servers: how each is installed, started and loaded.

Plan: a Peer says what it is (`what`, `how`: both are printed), installs itself by package name, gives a command that listens on a
port, and the load tool's words for each kind of load that it bears. One that cannot be had raises Missing: the run goes on
without it, and the tables say so.
"""

import glob
import json
import os
import re
import shutil
import subprocess

import harness
from harness import CACHE, ROOT

HERE = os.path.join(ROOT, "benches", "peers")
OURS, AGAIN, BINARY = "corecast", "corecast (again)", "corecast-binary"
TWO = "corecast-two"
OWN = (OURS, BINARY, TWO)
CENTRIFUGO_MODULE = "github.com/centrifugal/centrifugo/v6"
SOCKUDO = "5.2.0"
UNKNOWN = "of unknown version"
SECRET = "a-secret-of-the-benches"
CHANNEL = "load"
# Pusher: clients may publish to private channels only.
PUSHER_KEY, PUSHER_SECRET, PUSHER_CHANNEL = "app-key", "app-secret", "private-load"

# The shape of a delivery of the message protocol; padding makes the frame of a plain peer as long.
BEFORE, AFTER = '{"push":{"channel":"load","pub":{"data":"', '"}}}'
PAYLOAD_BYTES = 62  # with its quotes the 64 bytes that the message protocol carries


class Missing(Exception):
    """Why a peer is not available here."""


def payload_bytes(frame_bytes):
    """Bytes of the payload of a server's frame."""
    return frame_bytes - (2 if frame_bytes < 128 else 4)


def template(frame_bytes):
    """What a plain publisher sends, so that a subscriber gets a frame of `frame_bytes`."""
    pad = payload_bytes(frame_bytes) - len(BEFORE) - PAYLOAD_BYTES - len(AFTER)
    return f"{BEFORE}{{payload}}{AFTER}{' ' * max(0, pad)}"


def shell(command, **more):
    if not shutil.which(command[0]):
        raise Missing(f"`{command[0]}` is not on the PATH")
    done = subprocess.run(command, **more)
    if done.returncode != 0:
        raise Missing(f"`{' '.join(command[:4])} …` failed")


def said(command):
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return UNKNOWN


def locked(path, name):
    """The version of a crate in a lock file."""
    with open(path) as file:
        found = re.search(rf'name = "{name}"\nversion = "([^"]+)"', file.read())
    return found[1] if found else "?"


class Peer:
    """Plain frames: an echo server at /echo, subscribers at /sub, publishers at /pub."""

    name, what, how, env = "", "", "", {}
    # More than one core: the generator has a worker on each of them too.
    shared = False

    def install(self, options):
        """Prepares the server; raises Missing if it is not available."""

    def version(self, options):
        return ""

    def server(self, case, options, state):
        """A server that is not started yet."""
        port = harness.free_port()
        return harness.Server(self.name, self.command(port, case, options, state), port, env=self.env)

    def words(self, case, address, state):
        """The load tool's arguments for this server; None if it does not support the load."""
        urls = {"echo": ["/echo"], "connect": ["/sub"], "idle": ["/sub", "--plain"]}
        if case.kind == "fanout":
            words = [f"ws://{address}/sub", "--publish-url", f"ws://{address}/pub", "--protocol", "plain"]
            frame = template(state["frame_bytes"])
            return ["fanout", *words, "--publish-frame", frame, "--size", str(PAYLOAD_BYTES)]
        path, *more = urls[case.kind]
        return [case.kind, f"ws://{address}{path}", *more]


class Ours(Peer):
    name = OURS
    what = "this server; message protocol in JSON, echo at /echo"
    how = "corecast serve --dev --cores CORE; with tokens: --config FILE"

    def install(self, options):
        if not os.path.exists(os.path.join(options.bin, "corecast")):
            raise Missing(f"no corecast in {options.bin}")

    def version(self, options):
        return f"at {harness.commit()}" if options.build else "of another build"

    def server(self, case, options, state):
        port, admin = harness.free_port(), harness.free_port()
        core = ",".join(map(str, options.cores if self.shared else options.cores[:1]))
        command = [os.path.join(options.bin, "corecast"), "serve", "--listen", f"127.0.0.1:{port}", "--cores", core]
        command += ["--admin", f"127.0.0.1:{admin}", "--control-cores", core]
        command += ["--config", config("corecast", {})] if case.tokens else ["--dev"]
        return harness.Server(self.name, command, port, admin)

    def words(self, case, address, state):
        words = centrifuge(case, address) or super().words(case, address, state)
        return [*words, "--text"] if case.limit == BINARY and self.name == OURS else words


class Binary(Ours):
    name = BINARY
    what = "the same with binary messages, for comparison with text"


class Two(Ours):
    name = TWO
    what = "the same with two shards, which share two cores with two workers of the generator"
    how = "corecast serve --dev --cores CORE,CORE"
    shared = True


def config(name, more):
    """The configuration of both servers of the message protocol."""
    os.makedirs(harness.OUT, exist_ok=True)
    path = os.path.join(harness.OUT, f"peers-{name}.json")
    channel = {"allow_subscribe_for_client": True, "allow_publish_for_client": True}
    what = {"client": {"token": {"hmac_secret_key": SECRET}}, "channel": {"without_namespace": channel}, **more}
    with open(path, "w") as file:
        json.dump(what, file)
    return path


def centrifuge(case, address):
    """The load tool's arguments for the message protocol."""
    url = f"ws://{address}/connection/websocket"
    if case.kind == "fanout":
        return ["fanout", url, "--channel", CHANNEL, "--size", "64"]
    if case.kind == "idle" and case.tokens:
        return ["idle", url, "--channel", CHANNEL, "--token-secret-env", "SECRET", "--info-bytes", "0"]
    if case.kind == "connect":
        return ["connect", url]
    return ["idle", f"ws://{address}/echo", "--plain"] if case.kind == "idle" else None


class Limit(Peer):
    """A limit: the least that a server can do; `binary` is a program of this crate."""

    def __init__(self, name, binary, what, words):
        self.name, self.binary, self.what, self.words_of = name, binary, what, words
        self.how = f"{binary} --core CORE {' '.join(words)}".strip()

    def command(self, port, case, options, state):
        words = [word.replace("SIZE", str(case.size)) for word in self.words_of]
        words = [word.replace("PAYLOAD", str(payload_bytes(state["frame_bytes"]))) for word in words]
        words = [word.replace("FRAME", str(state["frame_bytes"])) for word in words]
        place = ["--listen", f"127.0.0.1:{port}", "--core", str(options.cores[0])]
        return [os.path.join(options.bin, self.binary), *place, *words]

    def words(self, case, address, state):
        words = super().words(case, address, state)
        return [*words, "--raw-frames"] if self.binary == "limit-echo" else words


class Tungstenite(Limit):
    def version(self, options):
        lock = os.path.join(ROOT, "Cargo.lock")
        return f"tokio-tungstenite {locked(lock, 'tokio-tungstenite')}, tokio {locked(lock, 'tokio')}"

    def words(self, case, address, state):
        return Peer.words(self, case, address, state)


class Go(Peer):
    env = {"GIN_MODE": "release", "GOMAXPROCS": "1"}

    def __init__(self, name, what, library):
        self.name, self.what, self.library = name, what, library
        self.how = f"GIN_MODE=release GOMAXPROCS=1 {name} (benches/peers/go)"

    def install(self, options):
        folder = os.path.join(CACHE, "peers", "go", "")
        os.makedirs(folder, exist_ok=True)
        shell(["go", "build", "-o", folder, "./..."], cwd=os.path.join(HERE, "go"))

    def version(self, options):
        with open(os.path.join(HERE, "go", "go.mod")) as file:
            known = dict(re.findall(r"^\s*(\S+) (v\S+)$", file.read(), re.MULTILINE))
        gin = known["github.com/gin-gonic/gin"]
        return f"gin {gin}, {self.library} {known['github.com/' + self.library]}, {said(['go', 'env', 'GOVERSION'])}"

    def command(self, port, *_):
        return [os.path.join(CACHE, "peers", "go", self.name), "--listen", f"127.0.0.1:{port}"]


class Fastwebsockets(Peer):
    name = "fastwebsockets"
    what = "Rust: fastwebsockets, upgrade by hyper, a task per connection, a broadcast channel"
    how = "fastwebsockets-peer ADDRESS:PORT (benches/peers/rust), one thread"
    folder = os.path.join(CACHE, "peers", "rust")

    def install(self, options):
        manifest = os.path.join(HERE, "rust", "Cargo.toml")
        shell(["cargo", "build", "--locked", "--release", "--manifest-path", manifest, "--target-dir", self.folder])

    def version(self, options):
        lock = os.path.join(HERE, "rust", "Cargo.lock")
        return f"fastwebsockets {locked(lock, 'fastwebsockets')}, tokio {locked(lock, 'tokio')}"

    def command(self, port, *_):
        return [os.path.join(self.folder, "release", "fastwebsockets-peer"), f"127.0.0.1:{port}"]


class Script(Peer):
    """A JavaScript server; both runtimes are npm packages."""

    env = {"NODE_ENV": "production"}
    folder = os.path.join(CACHE, "peers", "js")

    def __init__(self, name, what, how):
        self.name, self.what, self.how = name, what, how

    def install(self, options):
        shutil.copytree(os.path.join(HERE, "js"), self.folder, dirs_exist_ok=True)
        shell(["npm", "install", "--no-audit", "--no-fund", "--silent"], cwd=self.folder)

    def runtime(self):
        """The path of Bun, which its install script may have moved."""
        modules = os.path.join(self.folder, "node_modules")
        places = ["node"] if self.name == "ws" else [f"{modules}/.bin/bun", *glob.glob(f"{modules}/@oven/*/bin/bun")]
        for place in places:
            if shutil.which(place) and said([place, "--version"]) != UNKNOWN:
                return place
        raise Missing("its runtime is not installed")

    def version(self, options):
        runtime = said([self.runtime(), "--version"])
        with open(os.path.join(self.folder, "package.json")) as file:
            ws = json.load(file)["dependencies"]["ws"]
        return f"ws {ws}, node {runtime}" if self.name == "ws" else f"bun {runtime}"

    def command(self, port, *_):
        return [self.runtime(), os.path.join(self.folder, f"{self.name}.js"), str(port)]


class Centrifugo(Peer):
    name = "centrifugo"
    what = "Go: Centrifugo, the message protocol in JSON"
    how = "GOMAXPROCS=1 centrifugo --config FILE, client.insecure where ours is --dev"
    env = {"GOMAXPROCS": "1"}

    def install(self, options):
        try:
            self.program = harness.go_install(CENTRIFUGO_MODULE)
        except RuntimeError as error:
            raise Missing(str(error)) from error

    def version(self, options):
        return harness.go_version(self.program, CENTRIFUGO_MODULE)

    def command(self, port, case, options, state):
        more = {"http_server": {"address": "127.0.0.1", "port": port}, "log": {"level": "error"}}
        if not case.tokens:
            more["client"] = {"insecure": True}
        return [self.program, "--config", config("centrifugo", more)]

    def words(self, case, address, state):
        return centrifuge(case, address)


class Sockudo(Peer):
    name = "sockudo"
    what = "Rust: Sockudo, the Pusher protocol; messages of clients in a private channel"
    how = "TOKIO_WORKER_THREADS=1 sockudo, settings by the environment, built with the feature 'local' only, no rate limits"
    program = os.path.join(CACHE, "peers", "sockudo", "bin", "sockudo")
    settings = {
        "TOKIO_WORKER_THREADS": "1",
        "HOST": "127.0.0.1",
        "METRICS_ENABLED": "false",
        "RATE_LIMITER_ENABLED": "false",
        "WEBSOCKET_COMPRESSION": "disabled",
        "SOCKUDO_DEFAULT_APP_ID": "app",
        "SOCKUDO_DEFAULT_APP_KEY": PUSHER_KEY,
        "SOCKUDO_DEFAULT_APP_SECRET": PUSHER_SECRET,
        "SOCKUDO_DEFAULT_APP_MAX_CONNECTIONS": "1000000",
        "SOCKUDO_DEFAULT_APP_MAX_CLIENT_EVENTS_PER_SECOND": "1000000",
        "SOCKUDO_DEFAULT_APP_ENABLE_CLIENT_MESSAGES": "true",
        "RUST_LOG": "error",
    }

    def install(self, options):
        if "pusher" not in said([os.path.join(options.bin, "corecast-load"), "fanout", "--help"]):
            raise Missing("this corecast-load does not support the Pusher protocol")
        if os.path.exists(self.program):
            return
        if not shutil.which("protoc"):
            raise Missing("its build needs `protoc` (apt-get install protobuf-compiler)")
        root = os.path.dirname(os.path.dirname(self.program))
        command = ["cargo", "install", "sockudo", "--version", SOCKUDO, "--locked", "--root", root]
        shell([*command, "--no-default-features", "--features", "local"])

    def version(self, options):
        return SOCKUDO

    def server(self, case, options, state):
        port = harness.free_port()
        return harness.Server(self.name, [self.program], port, env={**self.settings, "PORT": str(port)})

    def words(self, case, address, state):
        url = f"ws://{address}/app/{PUSHER_KEY}"
        pusher = [url, "--protocol", "pusher", "--channel", PUSHER_CHANNEL, "--pusher-secret-env", "PUSHER_SECRET"]
        if case.kind == "connect":
            return ["connect", url]
        if case.kind == "fanout":
            return ["fanout", *pusher, "--size", str(PAYLOAD_BYTES)]
        return ["idle", *pusher] if case.tokens else ["idle", url, "--plain"]


def all_peers():
    """This server first, then the limits, then the others."""
    echo = Limit("limit-echo", "limit-echo", "an epoll echo that never parses", ["--size", "SIZE"])
    bare = ["--size", "PAYLOAD", "--frame-bytes", "FRAME", "--mode"]
    one = Limit("limit-send", "limit-send", "a loop of bare sends, one for each delivery", [*bare, "per-delivery"])
    many = Limit("limit-coalesce", "limit-send", "a loop of bare sends, one for each socket and turn", [*bare, "coalesce"])
    connect = Limit("limit-connect", "limit-connect", "accepts, reads once, writes a prepared answer, closes", [])
    task = "Rust: tokio-tungstenite, a task per connection, a broadcast channel; takes all that waits before it flushes"
    tungstenite = Tungstenite("tungstenite", "tungstenite-peer", task, bare[:-1])
    hub = "Go: Gin and gorilla/websocket, two goroutines per connection, a central hub"
    loop = "Go: Gin served by nbio's event loop, no goroutine per connection"
    go = [Go("gin-gorilla", hub, "gorilla/websocket"), Go("gin-eventloop", loop, "lesismal/nbio")]
    scripts = "NODE_ENV=production {} (benches/peers/js)"
    bun = Script("bun", "JavaScript: Bun.serve and its topics (uWebSockets inside)", scripts.format("bun bun.js"))
    ws = Script("ws", "JavaScript: `ws` on Node, a loop over a set of sockets", scripts.format("node ws.js"))
    rest = [*go, tungstenite, Fastwebsockets(), bun, ws, Centrifugo(), Sockudo()]
    return {peer.name: peer for peer in (Ours(), Binary(), Two(), echo, one, many, connect, *rest)}


# Known servers that cannot be installed as a package.
UNHAD = {
    "uWebSockets.js": "not in the npm registry under its name; Bun, which contains uWebSockets, represents it",
    "soketi": "depends on uWebSockets.js by a repository's address; sockudo represents servers of the Pusher protocol",
}
