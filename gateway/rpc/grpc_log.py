"""What gRPC itself writes into the gateway's log."""

import logging

# Of metadata or a method that is not UTF-8: the bytes themselves, be they an API key's, with a traceback. And of a
# caller who has gone before the refusal could be sent.
_OF_CALLERS = (
    "Invalid encoding on",
    "Unexpected [UnicodeDecodeError] raised by",
    "Failed sending error status from server",
)


class _WithoutCallersBytes(logging.Filter):
    """Leaves out what callers cause: whoever sends nonsense may not fill the log by it."""

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        return not any(text in message for text in _OF_CALLERS)


_FILTER = _WithoutCallersBytes()


def keep_callers_bytes_out_of_the_log() -> None:
    """Have gRPC log nothing that a caller chose; harmless when repeated."""
    logging.getLogger("grpc._cython.cygrpc").addFilter(_FILTER)
