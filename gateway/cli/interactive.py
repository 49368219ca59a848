"""`duovec search -i`: hits while one types, the code beside them, and an editor at the line."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from prompt_toolkit.application import Application, run_in_terminal
from prompt_toolkit.buffer import Buffer
from prompt_toolkit.document import Document
from prompt_toolkit.formatted_text import StyleAndTextTuples
from prompt_toolkit.key_binding import KeyBindings, KeyPressEvent
from prompt_toolkit.layout import BufferControl, Dimension, FormattedTextControl, HSplit, Layout, VSplit, Window
from prompt_toolkit.layout.processors import BeforeInput
from prompt_toolkit.lexers import PygmentsLexer
from prompt_toolkit.styles import Style

from duovec.v1 import search_service_pb2 as search_pb
from gateway.cli.editor import EditorFailed, open_at_line
from gateway.cli.terminal import harmless
from gateway.client.errors import ClientError

_DEBOUNCE_S = 0.2
_PAGE_LINES = 10
_HELP = "↑ ↓ choose   PgUp PgDn scroll   Enter opens in $EDITOR   Esc ends"
_STYLE = Style.from_dict(
    {
        "chosen": "reverse",
        "score": "ansibrightblack",
        "symbol": "ansicyan",
        "status": "ansibrightblack",
        "error": "ansired",
        # The terminal's own colours, which can be read on whatever its ground is.
        "pygments.keyword": "ansimagenta",
        "pygments.literal.string": "ansigreen",
        "pygments.literal.number": "ansiyellow",
        "pygments.comment": "ansibrightblack",
        "pygments.name.function": "ansiblue",
        "pygments.name.class": "ansiblue",
        "pygments.name.decorator": "ansiyellow",
    }
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What the picker needs of the service and of the disk.

    Attributes:
        search: Searches for a text and gives the first page; `logged` is false while somebody types.
        opened: Told the search and the chunk of a hit that was opened.
        locate: Gives the file on the disk of a hit, or None.
    """

    search: Callable[[str, bool], search_pb.SearchResponse]
    opened: Callable[[search_pb.SearchResponse, search_pb.SearchHit], None]
    locate: Callable[[search_pb.SearchHit], Path | None]


