"""Every figure has one look, and none of it leaks into what others draw."""

from __future__ import annotations

import matplotlib

from drxnet.style import COLOURS, STYLE, new_figure, styled


def test_a_function_draws_in_the_one_look_and_leaves_the_rest_as_it_was() -> None:
    before = dict(matplotlib.rcParams)

    @styled
    def draw() -> tuple[float, list[str]]:
        axes = new_figure(4, 3).subplots()
        lines = [axes.plot([0, 1])[0].get_color() for _ in COLOURS]
        return axes.title.get_fontsize(), lines

    size, lines = draw()
    assert size == STYLE["axes.titlesize"]
    assert tuple(lines) == COLOURS
    assert dict(matplotlib.rcParams) == before


def test_a_figure_can_be_saved_without_a_display(tmp_path) -> None:
    figure = new_figure(2, 1)
    figure.subplots().plot([0, 1])
    figure.savefig(tmp_path / "line.png", dpi=50)
    assert (tmp_path / "line.png").stat().st_size > 0
    assert figure.get_size_inches().tolist() == [2, 1]
