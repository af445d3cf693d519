"""The loads, and the targets.

Plan: a Case is a load, the servers that run it, and which of them is the limit. `bars` compares the results with the targets;
`share` compares two servers.
"""

import statistics

from lineup import AGAIN, BINARY, OURS, TWO

PLAIN = ["gin-gorilla", "gin-eventloop", "tungstenite", "fastwebsockets", "bun", "ws"]
# uWebSockets' code outside the kernel, ns for one echo, by depth: a server that is not faster must at least need less.
USER_NS_MOST = {1: 270, 16: 40}
NOISE = 0.95


class Case:
    """`size`: bytes of a message. `tokens`: connections of the message protocol bring one. `least`: share of the limit."""

    def __init__(self, name, kind, title, words, servers, size=64, limit=None, least=None, tokens=False, rate_of=None):
        self.name, self.kind, self.title, self.words = name, kind, title, words
        self.servers, self.size, self.limit, self.least = servers, size, limit, least
        self.tokens, self.rate_of = tokens, rate_of

    def near(self):
        """The servers whose ratio is near 1, which takes more rounds."""
        return [name for name in self.servers if name in (OURS, self.limit)] + [AGAIN]


def echo_cases(options):
    found = []
    for size in (16, 512):
        for connections in (100, 1000):
            for depth, least in ((1, 0.97), (16, 0.93)):
                words = ["--connections", str(connections), "--depth", str(depth), "--size", str(size)]
                title = f"echo {size} B, {connections:,} connections, {depth} in flight"
                servers = [OURS, "limit-echo", *PLAIN]
                name = f"echo-{size}-{connections}x{depth}"
                found.append(Case(name, "echo", title, words, servers, size, "limit-echo", least))
    for depth in (1, 16):
        words = ["--connections", "10", "--depth", str(depth), "--size", "65536"]
        title = f"echo 64 KiB, 10 connections, {depth} in flight"
        servers = [OURS, "limit-echo", *PLAIN]
        found.append(Case(f"echo-64k-10x{depth}", "echo", title, words, servers, 65536, "limit-echo", 0.92))
    for depth in (1, 16):
        words = ["--connections", "100", "--depth", str(depth), "--size", "512"]
        title = f"echo 512 B, 100 connections, {depth} in flight, text against binary"
        found.append(Case(f"text-512-100x{depth}", "echo", title, words, [OURS, BINARY], 512, BINARY, 0.97))
    return found


def fanout_cases(options):
    found = []
    leasts = {(1000, 1): 0.97, (10000, 1): 0.95}
    for subscribers in (1000, 10000):
        for window in (1, 8, 16):
            limit = "limit-send" if window == 1 else "limit-coalesce"
            least = leasts.get((subscribers, window), 0.92 if window == 8 else None)
            words = ["--subscribers", str(subscribers), "--window", str(window)]
            title = f"fan-out to {subscribers:,}, window {window}"
            servers = [OURS, limit, *PLAIN, "centrifugo", "sockudo"]
            found.append(Case(f"fanout-{subscribers}-w{window}", "fanout", title, words, servers, limit=limit, least=least))
    words = ["--subscribers", "10000", "--window", "64"]
    found.append(Case("fanout-10000-w64", "fanout", "fan-out to 10,000, window 64", words, [OURS]))
    for window in (1, 8):
        limit = "limit-send" if window == 1 else "limit-coalesce"
        title = f"fan-out to 1,000 at half of the slowest's rate at window {window}"
        servers = [OURS, limit, *PLAIN, "centrifugo", "sockudo"]
        case = Case(f"latency-1000-w{window}", "fanout", title, ["--subscribers", "1000"], servers, limit=limit)
        case.rate_of = f"fanout-1000-w{window}"
        found.append(case)
    return found


