"""The dashboard of the fleet as code: `panels.py` in Grafana's form.

`python -m deploy` writes dashboard.json.
"""

from collections.abc import Iterator

from grafana_foundation_sdk.builders import common, prometheus, stat, timeseries
from grafana_foundation_sdk.builders.dashboard import Dashboard, DatasourceVariable, QueryVariable
from grafana_foundation_sdk.builders.dashboard import Row as RowBuilder
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models.common import (
    BigValueColorMode,
    BigValueGraphMode,
    LegendDisplayMode,
    LegendPlacement,
    SortOrder,
    StackingMode,
    TooltipDisplayMode,
    VisibilityMode,
)
from grafana_foundation_sdk.models.dashboard import (
    DashboardCursorSync,
    DataSourceRef,
    GridPos,
    VariableOption,
    VariableRefresh,
)

from deploy.grafana.panels import ROWS, Chart, Number

COLUMNS = 24
WIDTH = {Chart: 8, Number: 3}
HEIGHT = {Chart: 8, Number: 4}
SOURCE = DataSourceRef(type_val="prometheus", uid="${datasource}")
ALL = VariableOption(selected=True, text="All", value="$__all")


def text() -> str:
    """Return the dashboard as JSON, the same for the same panels."""
    board = (
        Dashboard("DiffEdit fleet")
        .uid("diffedit-fleet")
        .description("Queues, workers, stages, S3, GPUs and webhooks of a DiffEdit fleet")
        .tags(["diffedit"])
        .readonly()
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(DatasourceVariable("datasource").label("Prometheus").type("prometheus"))
        .with_variable(
            QueryVariable("profile")
            .label("Profile")
            .datasource(SOURCE)
            .query("label_values(diffedit_jobs_waiting, profile)")
            .refresh(VariableRefresh.ON_TIME_RANGE_CHANGED)
            .multi(True)
            .include_all(True)
            .all_value(".*")
            .current(ALL)
        )
    )
    for number, (title, panel, place) in enumerate(placed(), start=1):
        if panel is None:
            board = board.with_row(RowBuilder(title).id(number).grid_pos(place))
        else:
            board = board.with_panel(_built(panel, place).id(number))
    return JSONEncoder(sort_keys=True, indent=2).encode(board.build()) + "\n"


def placed() -> Iterator[tuple[str, Chart | Number | None, GridPos]]:
    """Yield each row's title, then its panels, with their places in a grid of 24 columns, from the top."""
    y = 0
    for title, panels in ROWS.items():
        yield title, None, GridPos(h=1, w=COLUMNS, x=0, y=y)
        x, y = 0, y + 1
        for panel in panels:
            width, height = WIDTH[type(panel)], HEIGHT[type(panel)]
            if x + width > COLUMNS:
                x, y = 0, y + height
            yield "", panel, GridPos(h=height, w=width, x=x, y=y)
            x += width
        y += HEIGHT[type(panels[-1])]


def _query(expression: str, legend: str, ref_id: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend).ref_id(ref_id).range()


def _built(panel: Chart | Number, place: GridPos) -> timeseries.Panel | stat.Panel:
    return _number(panel, place) if isinstance(panel, Number) else _chart(panel, place)


def _number(panel: Number, place: GridPos) -> stat.Panel:
    return (
        stat.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .grid_pos(place)
        .unit(panel.unit)
        .reduce_options(common.ReduceDataOptions().calcs(["lastNotNull"]))
        .color_mode(BigValueColorMode.NONE)
        .graph_mode(BigValueGraphMode.AREA)
        .with_target(_query(panel.query, "", "A"))
    )


def _chart(panel: Chart, place: GridPos) -> timeseries.Panel:
    chart = (
        timeseries.Panel()
        .title(panel.title)
        .description(panel.about)
        .datasource(SOURCE)
        .grid_pos(place)
        .unit(panel.unit)
        .min(0)
        .line_width(1)
        .fill_opacity(30 if panel.stacked else 0)
        .show_points(VisibilityMode.NEVER)
        .stacking(common.StackingConfig().mode(StackingMode.NORMAL if panel.stacked else StackingMode.NONE))
        .tooltip(common.VizTooltipOptions().mode(TooltipDisplayMode.MULTI).sort(SortOrder.DESCENDING))
        .legend(
            common.VizLegendOptions()
            .display_mode(LegendDisplayMode.LIST)
            .placement(LegendPlacement.BOTTOM)
            .show_legend(True)
        )
    )
    for index, (expression, legend) in enumerate(panel.queries):
        chart = chart.with_target(_query(expression, legend, chr(ord("A") + index)))
    return chart
