"""`serin status --watch` in a terminal: in an emulated one always (pyte on a pty), and in tmux where it is installed.

Time stands still while a screen is looked at, so that screens of different sizes show the same facts and can be compared.
"""

import contextlib
import fcntl
import json
import os
import pty
import re
import shlex
import shutil
import signal
import struct
import subprocess
import termios
import threading
import time

import demo
import pyte
import pytest
import stack

OTHER = "night_line"
SMALL, LARGE = (80, 24), (200, 50)
LABELS = ("stable", "canary", "errors", "abandoned calls", "transfers", "to rollback", "now", "would change", "next look", "latest entries", "q leaves")
OPENS, LEAVES = b"\x1b[?1049h", b"\x1b[?1049l"  # the alternate screen
HIDES, SHOWS = b"\x1b[?25l", b"\x1b[?25h"  # the cursor
CLEARS = b"\x1b[2J"
COLOR = re.compile(rb"\x1b\[(?:[0-9;]*;)?(?:3[0-8]|4[0-8]|9[0-7]|10[0-7])(?:;[0-9;]*)?m")
FILE = """\
flow: {flow}
stable: {{flow_id: {stable}}}
canary: {{flow_id: {canary}, version: "{version}"}}
labels: {{stable: v1, canary: v2}}
policy: {{steps: [5, 25, 50], expected_calls_per_hour: 6700}}
"""


@pytest.fixture(scope="module")
def play(tmp_path_factory):
    """Two rollouts at their first step, one of them with callers; ticks come when a test sends them."""
    with stack.Simulator(seed=demo.SEED) as genesys, stack.Stack() as aws:
        flows = genesys.reset(seed=demo.SEED, start=demo.START, calls_per_hour=6700, flows=[{"slot": demo.FLOW}, {"slot": OTHER}])["flows"]
        ids = {flow["name"]: flow["id"] for flow in flows}
        demo.deploy(aws, genesys)
        played = demo.Play(aws, genesys, show=lambda _: None)
        played.calls(5, ask=0)
        for flow, name in ((demo.FLOW, "Main_IVR"), (OTHER, OTHER)):
            file = tmp_path_factory.mktemp("rollout") / "rollout.yaml"
            version = genesys.check_in(ids[f"{name}_Green"], demo.HEALTHY)
            file.write_text(FILE.format(flow=flow, stable=ids[f"{name}_Blue"], canary=ids[f"{name}_Green"], version=version))
            played.serin("start", str(file), "--reason", "something to look at")
        for _ in range(5):
            played.tick()
            played.calls(5, ask=0)
        played.tick()
        yield played


def surroundings(play, **more: str) -> dict:
    return stack.clean_environment(
        TERM="xterm-256color",
        AWS_ENDPOINT_URL=play.aws.endpoint,
        AWS_REGION=stack.REGION,
        AWS_ACCESS_KEY_ID="test",
        AWS_SECRET_ACCESS_KEY="test",
        SERIN_STAGE="local",
        SERIN_TIME="last-tick",
        SERIN_CONFIG="/nonexistent/contexts.yaml",
        **more,
    )


class Strict(pyte.Screen):
    """Remembers what a real terminal would have broken: text beyond the right edge, and places that are not on the screen."""

    def __init__(self, *size):
        super().__init__(*size)
        self.broken = []

    def draw(self, data):
        room = self.columns - self.cursor.x
        if len(data) > room:
            self.broken.append(f"{data!r} at {self.cursor.x},{self.cursor.y} of {self.columns} columns")
        super().draw(data)

    def cursor_position(self, line=None, column=None):
        if (line or 1) > self.lines or (column or 1) > self.columns:
            self.broken.append(f"the cursor is sent to {column},{line} of {self.columns}x{self.lines}")
        super().cursor_position(line, column)


