"""`duovec-export rollback`: an older version serves again."""

from contextlib import ExitStack
from typing import Annotated

import typer

from export.cli.options import (
    DEFAULT_TRITON_TIMEOUT_S,
    DEFAULT_WAIT_S,
    AsJson,
    Encoder,
    Repository,
    TritonTimeout,
    TritonUrl,
    Wait,
)
from export.cli.output import print_json, remark, steps, summary
from export.cli.publish import connect, describe
from export.repository import EncoderFolder


def rollback(
    repository: Repository,
    encoder: Encoder,
    to: Annotated[int | None, typer.Option(min=1, help="The version to serve; the one before without it.")] = None,
    triton_url: TritonUrl = None,
    triton_timeout: TritonTimeout = DEFAULT_TRITON_TIMEOUT_S,
    wait: Wait = DEFAULT_WAIT_S,
    as_json: AsJson = False,
) -> None:
    """Serve an older version again, as carefully as a new one is published; waits for no build.

    With `--to` the served version, Triton is told what the disk says.

    Examples:

        duovec-export rollback --encoder compact-code --repository models --triton-url 127.0.0.1:8001

        duovec-export rollback --encoder compact-code --to 3 --repository models
    """
    folder = EncoderFolder(repository, encoder)
    require_encoder(folder)
    from export.publish import roll_back

    with ExitStack() as stack:
        triton = connect(stack, triton_url, triton_timeout)
        stack.enter_context(folder.publishing(wait_s=wait, on_wait=remark))
        on_step = stack.enter_context(steps(encoder))
        result = roll_back(folder, triton, to=to, on_step=on_step)
    row = {
        **summary(result.version),
        "loaded": list(result.loaded),
        "smoke": result.smoke,
        "smoke_cosine": result.cosine,
    }
    if as_json:
        print_json({"repository": str(repository.resolve()), "triton": triton_url, **row})
    else:
        typer.echo(describe(row, "served again"))


def require_encoder(folder: EncoderFolder) -> None:
    """Make sure that the repository has the encoder: a lock file would make its folder.

    Raises:
        ExportError: It has not.
    """
    from export.errors import ExportError
    from export.repository import encoders

    repository = folder.path.parent
    if folder.encoder not in encoders(repository):
        known = ", ".join(encoders(repository)) or "none"
        raise ExportError(f"{repository} has no encoder {folder.encoder!r}; it has {known}")
