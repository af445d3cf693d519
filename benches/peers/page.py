"""The text forms of a run: RESULTS.md, the table in docs/benchmarks.md, and the lines on the terminal. The plot is in plot.py."""

import os
import re

import harness
import plot
from cases import cost, full, middle, share, sound
from harness import ROOT, figure
from lineup import AGAIN, OURS

HERE = os.path.join(ROOT, "benches", "peers")
# Options with their defaults and help; a printed command names the options that differ from their default.
DEFAULTS = {
    "rounds": (3, "rounds of every server"),
    "pairs": (5, "rounds of this server and the limit; use 11 for ratios near 1"),
    "duration": (2.0, "seconds measured per run"),
    "warmup": (0.5, "seconds of load before the measurement"),
    "idle": (19_000, "idle connections; fewer if files are limited"),
    "hold": (52.0, "seconds for which idle connections are held that are pinged every 25"),
    "settle": (3.0, "seconds of silence before memory is read"),
    "churn": (50_000, "connections that are opened and closed in a run"),
}
QUICK = {"rounds": 1, "pairs": 1, "duration": 1.0, "warmup": 0.3, "idle": 6000, "hold": 27.0, "settle": 1.0, "churn": 20_000}
BEGIN, END = "<!-- written by benches/peers/run --publish -->", "<!-- end -->"
LABELS = {
    "gin-gorilla": "Gin, gorilla/websocket",
    "gin-eventloop": "Gin, event loop",
    "tungstenite": "tokio-tungstenite",
    "fastwebsockets": "fastwebsockets",
    "bun": "Bun (uWebSockets)",
    "ws": "ws on Node",
    "centrifugo": "Centrifugo",
    "sockudo": "sockudo",
}
# The columns of the table in docs/benchmarks.md: a scenario, and its title.
BRIEF = [
    ("echo-512-100x1", "echo 512 B, one in flight"),
    ("echo-16-100x16", "echo 16 B, 16 in flight"),
    ("echo-64k-10x1", "echo 64 KiB"),
    ("fanout-1000-w1", "fan-out to 1,000, window 1"),
    ("fanout-1000-w8", "fan-out to 1,000, window 8"),
    ("fanout-10000-w1", "fan-out to 10,000, window 1"),
    ("fanout-10000-w8", "fan-out to 10,000, window 8"),
    ("churn", "connect, upgrade, close"),
]


def short(found):
    """One run as a line."""
    reasons = "; ".join(found["void"])
    if found.get("pss_per_connection") is not None:
        return f"{found['pss_per_connection']:>12,.0f} bytes  {found.get('server_busy', 0):.2%} busy  {reasons}"
    return f"{found.get('per_second', 0):>12,.0f} /s {figure(cost(found), '{:>9,.0f}')} ns  {reasons}"


def lost(runs):
    """The reasons of void runs."""
    reasons = sorted({reason for run in runs for reason in run["void"] if not reason.startswith("as a throughput")})
    return "".join(f"VOID: {reason}. " for reason in reasons)


def rows(case):
    """A case's table: head and cells."""
    runs, mine = case["runs"], case["runs"].get(OURS, [])
    if case["kind"] == "idle":
        head = ["", "bytes each (Pss)", "of it heap and stacks", "times ours", "CPU of all, cores", "times ours", ""]
    else:
        head = ["", "per second", "server CPU, ns", "outside the kernel", "server, generator busy", "p99, µs", "last p99, µs"]
        head += ["ours does", ""]
    cells = []
    for name, several in runs.items():
        good = [run for run in several if sound(run)]
        if case["kind"] == "idle":
            what = [middle(good, key) for key in ("pss_per_connection", "anonymous_per_connection", "server_busy")]
            own = [middle(mine, key) for key in ("pss_per_connection", "server_busy")]
            times = [a / b if a and b and name != OURS else None for a, b in zip((what[0], what[2]), own)]
            texts = [figure(what[0], "{:,.0f}"), figure(what[1], "{:,.0f}"), figure(times[0], "{:.1f}")]
            texts += [figure(what[2], "{:.3%}"), figure(times[1], "{:.1f}")]
        else:
            texts = load_cells(good, mine, name, several, bool(case["more"]))
        void = sum(not full(run) for run in good)
        note = f"rate VOID in {void} of {len(several)}" if void and not case["more"] else ""
        cells.append([name, *texts, (lost(several) + note).strip()])
    return head, cells


