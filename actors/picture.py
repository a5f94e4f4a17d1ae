"""Pictures of pipelines: which message type goes from which stage to which, as Mermaid or as SVG."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from itertools import pairwise

Way = tuple[str | None, str, str | None]
"""The stage that gives a message, None for the input; its type; the stage that takes it, None for the answer."""

BEGIN, END = "", "\0"
"""The two ends, which are no stages."""

CHAR, HEIGHT, ROW, MARGIN = 7.5, 34.0, 78.0, 24.0
"""The width of a letter, the height of a box, the distance of two rows and the margin, in pixels."""

STYLE = """text{font:13px ui-monospace,SFMono-Regular,Menlo,monospace;fill:#1f2933}
text{text-anchor:middle;dominant-baseline:central}
.type{fill:#52606d;stroke:#fff;stroke-width:5px;paint-order:stroke}
.stage{fill:#e6f0fa;stroke:#2b6cb0;stroke-width:1.5}
.end{fill:#2b6cb0}
path{fill:none;stroke:#7b8794;stroke-width:1.5;marker-end:url(#to)}"""


@dataclass(frozen=True, slots=True)
class Box:
    """Where a stage stands, by its middle."""

    x: float
    y: float
    width: float
    height: float

    @property
    def left(self) -> float:
        return self.x - self.width / 2

    @property
    def right(self) -> float:
        return self.x + self.width / 2


def mermaid(ways: Sequence[Way]) -> str:
    """A flowchart for whatever understands Mermaid, such as GitHub in Markdown."""
    edges = _edges(ways)
    names = {name: f"s{at}" for at, name in enumerate(dict.fromkeys(end for edge in edges for end in edge))}
    shapes = [f"    {id}{_shape(name)}" for name, id in names.items()]
    arrows = [f'    {names[a]} -- "{" | ".join(types)}" --> {names[b]}' for (a, b), types in edges.items()]
    return "\n".join(["flowchart LR", *shapes, *arrows])


def svg(ways: Sequence[Way]) -> str:
    """A drawing that stands by itself: the way to the answer from left to right, loops below it."""
    edges = _edges(ways)
    back = _loops(edges)
    layers = _layers(edges, back)
    boxes = _places(edges, back, layers)
    paths, labels, low = [], [], max(box.y for box in boxes.values()) + HEIGHT / 2
    high = min(box.y for box in boxes.values()) - HEIGHT / 2
    for number, ((a, b), types) in enumerate(edges.items()):
        one, other, said = boxes[a], boxes[b], " | ".join(types)
        spans = layers[b] - layers[a]
        if (a, b) in back:
            low += HEIGHT
            path, at = _below(one, other, low)
        elif spans > 1:
            high -= HEIGHT
            path, at = _above(one, other, high)
        else:
            path, at = _across(one, other)
        paths.append(f'<path id="way{number}" d="{path}"/>')
        labels.append(f'<text class="type" x="{at[0]:.0f}" y="{at[1]:.0f}">{escape(said)}</text>')
    right = max(box.right for box in boxes.values())
    return _page(right + MARGIN, high - MARGIN, low + MARGIN, [*paths, *map(_drawn, boxes, boxes.values()), *labels])


def _edges(ways: Sequence[Way]) -> dict[tuple[str, str], list[str]]:
    """The types that go from one to another, for each pair that any goes between."""
    edges: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
    for giver, message, taker in ways:
        edges[BEGIN if giver is None else giver, END if taker is None else taker].append(message)
    return dict(edges)


def _shape(name: str) -> str:
    return "(( ))" if name in (BEGIN, END) else f'["{name}"]'


def _loops(edges: dict[tuple[str, str], list[str]]) -> set[tuple[str, str]]:
    """The edges that lead back to where one has come from."""
    found: set[tuple[str, str]] = set()
    done: set[str] = set()

    def visit(node: str, behind: tuple[str, ...]) -> None:
        for a, b in edges:
            if a == node and b in (*behind, node):
                found.add((a, b))
            elif a == node and b not in done:
                visit(b, (*behind, node))
        done.add(node)

    visit(BEGIN, ())
    return found


def _layers(edges: dict[tuple[str, str], list[str]], back: set[tuple[str, str]]) -> dict[str, int]:
    """How many steps a stage is from the beginning, by the longest way without loops."""
    layers = dict.fromkeys((end for edge in edges for end in edge), 0)
    for _ in layers:
        for a, b in edges:
            if (a, b) not in back:
                layers[b] = max(layers[b], layers[a] + 1)
    return layers


def _places(
    edges: dict[tuple[str, str], list[str]], back: set[tuple[str, str]], layers: dict[str, int]
) -> dict[str, Box]:
    """A box for each, layer by layer; between two layers there is room for the longest type that goes there.

    In a layer those stand at the bottom that loops begin at, so that no loop runs behind a box.
    """
    loops = {name: sum(a == name for a, _ in back) for name in layers}
    order = sorted(layers, key=lambda name: loops[name])
    columns = [[name for name in order if layers[name] == at] for at in range(max(layers.values()) + 1)]
    widths = [max(_width(name) for name in column) for column in columns]
    gaps = [_gap(edges, layers, at) for at in range(len(columns) - 1)]
    tallest = max(map(len, columns))
    left, boxes = MARGIN, dict[str, Box]()
    for at, column in enumerate(columns):
        top = MARGIN + (tallest - len(column)) * ROW / 2 + HEIGHT / 2
        for row, name in enumerate(column):
            boxes[name] = Box(left + widths[at] / 2, top + row * ROW, _width(name), _height(name))
        left += widths[at] + (gaps[at] if at < len(gaps) else 0)
    return boxes


def _width(name: str) -> float:
    return 14.0 if name in (BEGIN, END) else len(name) * CHAR + 26


def _height(name: str) -> float:
    return 14.0 if name in (BEGIN, END) else HEIGHT


def _gap(edges: dict[tuple[str, str], list[str]], layers: dict[str, int], at: int) -> float:
    said = [" | ".join(types) for (a, b), types in edges.items() if (layers[a], layers[b]) in pairwise((at, at + 1))]
    return max((len(types) * CHAR for types in said), default=0.0) + 36


def _across(one: Box, other: Box) -> tuple[str, tuple[float, float]]:
    middle = (one.right + other.left) / 2
    bend = f"C{middle:.0f} {one.y:.0f} {middle:.0f} {other.y:.0f} {other.left:.0f} {other.y:.0f}"
    return f"M{one.right:.0f} {one.y:.0f}{bend}", (middle, (one.y + other.y) / 2)


def _below(one: Box, other: Box, low: float) -> tuple[str, tuple[float, float]]:
    """From the foot of one to the foot of the other, or round to its own."""
    shift = 10 if one is other else 0
    return _around(one.x + shift, other.x - shift, one.y + one.height / 2, other.y + other.height / 2, low)


def _above(one: Box, other: Box, high: float) -> tuple[str, tuple[float, float]]:
    return _around(one.x, other.x, one.y - one.height / 2, other.y - other.height / 2, high)


def _around(x: float, to_x: float, y: float, to_y: float, by: float) -> tuple[str, tuple[float, float]]:
    path = f"M{x:.0f} {y:.0f}C{x:.0f} {by:.0f} {to_x:.0f} {by:.0f} {to_x:.0f} {to_y:.0f}"
    return path, ((x + to_x) / 2, (y + to_y) / 8 + by * 3 / 4)


def _drawn(name: str, box: Box) -> str:
    if name in (BEGIN, END):
        return f'<circle class="end" cx="{box.x:.0f}" cy="{box.y:.0f}" r="{box.width / 2:.0f}"/>'
    top = f'y="{box.y - box.height / 2:.0f}" height="{box.height:.0f}"'
    place = f'x="{box.left:.0f}" width="{box.width:.0f}" {top} rx="6"'
    return f'<rect class="stage" {place}/><text x="{box.x:.0f}" y="{box.y:.0f}">{escape(name)}</text>'


def _page(right: float, high: float, low: float, drawn: Sequence[str]) -> str:
    size = f'viewBox="0 {high:.0f} {right:.0f} {low - high:.0f}" width="{right:.0f}" height="{low - high:.0f}"'
    arrow = '<marker id="to" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="6" markerHeight="6" orient="auto">'
    return "\n".join(
        [
            f'<svg xmlns="http://www.w3.org/2000/svg" {size}>',
            f"<style>{STYLE}</style>",
            f'<defs>{arrow}<path d="M0 0L8 4L0 8z" style="fill:#7b8794;stroke:none;marker-end:none"/></marker></defs>',
            f'<rect x="0" y="{high:.0f}" width="100%" height="100%" fill="#fff"/>',
            *drawn,
            "</svg>",
        ]
    )