def idle_cases(options):
    words = ["--connections", str(options.idle), "--steps", str(options.idle // 4), "--settle", str(options.settle)]
    words += ["--open-timeout", "300", "--hold"]
    of = f"{options.idle:,} idle connections"
    # Long enough for pings to every connection; plain connections get none.
    pinged, plain = [*words, str(options.hold)], [*words, "5"]
    protocol = [OURS, "centrifugo", "sockudo"]
    own = [*plain, "--own-channel"]
    return [
        Case("idle-plain", "idle", f"{of}, plain", plain, [OURS, *PLAIN]),
        Case("idle-protocol", "idle", f"{of}, a token, one channel for all", pinged, protocol, tokens=True),
        Case("idle-own", "idle", f"{of}, a token, a channel each", own, [OURS, "centrifugo"], tokens=True),
    ]


def churn_cases(options):
    words = ["--total", str(options.churn), "--close"]
    servers = [OURS, "limit-connect", *PLAIN, "centrifugo", "sockudo"]
    return [Case("churn", "connect", "connect, upgrade, close", words, servers, limit="limit-connect", least=0.9)]


def shard_cases(options):
    """The cost of a second shard: work for a second of processor time, two shards against one."""
    loads = [
        ("shards-echo", "echo", "echo 512 B, 100 connections, 16 in flight", ["--connections", "100", "--depth", "16"]),
        ("shards-fanout-w1", "fanout", "fan-out to 1,000, window 1", ["--subscribers", "1000", "--window", "1"]),
        ("shards-fanout-w8", "fanout", "fan-out to 1,000, window 8", ["--subscribers", "1000", "--window", "8"]),
    ]
    found = []
    for name, kind, title, words in loads:
        words = [*words, "--size", "512"] if kind == "echo" else words
        found.append(Case(name, kind, f"{title}: two shards", words, [OURS, TWO], limit=TWO, least=0.9))
    return found


def cases(options):
    parts = (echo_cases, fanout_cases, idle_cases, churn_cases, shard_cases)
    return [case for part in parts for case in part(options)]


# ---- how two servers compare -------------------------------------------------------------------------------------------------


def cost(run):
    """The server's processor time per message or connection, in ns."""
    return run.get("server_ns_per_message") or run.get("server_ns_per_connection")


def full(run):
    """Whether the rate is a throughput: the maximum of the server."""
    return not any(reason.startswith("as a throughput") for reason in run["void"])


def sound(run):
    return all(reason.startswith("as a throughput") for reason in run["void"])


def share(mine, others, rated=False):
    """How many times the others' work we do, by pairs of one round; and by what: the rate, where all rates count, or CPU.
    `rated`: the rate was given, and says nothing."""
    pairs = [(a, b) for a, b in zip(mine, others) if sound(a) and sound(b) and cost(a) and cost(b)]
    if not pairs:
        return None, "nothing"
    if not rated and all(full(a) and full(b) for a, b in pairs):
        return statistics.median(a["per_second"] / b["per_second"] for a, b in pairs), "rate"
    return statistics.median(cost(b) / cost(a) for a, b in pairs), "CPU"


def middle(runs, *path):
    values = []
    for run in runs:
        for key in path:
            run = run.get(key) if isinstance(run, dict) else None
        if isinstance(run, (int, float)):
            values.append(run)
    return statistics.median(values) if values else None


# ---- targets ------------------------------------------------------------------------------------------------------------------


class Bars:
    """Each: the bar's number in the list of promises, what, how much, how much it should be, and whether it is."""

    def __init__(self, results):
        self.of = {case["case"]: case["runs"] for case in results}
        self.found = []

    def say(self, number, what, value, wanted, reached, form=None):
        # Near a target of 0.97 the third digit matters.
        form = form or ("{:.3f}" if value and value < 2 else "{:.1f}")
        text = "-" if value is None else form.format(value)
        good = bool(value is not None and reached)
        self.found.append({"bar": number, "what": what, "value": text, "wanted": wanted, "reached": good})

    def at_least(self, number, what, value, wanted):
        self.say(number, what, value, f"at least {wanted:g}", value is not None and value >= wanted)

    def at_most(self, number, what, value, wanted, form="{:,.0f}"):
        self.say(number, what, value, f"at most {wanted:,.0f}", value is not None and value <= wanted, form)

    def has(self, case, *names):
        return all(self.of.get(case, {}).get(name) for name in names)

    def limits(self, cases):
        numbers = {"echo": 1, "fanout": 2, "connect": 5}
        for case in cases:
            if case.limit == TWO and self.has(case.name, OURS, TWO):
                value, _ = share(self.of[case.name][TWO], self.of[case.name][OURS], rated=True)
                self.at_least(6, f"{case.title}: for a second of CPU, in times one's", value, case.least)
            elif case.least and self.has(case.name, OURS, case.limit):
                value, by = share(self.of[case.name][OURS], self.of[case.name][case.limit])
                beside = "" if case.limit == BINARY else ": share of the limit"
                self.at_least(numbers[case.kind], f"{case.title}{beside}, by {by}", value, case.least)

    def ahead(self, cases):
        for case in cases:
            runs = self.of.get(case.name, {})
            if case.kind != "echo" or case.limit == TWO or not runs.get(OURS):
                continue
            beside = {name: share(runs[OURS], runs[name])[0] for name in PLAIN if runs.get(name)}
            beside = {name: value for name, value in beside.items() if value is not None}
            if not beside:
                continue
            user = middle([{"ns": cost(run) * run.get("server_user_share", 0)} for run in runs[OURS]], "ns")
            lean = user is not None and user < USER_NS_MOST.get(int(case.words[3]), 0)
            good = all(value >= 1 or (name == "bun" and value >= NOISE and lean) for name, value in beside.items())
            name = min(beside, key=beside.get)
            what = f"{case.title}: times the work of the best peer ({name}; ours {user or 0:,.0f} ns outside the kernel)"
            self.say(1, what, beside[name], "at least 1, or uWebSockets' within noise and fewer ns", good)

    def writes(self):
        writes = middle(self.of.get("fanout-10000-w64", {}).get(OURS, []), "server_writes_per_message")
        if writes:
            self.at_least(2, "fan-out to 10,000, window 64: deliveries for each write", 1 / writes, 30)

    def beside(self):
        wanted = [
            ("gin-gorilla", "fanout-1000-w1", 1.4), ("gin-gorilla", "fanout-10000-w1", 2),
            ("gin-gorilla", "fanout-1000-w8", 6), ("gin-gorilla", "fanout-10000-w8", 6),
            ("sockudo", "fanout-1000-w1", 3.3), ("sockudo", "fanout-1000-w8", 12),
            ("centrifugo", "fanout-1000-w1", 2), ("centrifugo", "fanout-1000-w8", 4),
        ]  # fmt: skip
        for name, case, least in wanted:
            if self.has(case, OURS, name):
                value, by = share(self.of[case][OURS], self.of[case][name])
                self.at_least(3, f"{case}: times {name}'s, by {by}", value, least)
        memory = lambda case, name: middle(self.of.get(case, {}).get(name, []), "pss_per_connection")
        busy = lambda name: middle(self.of.get("idle-protocol", {}).get(name, []), "server_busy")
        mine = memory("idle-protocol", OURS)
        for name, case, least in (("gin-gorilla", "idle-plain", 40), ("centrifugo", "idle-protocol", 20)):
            theirs = memory(case, name)
            if mine and theirs:
                what = f"memory of an idle connection: {name}'s in times ours over the message protocol"
                self.at_least(3, what, theirs / mine, least)
        if busy(OURS) and busy("centrifugo"):
            self.at_least(3, "CPU of idle connections: centrifugo's in times ours", busy("centrifugo") / busy(OURS), 8)

    def memory(self):
        of = lambda case: middle(self.of.get(case, {}).get(OURS, []), "pss_per_connection")
        if of("idle-plain"):
            self.at_most(4, "bytes of an idle connection, plain", of("idle-plain"), 160)
        if of("idle-protocol"):
            self.at_most(4, "bytes with a token and a shared channel", of("idle-protocol"), 400)
            if of("idle-own"):
                self.at_most(4, "bytes more with a channel of its own", of("idle-own") - of("idle-protocol"), 500)


def bars(results, cases):
    all_of = Bars(results)
    all_of.limits(cases)
    all_of.ahead(cases)
    all_of.writes()
    all_of.beside()
    all_of.memory()
    return sorted(all_of.found, key=lambda bar: bar["bar"])