def load_cells(good, mine, name, several, rated):
    user = middle([{"ns": cost(run) * run["server_user_share"]} for run in good if cost(run) and "server_user_share" in run], "ns")
    each = middle([{"ns": cost(run)} for run in good], "ns")
    times, by = share(mine, several, rated) if name != OURS else (None, "")
    late = [middle(good, key, "p99") for key in ("latency_us", "last_us")]
    late[0] = late[0] if late[0] is not None else middle(good, "upgraded_us", "p99")
    return [
        figure(middle(good, "per_second"), "{:,.0f}"),
        figure(each, "{:,.0f}"),
        figure(user, "{:,.0f}"),
        f"{figure(middle(good, 'server_busy'), '{:.0%}')}, {figure(middle(good, 'own_busy'), '{:.0%}')}",
        *(figure(value or None, "{:,.0f}") for value in late),
        f"{times:.2f} by {by}" if times else "",
    ]


def markdown(head, cells):
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    return lines + ["| " + " | ".join(row) + " |" for row in cells]


def detail(case):
    """The table for the terminal."""
    head, cells = rows(case)
    wide = [max(len(str(row[at])) for row in [head, *cells]) for at in range(len(head))]
    lines = [f"\n{case['case']}: {case['title']}  {' '.join(case['more'])}".rstrip()]
    for row in [head, *cells]:
        last = f"  {row[-1]}" if row[-1] else ""
        lines.append(f"{row[0]:{wide[0]}}" + "".join(f"  {text:>{wide[at + 1]}}" for at, text in enumerate(row[1:-1])) + last)
    return "\n".join(lines)


def verdicts(bars):
    lines = ["", "What is to be shown:"]
    for bar in bars:
        word = "reached" if bar["reached"] else "NOT reached"
        lines.append(f"  {bar['bar']}. {bar['what']}: {bar['value']}, wanted {bar['wanted']}: {word}")
    return "\n".join(lines)


# ---- files -------------------------------------------------------------------------------------------------------------------


def matrix(kept):
    """How many times each one's work ours does, a row for each scenario."""
    cases = [case for case in kept["results"] if case["kind"] != "idle" and not case["more"] and len(case["runs"]) > 3]
    names = [name for name in LABELS if any(name in case["runs"] for case in cases)]
    lines = []
    for case in cases:
        mine = case["runs"].get(OURS, [])
        limit = share(mine, case["runs"].get(case["limit"], []))[0]
        again = share(mine, case["runs"].get(AGAIN, []))[0]
        cells = [figure(limit), figure(again)]
        for name in names:
            several = case["runs"].get(name, [])
            value = share(mine, several)[0]
            cells.append(figure(value, "{:.1f}") if value else ("VOID" if several else ""))
        lines.append([case["title"], *cells])
    return ["", "the limit", "itself (A/A)", *(LABELS[name] for name in names)], lines


def command(kept):
    """The command, without what is specific to this machine."""
    options = kept["options"]
    words = ["benches/peers/run"]
    usual = {name: value for name, (value, _) in DEFAULTS.items()}
    if options.get("quick"):
        words, usual = [*words, "--quick"], QUICK
    words += [f"--{key} {options[key]:g}" for key, value in usual.items() if options[key] != value]
    words += [f"--peer {name}" for name in options.get("peer") or []]
    words += [f"--scenario {name}" for name in options.get("scenario") or []]
    return " ".join([*words, "--publish"])