class Terminal:
    """A program on a terminal of its own, until the block is left."""

    def __init__(self, play, *words: str, size=SMALL, **more: str):
        self.screen, self.raw, self._lock = Strict(*size), bytearray(), threading.Lock()
        self._stream = pyte.ByteStream(self.screen)
        self._ours, theirs = pty.openpty()
        self._size(*size)
        self.before = termios.tcgetattr(theirs)
        self._theirs = theirs  # kept open, to see in which state it is left
        command = [stack.binary("serin"), "status", *words, "--watch"]
        env = surroundings(play, **more)
        # It becomes the leader of a session on this terminal, as under a shell: resizes and Ctrl-C reach it.
        self.program = subprocess.Popen(command, env=env, close_fds=True, pass_fds=[theirs], preexec_fn=lambda: os.login_tty(theirs))
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.program.kill()
        self.program.wait()
        os.close(self._theirs)
        self._reader.join(timeout=5)
        os.close(self._ours)

    def _read(self):
        with contextlib.suppress(OSError):
            while data := os.read(self._ours, 65536):
                with self._lock:
                    self.raw += data
                    self._stream.feed(data)

    def _size(self, columns, lines):
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def resize(self, columns, lines):
        with self._lock:
            self.screen.resize(lines, columns)
            # Whatever a terminal makes of what was there: the program has to draw anew.
            self.screen.erase_in_display(2)
        self._size(columns, lines)

    def type(self, keys: bytes):
        os.write(self._ours, keys)

    @property
    def lines(self) -> list[str]:
        with self._lock:
            return [line.rstrip() for line in self.screen.display]

    @property
    def text(self) -> str:
        return "\n".join(self.lines)

    def until(self, true, seconds: float = 15) -> str:
        """Waits for a text, or for a function of the lines; answers the screen."""
        deadline = time.monotonic() + seconds
        while not (true in self.text if isinstance(true, str) else true(self.lines)):
            assert time.monotonic() < deadline, f"not within {seconds} s: {true}\n{framed(self.lines)}\n{bytes(self.raw[-300:])!r}"
            assert self.program.poll() is None, f"it ended with {self.program.poll()}\n{self.text}"
            time.sleep(0.05)
        return self.settled()

    def settled(self) -> str:
        """The screen, once nothing more comes for a moment."""
        seen = -1
        while seen != len(self.raw):
            seen = len(self.raw)
            time.sleep(0.2)
        return self.text

    def left(self, seconds: float = 10) -> int:
        """Its exit code; the terminal must be as it was."""
        code = self.program.wait(timeout=seconds)
        self.settled()
        assert self.raw.count(OPENS) == self.raw.count(LEAVES) == 1 and self.raw.rfind(LEAVES) > self.raw.rfind(OPENS)
        assert self.raw.rfind(SHOWS) > self.raw.rfind(HIDES), "the cursor is shown again"
        assert termios.tcgetattr(self._theirs) == self.before, "keys are echoed again, line by line"
        return code


def framed(lines: list[str]) -> str:
    return "\n".join(f"|{line}" for line in lines)


def view_of(play) -> dict:
    told = subprocess.run(
        [stack.binary("serin"), "status", demo.FLOW, "-o", "json"], env=surroundings(play), capture_output=True, text=True, timeout=30, check=True
    )
    return json.loads(told.stdout)


def flowing(lines: list[str]) -> str:
    return " ".join(" ".join(lines).split())


ONE, ALL = (demo.FLOW,), ()


@pytest.fixture(scope="module")
def screens(play):
    """The same facts on both sizes, of one flow and of all."""
    found = {}
    for size in (SMALL, LARGE):
        for words in (ONE, ALL):
            with Terminal(play, *words, size=size) as terminal:
                terminal.until("latest entries")
                found[size, words] = (terminal.lines, terminal.screen.broken)
                terminal.type(b"q")
                assert terminal.left() == 0
    return found


@pytest.mark.parametrize("words", [ONE, ALL], ids=["one", "all"])
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=lambda size: "x".join(map(str, size)))
def test_everything_is_on_the_screen_and_no_line_is_broken(play, screens, size, words):
    lines, broken = screens[size, words]
    assert not broken, broken
    text = framed(lines)
    assert "stage local" in lines[0] and play.genesys.now()[:16].replace("T", " ") in lines[0], text
    assert "main_ivr" in text and "Stepping" in text and "5 %" in text, text
    for label in LABELS:
        assert label in text, f"{label} is missing\n{text}"
    assert "StepStarted" in text, text
    # Whole sentences, however many lines they take.
    now = view_of(play)["rollout"]["now"]
    for sentence in (now["sentence"], now["would_change"]):
        assert flowing([sentence]) in flowing(lines), f"{sentence}\n{text}"


