"""Colours, and how texts and controls look."""

from bokeh.models import Div
from bokeh.palettes import Blues256

# Okabe and Ito's palette, as in the pictures of igr.plot.
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GREY = "#4D4D4D"
PALE = "#C8C8C8"
LINE = "#E1E5EA"
# Of densities: white where there is little.
PALETTE = tuple(reversed(Blues256))

# That of bokeh's canvas too.
FONT = "Helvetica, Arial, sans-serif"

# As texts, since a model belongs to one page alone.
TEXTS = f"""
    :host {{ width: 100%; font: 13px/1.4 {FONT}; color: #52606D; }}
    .bk-clearfix {{ width: 100%; }}
    .title {{ font-size: 14px; font-weight: 650; color: #1F2933; }}
    .value {{ font-size: 21px; line-height: 1.25; font-weight: 600; color: #1F2933; }}
    .unit {{ font-size: 14px; font-weight: 400; }}
    .error {{ background: #FDF1E3; border-left: 4px solid #E69F00; color: #1F2933; padding: 6px 10px;
              margin-top: 8px; }}
    .bar {{ height: 9px; border: 1px solid #AAB4BE; }}
    .ticks {{ display: flex; justify-content: space-between; font-size: 11px; }}
    """
CONTROLS = f"""
    :host {{ font: 13px/1.4 {FONT}; }}
    label, .bk-slider-title {{ color: #1F2933; font-size: 13px; }}
    .bk-btn {{ padding-left: 4px; padding-right: 4px; }}
    .noUi-handle:focus {{ outline: 2px solid {COLOURS[0]}; outline-offset: 1px; }}
    """
PROGRAM = """
    .bk-clearfix { width: 100%; }
    pre { margin: 0; padding: 8px 10px; background: #F5F6F8; border-radius: 6px; height: 240px;
          overflow: auto;
          font: 12px/1.45 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; color: #1F2933;
          user-select: text; white-space: pre; }
    """


def text(name: str, content: str = "") -> Div:
    """A text of the page, which HTML may stand in."""
    return Div(name=name, text=content, stylesheets=[TEXTS], margin=(0, 0, 4, 0), sizing_mode="stretch_width")