def results(kept):
    options = kept["options"]
    lines = ["# Compared with other servers", "", f"Written by `{command(kept)}`, {kept['date']}, in {kept['minutes']} minutes.", ""]
    rounds = "1 round" if options["rounds"] == 1 else f"{options['rounds']} rounds"
    server, generator = options["cores"]
    lines += [
        f"- Host: {kept['facts']}",
        f"- Each server alone on core {server} and started anew for each run, the generator (`corecast-load`) on core {generator};",
        "  loopback; receivers sleep in epoll_wait; no compression; TCP_NODELAY and garbage collection as each has them by",
        f"  default. {rounds} of {options['duration']:g} s, ours and the limit {options['pairs']}; medians.",
        "- \"Ours does\": how many times the other's work, the median over pairs of one round; by the rate, where both servers were",
        "  at least 97 % busy and the generator less than 90 %, otherwise (\"rate VOID\") by the server's CPU for each message. Every",
        "  echo and every delivery was accounted for; a run that lost, doubled or reordered one is VOID.",
        f"- A publication is 64 bytes of data, a delivered frame {kept['frame_bytes']} bytes: plain servers send frames as long",
        "  as those of the message protocol. Frames of the Pusher protocol have a length of their own.",
        "- \"The limit\" makes the same system calls and nothing else: for echo it never parses, for fan-out it loops over bare",
        "  sends (one for each delivery at window 1, one for each socket and turn above), for connecting it answers unread.",
        "- Pings as each has them by default: ours and Centrifugo's every 25 s, sockudo's every 120 s, plain servers' rarely or never.",
        "",
        "| | what it is | version | how it is started |",
        "|---|---|---|---|",
    ]
    lines += [f"| {name} | {what} | {version} | `{how}` |" for name, (what, version, how) in kept["peers"].items()]
    lines += [f"| **{name}** | **NOT AVAILABLE**: {why} | | |" for name, why in kept["missing"].items()]
    lines += ["", "![Server CPU relative to ours, by scenario](results.svg)", "", "## How many times the others' work it does", ""]
    lines += markdown(*matrix(kept))
    lines += ["", "## Targets", ""]
    word = {True: "reached", False: "**NOT reached**"}
    bars = [[str(bar["bar"]), bar["what"], bar["value"], bar["wanted"], word[bar["reached"]]] for bar in kept["bars"]]
    lines += markdown(["", "", "", "target", ""], bars)
    for case in kept["results"]:
        lines += ["", f"## {case['title']}", "", f"`{case['case']}` {' '.join(case['more'])}".strip(), ""]
        lines += markdown(*rows(case))
    return "\n".join(lines) + "\n"


def brief(kept):
    """The table in docs/benchmarks.md: one row per rival, one column per load."""
    of = {case["case"]: case["runs"] for case in kept["results"]}
    chosen = [(name, title) for name, title in BRIEF if name in of]
    head = ["how many times the work of", *(title for _, title in chosen), "bytes of an idle connection"]
    plain, protocol = of.get("idle-plain", {}), of.get("idle-protocol", {})
    memory = lambda runs: middle([run for run in runs if sound(run)], "pss_per_connection")
    ours = [figure(memory(runs.get(OURS, [])), "{:,.0f}") for runs in (plain, protocol)]
    cells = []
    for name in ["the limit", *LABELS]:
        row = [LABELS.get(name, name)]
        for case, _ in chosen:
            limit = next(one["limit"] for one in kept["results"] if one["case"] == case)
            several = of[case].get(limit if name == "the limit" else name, [])
            value = share(of[case].get(OURS, []), several)[0]
            form = "{:.2f}" if value and value < 1.5 else "{:.1f}"
            row.append(figure(value, form) if value else ("VOID" if several else ""))
        bytes_each = memory(plain.get(name) or protocol.get(name) or [])
        row.append(figure(bytes_each, "{:,.0f}") if bytes_each else "")
        if any(row[1:]):
            cells.append(row)
    lines = markdown(head, cells) if cells else []
    without = ", ".join(kept["missing"])
    idle = f"An idle connection of Corecast takes {ours[0]} bytes plain, {ours[1]} over the message protocol with a token. "
    lines += [
        "",
        f"{idle if '-' not in ours else ''}Ratios are by rate if the server's core was full, otherwise by its CPU per message.",
        f"Measured {kept['date'][:10]} on {kept['facts'].split('; load')[0]}. Not available: {without}.",
        f"All runs, with host and versions: `benches/peers/RESULTS.md`. Reproduce: `{command(kept)}`.",
    ]
    return "\n".join(lines)


def write(kept, out, publish):
    """Writes the pages, in `out` or where they are published; returns their paths."""
    os.makedirs(out, exist_ok=True)
    folder = HERE if publish else out
    paths = [os.path.join(folder, "RESULTS.md" if publish else "peers.md"), os.path.join(folder, "results.svg")]
    for path, text in zip(paths, (results(kept), plot.svg(kept, LABELS))):
        with open(path, "w") as file:
            file.write(text)
    summary = os.path.join(ROOT, "docs", "benchmarks.md")
    with open(summary) as file:
        text = file.read()
    if publish and BEGIN in text:
        with open(summary, "w") as file:
            table = f"{BEGIN}\n\n{brief(kept)}\n\n{END}"
            file.write(re.sub(f"{re.escape(BEGIN)}.*?{re.escape(END)}", lambda _: table, text, flags=re.DOTALL))
        paths.append(summary)
    else:
        print(f"\n{brief(kept)}")
    return paths
