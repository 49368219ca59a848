"""The one error of the export package."""


class ExportError(Exception):
    """An export that cannot go on; the command ends with exit code 1 and this one line.

    The message names the file or the setting at fault and what to do about it.
    """
