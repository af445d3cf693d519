"""The plot of a run: a panel for each scenario, a bar for each server, as long as what its work costs in times ours.

Written as SVG by hand: no library is needed, and the colours follow the reader's light or dark.
"""

from html import escape

from cases import cost, middle, share, sound
from lineup import OURS

PANELS = ["echo-512-100x1", "echo-16-100x16", "echo-64k-10x1", "fanout-1000-w1", "fanout-1000-w8", "fanout-10000-w8"]
PANELS += ["idle-plain", "idle-protocol", "churn"]
COLUMNS, WIDE, BAR, GAP, HEAD, NAMES, VALUES = 3, 370, 11, 6, 34, 138, 92
STYLE = """
  svg { color-scheme: light dark; font: 12px system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
  .ground { fill: #ffffff; } text { fill: #24292f; } .faint { fill: #59636e; }
  .ours { fill: #0969da; } .limit { fill: #afb8c1; } .peer { fill: #8c6d46; } .axis { stroke: #0969da; stroke-dasharray: 2 3; }
  .title { font-weight: 600; } .head { font-size: 15px; font-weight: 600; }
  @media (prefers-color-scheme: dark) {
    .ground { fill: #0d1117; } text { fill: #e6edf3; } .faint { fill: #9198a1; }
    .ours { fill: #4493f8; } .limit { fill: #59636e; } .peer { fill: #c69a5f; } .axis { stroke: #4493f8; }
  }
"""


def value_of(case, name):
    """What a server's work costs in times ours, and that in figures."""
    several = [run for run in case["runs"].get(name, []) if sound(run)]
    mine = case["runs"].get(OURS, [])
    if case["kind"] == "idle":
        bytes_each, own = middle(several, "pss_per_connection"), middle(mine, "pss_per_connection")
        text = f"{bytes_each / 1000:,.1f} kB" if bytes_each and bytes_each >= 10_000 else f"{bytes_each or 0:,.0f} B"
        return (bytes_each / own, text) if bytes_each and own and bytes_each > 0 else None
    each = middle([{"ns": cost(run)} for run in several], "ns")
    times = 1.0 if name == OURS else share(mine, case["runs"].get(name, []))[0]
    return (times, f"{each / 1000:,.1f} µs" if each >= 1000 else f"{each:,.0f} ns") if each and times else None


def bars(case, labels):
    limits = [case["limit"]] if case["limit"] else []
    found = []
    for name in [OURS, *limits, *labels]:
        if case["runs"].get(name):
            label = "Corecast" if name == OURS else "the limit" if name in limits else labels[name]
            kind = "ours" if name == OURS else "limit" if name in limits else "peer"
            found.append((label, kind, value_of(case, name)))
    return found


def panel(case, labels, x, y):
    found = bars(case, labels)
    most = max((value[0] for _, _, value in found if value), default=1)
    room = WIDE - NAMES - VALUES - 16
    unit = room / max(most, 1.2)
    what = "memory of each" if case["kind"] == "idle" else "server CPU of each"
    lines = [f'<text class="title" x="{x}" y="{y + 12}">{escape(case["title"])}</text>']
    lines.append(f'<text class="faint" x="{x}" y="{y + 27}" font-size="10">{what}, in times ours</text>')
    top = y + HEAD
    for place, (label, kind, value) in enumerate(found):
        at = top + place * (BAR + GAP)
        base = at + BAR - 1
        lines.append(f'<text x="{x + NAMES - 6}" y="{base}" text-anchor="end" font-size="11">{escape(label)}</text>')
        if value is None:
            lines.append(f'<text class="faint" x="{x + NAMES + 4}" y="{at + BAR - 1}" font-size="11">VOID</text>')
            continue
        times, text = value
        length = max(1.5, times * unit)
        lines.append(f'<rect class="{kind}" x="{x + NAMES}" y="{at}" width="{length:.1f}" height="{BAR}" rx="2"/>')
        form = f"{times:,.0f}" if times >= 10 else f"{times:.1f}" if times >= 1.5 else f"{times:.2f}"
        said = f'{form}× <tspan class="faint">{text}</tspan>'
        lines.append(f'<text x="{x + NAMES + length + 5:.1f}" y="{at + BAR - 1}" font-size="11">{said}</text>')
    bottom = top + len(found) * (BAR + GAP)
    line = x + NAMES + unit
    lines.append(f'<line class="axis" x1="{line:.1f}" y1="{top - 3}" x2="{line:.1f}" y2="{bottom - 2}"/>')
    return lines


def svg(kept, labels):
    of = {case["case"]: case for case in kept["results"]}
    chosen = [of[name] for name in PANELS if name in of]
    tallest = max((len(bars(case, labels)) for case in chosen), default=1)
    tall = HEAD + tallest * (BAR + GAP) + 18
    width, height = COLUMNS * WIDE + 20, 64 + -(-len(chosen) // COLUMNS) * tall
    size = f'viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
    lines = [f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img">']
    lines += [f"<title>Server CPU relative to Corecast</title><style>{STYLE}</style>"]
    lines += [f'<rect class="ground" width="{width}" height="{height}"/>']
    lines += ['<text class="head" x="16" y="24">What the same work costs: shorter is better, the dashed line is Corecast</text>']
    facts = f"One core for the server. {kept['date']}; {kept['facts'].split('; load')[0]}"
    lines += [f'<text class="faint" x="16" y="42" font-size="11">{escape(facts)}</text>']
    for place, case in enumerate(chosen):
        lines += panel(case, labels, 16 + place % COLUMNS * WIDE, 58 + place // COLUMNS * tall)
    return "\n".join([*lines, "</svg>"]) + "\n"
