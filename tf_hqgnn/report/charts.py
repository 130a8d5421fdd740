"""Plots as inline SVG: colours that are legible on light and dark pages, text in the page's own ink and font."""

from __future__ import annotations

import atexit
import io
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tf_hqgnn.report.markup import text
from tf_hqgnn.types import Array

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

# Each has a contrast of at least 3 to white and to the dark page, and they differ in lightness as well as in hue.
COLORS = ("#2f7ed8", "#d9660d", "#3a9a52", "#9a6bd0", "#8a8f96")
MODEL, CODES, POPULARITY = COLORS[0], COLORS[1], COLORS[4]
# Takes the place of black in Matplotlib, and becomes the page's ink in the SVG.
_INK = "#010203"
# 360 points: at the width of a phone a point is a pixel.
_SIZE = (5.0, 2.9)
_STYLE: dict[Any, Any] = {
    "svg.hashsalt": "tf_hqgnn",
    "svg.fonttype": "none",
    "font.size": 11,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.facecolor": "none",
    "axes.unicode_minus": False,
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), _INK),
    "grid.color": _INK,
    "grid.alpha": 0.15,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Series:
    """A line or points of a plot.

    Args:
      label: for the legend; None leaves it out there.
      x: positions.
      y: values; NaN leaves a gap.
      color: one of `COLORS`.
      style: of Matplotlib: "-o" a line with points, "--" a dashed line, "*" stars.
    """

    label: str | None
    x: Sequence[float] | Array
    y: Sequence[float] | Array
    color: str = MODEL
    style: str = "-o"


def line_chart(
    key: str,
    description: str,
    labels: tuple[str, str],
    series: Sequence[Series],
    ticks: tuple[Sequence[float], Sequence[str]] | None = None,
    from_zero: bool = False,
    marked: tuple[float, str] | None = None,
) -> str:
    """An SVG of lines over numbers.

    Args:
      key: a name of its own on the page, of letters and dashes.
      description: what a reader who can't see it is told.
      labels: of the two axes.
      series: what is drawn; the first on top, stars above all.
      ticks: positions on the x axis and what to write there.
      from_zero: whether the y axis starts at 0.
      marked: a position on the x axis that gets an upright line, and its name.
    """

    def draw(axes: Axes) -> None:
        for place, one in enumerate(series):
            # Stars at one place stay visible, since those below are larger.
            size = 11 + 2 * place if one.style == "*" else 4 if len(one.x) < 40 else 0
            order = 10 - place + 20 * (one.style == "*")
            axes.plot(one.x, one.y, one.style, label=one.label, color=one.color, markersize=size, zorder=order)
        if marked is not None:
            axes.axvline(marked[0], color=_INK, linestyle=":", linewidth=1, label=marked[1])
        if ticks is not None:
            axes.set_xticks(list(ticks[0]), list(ticks[1]))
            axes.minorticks_off()
        if from_zero:
            axes.set_ylim(bottom=0)

    return _chart(key, description, labels, draw)


def bar_chart(
    key: str, description: str, labels: tuple[str, str], groups: Sequence[str], series: Sequence[Series]
) -> str:
    """An SVG of bars side by side, a group of them for each name in `groups`; arguments as in `line_chart`."""

    def draw(axes: Axes) -> None:
        width = 0.8 / len(series)
        for place, one in enumerate(series):
            left = [position - 0.4 + width * (place + 0.5) for position in range(len(groups))]
            axes.bar(left, one.y, width, color=one.color, label=one.label)
        axes.set_xticks(range(len(groups)), list(groups))

    return _chart(key, description, labels, draw)


def _chart(key: str, description: str, labels: tuple[str, str], draw: Callable[[Axes], None]) -> str:
    # Imported here since it takes a second that most commands need not spend; Figure itself, since pyplot has a state.
    _keep_out_of_the_home()
    import matplotlib
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=_SIZE, layout="constrained")
        axes = figure.add_subplot()
        axes.xaxis.set_major_locator(MaxNLocator(nbins=8, integer=True))
        draw(axes)
        axes.grid(axis="y")
        axes.set_xlabel(labels[0])
        axes.set_ylabel(labels[1])
        if len(axes.get_legend_handles_labels()[1]) > 1:
            figure.legend(loc="outside upper center", ncols=2, handlelength=1.6, columnspacing=1.2)
        return _inline(figure, key, description)


def _keep_out_of_the_home() -> None:
    """Lets matplotlib keep its list of fonts in a temporary folder, unless it has a place already."""
    home = os.path.expanduser("~")
    if "MPLCONFIGDIR" in os.environ or "matplotlib" in sys.modules:
        return
    if not any(os.path.isdir(os.path.join(home, name, "matplotlib")) for name in (".cache", ".config")):
        folder = os.environ["MPLCONFIGDIR"] = tempfile.mkdtemp(prefix="matplotlib-")
        atexit.register(shutil.rmtree, folder, ignore_errors=True)


def _inline(figure: Figure, key: str, description: str) -> str:
    """The figure as an element of a page: no prologue, no size of its own, ids that no other plot has."""
    buffer = io.StringIO()
    nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    svg = re.sub(r"<metadata>.*?</metadata>|<style[^>]*>.*?</style>", "", svg[svg.index("<svg") :], flags=re.DOTALL)
    box = re.search(r'viewBox="[^"]*"', svg)
    svg = svg[svg.index(">") + 1 :]
    svg = re.sub(r'\bid="', f'id="{key}-', svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{key}-", svg)
    # Neither comments, nor white space, nor, inside of tags, precision that no screen shows.
    svg = re.sub(r"<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = re.sub(r"<[^>]*>", lambda tag: re.sub(r"(\d+\.\d{2})\d+", r"\1", tag[0]), svg)
    svg = re.sub(r"\s*\n\s*", "\n", svg).replace(_INK, "currentColor")
    return f'<svg {box[0] if box else ""} role="img" aria-label="{text(description, 400)}">{svg}'
