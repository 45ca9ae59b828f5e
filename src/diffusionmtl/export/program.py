"""A graph taken whole by `torch.export`, for any number of images of any size."""

import torch
from torch.export import Dim, ExportedProgram
from torch.fx.experimental import _config as symbols

from diffusionmtl.errors import UserError, in_one_line
from diffusionmtl.export.graph import AnswerGraph

# Two images, neither side a multiple of anything that a network pads to: what is traced must not hold for it alone.
EXAMPLE = (2, (70, 105))


def program_of(graph: AnswerGraph) -> ExportedProgram:
    """The graph with its weights; run with inputs of another shape it checks them itself.

    Raises:
        UserError: the backbone asks its picture for its size in a way that no graph can hold.
    """
    inputs = graph.example(*EXAMPLE)
    shapes = ({0: Dim.DYNAMIC, 2: Dim.DYNAMIC, 3: Dim.DYNAMIC}, {1: Dim.DYNAMIC, 3: Dim.DYNAMIC, 4: Dim.DYNAMIC})
    try:
        # Sizes are checked when the program runs, not promised now, and a size of one is a size like any other.
        with torch.no_grad(), symbols.patch(backed_size_oblivious=True):  # pyright: ignore[reportAttributeAccessIssue]
            return torch.export.export(
                graph.eval(),
                inputs,
                dynamic_shapes=shapes[: len(inputs)],
                strict=False,
                prefer_deferred_runtime_asserts_over_guards=True,
            )
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = in_one_line(error)
        raise UserError(f"export: this network's backbone makes no graph for images of any size ({reason})") from error
