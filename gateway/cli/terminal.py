"""Text of others on the user's terminal."""

# A control character would steer the terminal; a bidirectional one shows code in another order than it runs.
_VISIBLE = (
    {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}
    | {0x7F: "\u2421"}
    | dict.fromkeys((*range(0x80, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)), "\ufffd")
)


def harmless(text: str) -> str:
    """Show control and bidirectional characters by a symbol, all but `\\n` and `\\t`; `\\r\\n` counts as `\\n`."""
    return text.replace("\r\n", "\n").translate(_VISIBLE)
