"""Publishes or rolls back the small encoder in a process of its own, which may kill itself on the way.

`python export_child.py REPOSITORY ACTION STEP [TRITON_URL]`: ACTION is `publish` or `rollback`; at the step of the
exporter's own that begins with STEP, SIGKILL. Prints the steps.
"""

import os
import signal
import sys
from contextlib import ExitStack
from pathlib import Path

from export.publish import publish_candidate, roll_back
from export.repository import EncoderFolder
from export.triton_control import TritonControl


def main(repository: str, action: str, fatal_step: str, *url: str) -> None:
    """See the module's docstring."""

    def on_step(step: str) -> None:
        sys.stdout.write(step + "\n")
        sys.stdout.flush()
        if fatal_step and step.startswith(fatal_step):
            os.kill(os.getpid(), signal.SIGKILL)

    folder = EncoderFolder(Path(repository), "small-code")
    with ExitStack() as stack:
        triton = stack.enter_context(TritonControl(*url)) if url else None
        stack.enter_context(folder.building())
        stack.enter_context(folder.publishing())
        if action == "publish":
            publish_candidate(folder, triton, on_step=on_step)
        else:
            roll_back(folder, triton, on_step=on_step)


if __name__ == "__main__":
    main(*sys.argv[1:])