class Picker:
    """A screen with a line to type in, hits, and the code of the chosen one."""

    def __init__(self, asked: Asked, *, several: bool, text: str = "") -> None:
        """Prepare the screen.

        Args:
            asked: Where hits come from and go.
            several: Whether hits are of several codebases, and say of which.
            text: What the line begins with.
        """
        self._asked = asked
        self._several = several
        self._hits: list[search_pb.SearchHit] = []
        self._chosen = 0
        self._scroll = 0
        self._status, self._is_error = "", False
        self._searched_for = ""
        self._task: asyncio.Task[None] | None = None
        self._line = Buffer(document=Document(text), multiline=False)
        self._line.on_text_changed += lambda _: self._begin_search()
        self._app: Application[None] = Application(
            layout=Layout(self._screen()),
            key_bindings=self._keys(),
            style=_STYLE,
            include_default_pygments_style=False,
            full_screen=True,
        )

    def run(self) -> None:
        """Show the screen until Esc or Ctrl-C."""
        self._app.run(pre_run=self._begin_search)

    def _screen(self) -> HSplit:
        line = Window(BufferControl(self._line, input_processors=[BeforeInput("> ", style="bold")]), height=1)
        half = Dimension(weight=1)
        hits = Window(FormattedTextControl(self._hit_lines), always_hide_cursor=True, width=half)
        preview = Window(FormattedTextControl(self._preview_lines), always_hide_cursor=True, width=half)
        status = Window(FormattedTextControl(self._status_line), height=1)
        return HSplit([line, VSplit([hits, Window(width=1, char="│"), preview]), status])

    def _keys(self) -> KeyBindings:
        keys = KeyBindings()
        keys.add("up")(lambda _: self._choose(-1))
        keys.add("c-p")(lambda _: self._choose(-1))
        keys.add("down")(lambda _: self._choose(1))
        keys.add("c-n")(lambda _: self._choose(1))
        keys.add("pagedown")(lambda _: self._scroll_by(_PAGE_LINES))
        keys.add("pageup")(lambda _: self._scroll_by(-_PAGE_LINES))
        keys.add("enter")(self._open)
        keys.add("escape", eager=True)(lambda event: event.app.exit())
        keys.add("c-c")(lambda event: event.app.exit())
        keys.add("c-d")(lambda event: event.app.exit())
        return keys

    def _choose(self, step: int) -> None:
        if self._hits:
            self._chosen = (self._chosen + step) % len(self._hits)
            self._scroll = 0

    def _scroll_by(self, lines: int) -> None:
        if self._hits:
            line_count = self._hits[self._chosen].chunk.content.count("\n") + 1
            self._scroll = max(0, min(self._scroll + lines, line_count - 1))

    def _begin_search(self) -> None:
        """Search for what the line holds once nothing was typed for a moment; what was begun before is forgotten."""
        if self._task is not None:
            self._task.cancel()
        self._task = self._app.create_background_task(self._search_soon(self._line.text.strip()))

    async def _search_soon(self, text: str) -> None:
        if text == self._searched_for and not self._is_error:
            return
        await asyncio.sleep(_DEBOUNCE_S)
        if not text:
            self._show([], "")
        else:
            try:
                response = await asyncio.get_running_loop().run_in_executor(None, self._asked.search, text, False)
            except ClientError as error:
                self._show_error(str(error))
                return
            self._show(list(response.hits), f"{len(response.hits)} hits of {response.searched_chunk_count} chunks")
        self._searched_for = text

    def _show(self, hits: list[search_pb.SearchHit], status: str) -> None:
        self._hits, self._chosen, self._scroll = hits, 0, 0
        self._status, self._is_error = status, False
        self._app.invalidate()

    def _show_error(self, message: str) -> None:
        self._status, self._is_error = harmless(message), True
        self._app.invalidate()

    def _open(self, event: KeyPressEvent) -> None:
        if self._hits:
            event.app.create_background_task(self._open_chosen(self._hits[self._chosen], self._searched_for))

    async def _open_chosen(self, hit: search_pb.SearchHit, text: str) -> None:
        path = self._asked.locate(hit)
        if path is None:
            self._show_error(f"{hit.chunk.path} is not below this folder; start in that of the codebase, or use --root")
            return
        try:
            await run_in_terminal(lambda: open_at_line(path, hit.chunk.start_line))
            # Only now it is known what was sought; the log is of that, and of what became of it.
            await asyncio.get_running_loop().run_in_executor(None, self._record, text, hit)
        except (EditorFailed, ClientError) as error:
            self._show_error(str(error))

    def _record(self, text: str, hit: search_pb.SearchHit) -> None:
        response = self._asked.search(text, True)
        if response.search_id and any(one.chunk_id == hit.chunk_id for one in response.hits):
            self._asked.opened(response, hit)

    def _hit_lines(self) -> StyleAndTextTuples:
        lines: StyleAndTextTuples = []
        for number, hit in enumerate(self._hits):
            chosen = "class:chosen" if number == self._chosen else ""
            where = f"{hit.codebase_id}: {hit.chunk.path}" if self._several else hit.chunk.path
            if number == self._chosen:
                lines.append(("[SetCursorPosition]", ""))
            lines.append((f"class:score {chosen}", f"{hit.score:5.3f} "))
            lines.append((chosen, harmless(f"{where}:{hit.chunk.start_line}")))
            lines.append((f"class:symbol {chosen}", harmless(f" {hit.chunk.symbol}")))
            lines.append(("", "\n"))
        return lines

    def _preview_lines(self) -> StyleAndTextTuples:
        if not self._hits:
            return []
        chunk = self._hits[self._chosen].chunk
        line_of = PygmentsLexer.from_filename(chunk.path).lex_document(Document(harmless(chunk.content)))
        lines: StyleAndTextTuples = []
        for row in range(self._scroll, chunk.content.count("\n") + 1):
            lines += [("class:score", f"{chunk.start_line + row:5} "), *line_of(row), ("", "\n")]
        return lines

    def _status_line(self) -> StyleAndTextTuples:
        if self._is_error:
            return [("class:error", self._status)]
        return [("class:status", f"{self._status}   {_HELP}" if self._status else _HELP)]
