"""How does a run show itself in a notebook?  Where it is, what it took last, and its state on the diagram.

# Theory of operation
#
# What is returned is a part of a page that others wrote: all text is escaped, nothing has an id, and the only style is
# that of the picture, which is said of pictures of ours alone.
"""

from html import escape

from engine.run import Run
from states import diagram
from states.here import marked
from states.picture import picture, visible
from states.svg import PicturesMissing, to_inline_svg


TEXT = '<pre style="max-width:100%;overflow-x:auto;text-align:left">{}</pre>'


def shown_as_html(run: Run) -> str:
    """A run as a part of a web page: a line that says where it is, its last transitions, its state on the diagram.

    A run that another holds (a validation) is shown below the outermost one, whose machine is drawn.  Where Graphviz is
    not installed, the diagram comes as Mermaid's text, with the sentence that says what to install.

    Args:
        run: Any run, going on or ended.  It is only read.

    Example:
        >>> import torch
        >>> from engine import Engine
        >>> model = torch.nn.Linear(2, 1)
        >>> engine = Engine(model, torch.nn.MSELoss(), torch.optim.SGD(model.parameters(), lr=0.1))
        >>> run = engine.fit([(torch.ones(4, 2), torch.zeros(4, 1))] * 3)
        >>> "<b>training</b> in done (epoch 1, batch 3, update 3)" in shown_as_html(run)
        True
    """
    runs = (*reversed(tuple(run.around)), run)
    return f'<div style="max-width:100%">{"".join(map(_told, runs))}{_drawn(runs[0])}</div>'


def _told(run: Run) -> str:
    """Where one run is, how it ended, and its last transitions, newest last."""
    name, where, ended = map(_text, (run.machine.name, run.where, run.outcome.value))
    rows = "\n".join(_text(str(row)) for row in run.recent)
    return f"<div><b>{name}</b> in {where}: {ended}</div>{TEXT.format(rows) if rows else ''}"


def _drawn(run: Run) -> str:
    taken = run.recent[-1:]
    try:
        return to_inline_svg(marked(picture(run.machine), run.machine, run.state, taken))
    except PicturesMissing as missing:
        text = diagram(run.machine, "mermaid", here=run.state, taken=taken)
        return "".join(TEXT.format(escape(told)) for told in (str(missing), text))


def _text(words: str) -> str:
    return escape(visible(words))
