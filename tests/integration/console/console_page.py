"""One tab with the console, what is searched in it, and what must never happen in it."""

from dataclasses import dataclass, field

from playwright.async_api import ConsoleMessage, Dialog, Page, expect

CODEBASE, HOSTILE = "console-code", "console-hostile"
FILES = {
    "net/sockets.py": "def open_socket(host, port):\n    return socket.create_connection((host, port))\n\n\n"
    "def close_socket(sock):\n    # A close is polite.\n    sock.shutdown(socket.SHUT_RDWR)\n    sock.close()\n",
    "net/server.py": "class HTTPServer:\n    def serve_forever(self):\n        while self.open: self.handle()\n\n"
    "    def handle(self):\n        connection, address = self.socket.accept()\n        connection.close()\n",
    "math/vectors.py": "def dot(first, second):\n    return sum(a * b for a, b in zip(first, second))\n\n\n"
    "def norm(vector):\n    return dot(vector, vector) ** 0.5\n",
    "math/add.go": "package math\n\n// Add gives the sum of two.\nfunc Add(a, b int) int {\n\treturn a + b\n}\n",
}
IMAGE_NAME = "<img src=x onerror=alert(1)>.py"
TURNED_NAME = "\u202egpj.exe.py"
HOSTILE_FILES = {
    IMAGE_NAME: "def evil():\n    '''<script>alert(document.domain)</script><img src=x onerror=alert(2)>'''\n"
    "    return '</code></pre><svg onload=alert(3)>'\n",
    TURNED_NAME: "def disguised():\n    access = 'user\u202e \u2066// check if admin\u2069 \u2066'\n",
}


@dataclass
class Witness:
    """What happened in a page that never may: each is a line."""

    seen: list[str] = field(default_factory=list)
    expected: tuple[str, ...] = ()

    def dialog(self, dialog: Dialog) -> None:
        self.seen.append(f"dialog: {dialog.message}")

    def console(self, message: ConsoleMessage) -> None:
        if message.type == "error" and not any(part in message.text for part in self.expected):
            self.seen.append(f"console: {message.text}")


@dataclass(frozen=True)
class Console:
    """One tab.

    Attributes:
        page: The tab.
        url: Of the console.
        api_key: An administrator's.
        witness: What it noticed.
    """

    page: Page
    url: str
    api_key: str
    witness: Witness

    async def sign_in(self, api_key: str | None = None) -> None:
        """By the form, as a person does."""
        await self.page.goto(self.url)
        await self.page.get_by_label("API key").fill(api_key or self.api_key)
        await self.page.get_by_role("button", name="Sign in").click()
        await self.page.get_by_role("button", name="Sign out").wait_for()

    async def hold_key(self) -> None:
        """As a tab that somebody has signed in before."""
        await self.page.add_init_script(
            f"if (location.protocol === 'http:') sessionStorage.setItem('duovec-api-key', '{self.api_key}')"
        )

    async def show(self, address: str) -> None:
        """A view, once it has all that it asked for."""
        await self.page.goto(f"{self.url}#/{address}")
        await self.settled()

    async def settled(self) -> None:
        """Wait until the page has all that it asked for."""
        # What an address that changed begins, begins in the next turn of the page's loop.
        await self.page.evaluate("new Promise((done) => setTimeout(done))")
        await expect(self.page.locator("[aria-busy]")).to_have_count(0, timeout=20_000)

    async def texts(self, selector: str) -> list[str]:
        return await self.page.locator(selector).all_inner_texts()