@pytest.mark.parametrize("words", [ONE, ALL], ids=["one", "all"])
def test_a_small_screen_cuts_nothing_without_saying_so(screens, words):
    small, large = (screens[size, words][0] for size in (SMALL, LARGE))
    known = set(" ".join(large).split())
    full = [line for line in small if len(line) >= SMALL[0] and not line.endswith("…")]
    # In the middle of a word, or between two.
    cut = [line for line in full if line.split()[-1] not in known or any(other.startswith(line) and other != line for other in large)]
    assert not cut, f"these lines go on beyond the edge\n{framed(cut)}"


def test_it_shows_what_changes_without_flicker(play):
    with Terminal(play, demo.FLOW) as terminal:
        first = terminal.until("latest entries")
        terminal.settled()
        drawn = len(terminal.raw)
        time.sleep(5)  # two looks, at least
        assert len(terminal.raw) - drawn < 500, "nothing changed, so hardly anything is drawn"
        at = play.genesys.now()[:16].replace("T", " ")
        assert at in first.splitlines()[0]
        play.calls(5, ask=0)
        play.tick()
        terminal.until(lambda lines: play.genesys.now()[:16].replace("T", " ") in lines[0])
        assert bytes(terminal.raw[drawn:]).count(CLEARS) == 0, "the screen is never wiped in between"
        assert not terminal.screen.broken, terminal.screen.broken


@pytest.mark.parametrize(("key", "name"), [(b"q", "q"), (b"\x03", "Ctrl-C"), (b"\x1b", "Esc")], ids=["q", "ctrl-c", "esc"])
def test_a_key_leaves_the_terminal_as_it_was(play, key, name):
    with Terminal(play, size=LARGE) as terminal:
        terminal.until("latest entries")
        assert terminal.raw.count(OPENS) == 1 and HIDES in terminal.raw
        terminal.type(key)
        assert terminal.left() == 0


def test_a_signal_leaves_the_terminal_as_it_was(play):
    with Terminal(play) as terminal:
        terminal.until("latest entries")
        terminal.program.send_signal(signal.SIGTERM)
        terminal.left()


@pytest.mark.parametrize(("before", "after"), [(LARGE, SMALL), (SMALL, LARGE)], ids=["smaller", "larger"])
def test_a_resize_draws_the_screen_of_the_new_size(play, before, after):
    with Terminal(play, demo.FLOW, size=after) as wanted:
        wanted.until("latest entries")
        with Terminal(play, demo.FLOW, size=before) as terminal:
            terminal.until("latest entries")
            terminal.resize(*after)
            terminal.until("latest entries")
            terminal.until(lambda _: terminal.settled() == wanted.settled())
            assert not terminal.screen.broken, terminal.screen.broken


def test_no_color_means_none_and_the_same_words(play):
    shown = {}
    for name, more in {"colors": {}, "none": {"NO_COLOR": "1"}}.items():
        with Terminal(play, demo.FLOW, **more) as terminal:
            shown[name] = (terminal.until("latest entries"), bool(COLOR.search(terminal.raw)))
    assert shown["colors"][1] and not shown["none"][1]
    assert shown["colors"][0] == shown["none"][0], "nothing is said by color alone"


def test_up_and_down_choose_among_flows(play):
    def chosen(lines):
        return [line.split()[1] for line in lines if line.startswith(">")]

    with Terminal(play) as terminal:
        terminal.until("latest entries")
        assert "2 flows" in terminal.lines[0]
        assert all(any(flow in line for line in terminal.lines) for flow in (demo.FLOW, OTHER))
        first = chosen(terminal.lines)
        assert first in ([demo.FLOW], [OTHER])
        terminal.type(b"\x1b[B")
        terminal.until(lambda lines: chosen(lines) not in ([], first))
        terminal.type(b"\x1b[B")  # there is no third
        terminal.type(b"\x1b[A")
        terminal.until(lambda lines: chosen(lines) == first)
        assert not terminal.screen.broken, terminal.screen.broken


@pytest.mark.parametrize("size", [(40, 10), (20, 4), (1, 1)], ids=lambda size: "x".join(map(str, size)))
def test_a_screen_on_which_nothing_has_room_does_no_harm(play, size):
    with Terminal(play, size=size) as terminal:
        terminal.until(lambda lines: bool(lines[0].strip()) or size == (1, 1))
        assert not terminal.screen.broken, terminal.screen.broken
        terminal.type(b"q")
        assert terminal.left() == 0


