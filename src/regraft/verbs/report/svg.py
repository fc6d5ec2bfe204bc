"""Draw line charts as inline SVG; the page's style sheet colours them for light, dark and print."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from html import escape

WIDTH, HEIGHT = 640, 300
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 16, 44


@dataclasses.dataclass(frozen=True)
class Line:
    """One curve.

    Attributes:
        name: for the legend; any text.
        points: (x, y), in order of x.
        spread: half-widths of 95 % intervals, one per point, or None.
    """

    name: str
    points: Sequence[tuple[float, float]]
    spread: Sequence[float] | None = None


def chart(
    lines: Sequence[Line],
    *,
    title: str,
    description: str,
    x_label: str = "step",
    floor: tuple[str, float] | None = None,
    mark: tuple[str, float] | None = None,
    root: bool = False,
) -> str:
    """Draw curves.

    Args:
        lines: at most six curves; points that are not finite are left out.
        title: name of the chart, for screen readers.
        description: the chart in words, for screen readers.
        x_label: label of the x axis.
        floor: name and level of a horizontal line.
        mark: name and x of a vertical line.
        root: whether the y axis has a square-root scale, for values that fall by orders of magnitude.

    Returns:
        An ``<svg>`` element with every text escaped; empty if no curve has two points.
    """
    lines = [_finite(line) for line in lines]
    lines = [line for line in lines if len(line.points) > 1]
    if not lines:
        return ""
    xs = [x for line in lines for x, _ in line.points]
    tops = [y + s for line in lines for (_, y), s in zip(line.points, line.spread or [0.0] * len(line.points), strict=True)]
    lows = [y - s for line in lines for (_, y), s in zip(line.points, line.spread or [0.0] * len(line.points), strict=True)]
    high, low = max([*tops, *([floor[1]] if floor else [])]), min([*lows, *([floor[1]] if floor else [])])
    low = 0.0 if root or 0 <= low < 0.5 * high else low
    high = high if high > low else low + 1.0

    def bend(y: float) -> float:
        return math.sqrt(max(0.0, y)) if root else y

    def place(x: float, y: float) -> tuple[float, float]:
        across = (x - min(xs)) / ((max(xs) - min(xs)) or 1)
        up = (bend(y) - bend(low)) / (bend(high) - bend(low))
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - min(1.0, max(0.0, up)) * (HEIGHT - TOP - BOTTOM)

    parts = [f"<title>{escape(title)}</title><desc>{escape(description)}</desc>"]
    for level in _ticks(low, high, root):
        y = place(min(xs), level)[1]
        parts.append(f'<path class="rule" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
        parts.append(f'<text class="tick" x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{_short(level)}</text>')
    for x in _ticks(min(xs), max(xs)):
        at = place(x, low)[0]
        parts.append(f'<text class="tick" x="{at:.1f}" y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{_short(x)}</text>')
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(f'<text class="tick" x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>')
    for number, line in enumerate(lines):
        parts += _curve(line, number, place)
    if floor is not None:
        y = place(min(xs), floor[1])[1]
        parts.append(f'<path class="floor" d="M{LEFT} {y:.1f}H{WIDTH - RIGHT}"/>')
    if mark is not None:
        x = place(min(max(mark[1], min(xs)), max(xs)), low)[0]
        parts.append(f'<path class="mark" d="M{x:.1f} {TOP}V{HEIGHT - BOTTOM}"/>')
    legend = [f'<span><i class="key k{n}"></i>{escape(line.name)}</span>' for n, line in enumerate(lines)]
    legend += [f'<span><i class="key kfloor"></i>{escape(floor[0])}</span>'] if floor else []
    legend += [f'<span><i class="key kmark"></i>{escape(mark[0])}</span>'] if mark else []
    svg = f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{escape(title)}">{"".join(parts)}</svg>'
    return f'{svg}<p class="legend" aria-hidden="true">{"".join(legend)}</p>'


def _finite(line: Line) -> Line:
    """Return a curve without the points that are not finite."""
    spread = line.spread or [0.0] * len(line.points)
    finite = [(p, s) for p, s in zip(line.points, spread, strict=True) if math.isfinite(p[1]) and math.isfinite(s)]
    return Line(line.name, [p for p, _ in finite], [s for _, s in finite] if line.spread else None)


def _curve(line: Line, number: int, at: Callable[[float, float], tuple[float, float]]) -> list[str]:
    """Draw a curve and the band around it; ``at`` maps values to places on the chart."""
    parts = []
    if line.spread is not None:
        pairs = list(zip(line.points, line.spread, strict=True))
        edge = [at(x, y + s) for (x, y), s in pairs] + [at(x, y - s) for (x, y), s in reversed(pairs)]
        parts.append(f'<path class="band c{number}" d="M{_joined(edge)}Z"/>')
    parts.append(f'<path class="line c{number}" d="M{_joined([at(x, y) for x, y in line.points])}"/>')
    return parts


def _joined(points: Sequence[tuple[float, float]]) -> str:
    return "L".join(f"{x:.1f} {y:.1f}" for x, y in points)


def _ticks(low: float, high: float, root: bool = False) -> list[float]:
    """Return about five round values between two."""
    if root:
        return [_round((math.sqrt(high) * k / 4) ** 2) for k in range(5)]
    step = 10 ** math.floor(math.log10((high - low) / 3)) if high > low else 1.0
    step = next(step * m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= 5)
    return [k * step for k in range(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1)]


def _round(value: float) -> float:
    return float(f"{value:.2g}")


def _short(value: float) -> str:
    return f"{value:.6g}" if abs(value) >= 1 or value == 0 else f"{value:.2g}"