def test_without_a_terminal_it_says_what_to_ask_instead(play):
    command = [stack.binary("serin"), "status", demo.FLOW, "--watch"]
    told = subprocess.run(command, env=surroundings(play), stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30)
    assert told.returncode == 2 and "terminal" in told.stderr and not told.stdout


def test_what_cannot_be_reached_is_said_on_a_terminal_that_stays_as_it_is(play):
    with Terminal(play, AWS_ENDPOINT_URL_DYNAMODB="http://127.0.0.1:9") as terminal:
        assert terminal.program.wait(timeout=30) == 1
        assert "error: " in terminal.settled() and OPENS not in terminal.raw


# ------------------------------------------------------------------------------------------------------------------------------ tmux


class Tmux:
    """A server of the test's own, with one window in which a shell waits."""

    def __init__(self, play, size):
        self.socket, self.size = f"serin-watch-{os.getpid()}-{size[0]}-{time.monotonic_ns()}", size
        env = surroundings(play)
        self.env = {**env, "TERM": "xterm-256color"}
        self("-f", "/dev/null", "new-session", "-d", "-x", str(size[0]), "-y", str(size[1]), "env PS1='$ ' sh")
        self("set-option", "-g", "window-size", "manual")

    def __call__(self, *words: str) -> str:
        done = subprocess.run(["tmux", "-L", self.socket, *words], env=self.env, capture_output=True, text=True, timeout=20)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self("kill-server")

    def shows(self, true, seconds: float = 15) -> list[str]:
        deadline = time.monotonic() + seconds
        while True:
            lines = self("capture-pane", "-p").splitlines()
            if true in "\n".join(lines):
                return lines
            assert time.monotonic() < deadline, f"not within {seconds} s: {true}\n{framed(lines)}"
            time.sleep(0.1)


@pytest.mark.skipif(not shutil.which("tmux"), reason="tmux is not on this machine; the emulated terminal was used alone")
@pytest.mark.parametrize("size", [SMALL, LARGE], ids=lambda size: "x".join(map(str, size)))
def test_in_a_multiplexer_it_looks_the_same_and_gives_the_shell_back(play, size):
    with Tmux(play, size) as tmux, Terminal(play, demo.FLOW, size=size) as emulated:
        emulated.until("latest entries")
        tmux.shows("$")
        tmux("send-keys", "echo before", "Enter")
        tmux("send-keys", f"{shlex.quote(str(stack.binary('serin')))} status {demo.FLOW} --watch", "Enter")
        tmux.shows("latest entries")
        assert tmux("display-message", "-p", "#{alternate_on} #{pane_width}x#{pane_height}").split() == ["1", "x".join(map(str, size))]
        deadline = time.monotonic() + 15
        while [line.rstrip() for line in tmux("capture-pane", "-p").splitlines()] != (wanted := emulated.lines):
            assert time.monotonic() < deadline, f"{tmux('capture-pane', '-p')}\n\nbut\n\n{framed(wanted)}"
            time.sleep(0.2)
        other = SMALL if size == LARGE else LARGE
        tmux("resize-window", "-x", str(other[0]), "-y", str(other[1]))
        emulated.resize(*other)
        emulated.until("latest entries")
        deadline = time.monotonic() + 15
        while [line.rstrip() for line in tmux("capture-pane", "-p").splitlines()] != (wanted := emulated.lines):
            assert time.monotonic() < deadline, f"{tmux('capture-pane', '-p')}\n\nbut\n\n{framed(wanted)}"
            time.sleep(0.2)
        tmux("send-keys", "q")
        # What is typed before it has left is typed into it.
        deadline = time.monotonic() + 15
        while tmux("display-message", "-p", "#{alternate_on}").strip() != "0":
            assert time.monotonic() < deadline, tmux("capture-pane", "-p")
            time.sleep(0.1)
        tmux.shows("$")
        tmux("send-keys", "echo $((40 + 2)) after", "Enter")
        lines = tmux.shows("42 after")
        assert any(line.strip() == "before" for line in lines), "what the shell had on the screen is there again"
        assert tmux("display-message", "-p", "#{alternate_on} #{cursor_flag}").split() == ["0", "1"]
