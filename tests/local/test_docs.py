"""What the documents say can be done: blocks marked `sh run` are run, command lines are ones that `serin` knows, links lead somewhere.

Blocks of one document run in order, in one bash session (`set -eu`), in a directory that looks like a checkout with a playground in it. The
lines of a block `text expect` that follows must appear in the output, in that order; `…` in such a line stands for anything.
"""

import functools
import os
import re
import shlex
import signal
import subprocess
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import playground
import pytest
import stack

RUNNABLE = sorted([stack.ROOT / "README.md", *stack.ROOT.glob("docs/**/*.md")])
DOCUMENTS = sorted({*RUNNABLE, *stack.ROOT.glob("*.md"), *stack.ROOT.glob("infra/**/*.md")})
PATIENCE = 150  # seconds that the blocks of one document may take
SHELLS = {"sh", "bash", "shell", "console"}


def name(path: Path) -> str:
    return str(path.relative_to(stack.ROOT))


@dataclass(frozen=True)
class Block:
    """A fenced block; `line` is that of its first line of text."""

    file: str
    line: int
    info: str
    text: str

    def __str__(self):
        return f"{self.file}:{self.line}"

    @property
    def language(self) -> str:
        return self.info.split()[0] if self.info else ""


def read(text: str, file: str) -> tuple[list[Block], list[tuple[int, str]]]:
    """The fenced blocks of a document, and all other lines with their numbers."""
    blocks, prose, opened = [], [], None
    for number, line in enumerate(text.splitlines(), 1):
        fence = re.match(r"^( *)(`{3,}|~{3,})\s*([^`]*)$", line)
        if opened is None and fence:
            opened = (number + 1, len(fence[1]), fence[2], fence[3].strip(), [])
        elif opened is None:
            prose.append((number, line))
        elif fence and fence[2].startswith(opened[2]) and not fence[3].strip():
            first, _, _, info, lines = opened
            blocks.append(Block(file, first, info, "\n".join(lines)))
            opened = None
        else:
            opened[4].append(line[min(opened[1], len(line) - len(line.lstrip(" "))) :])
    assert opened is None, f"{file}:{opened[0]}: the block is never closed"
    return blocks, prose


@functools.cache
def document(path: Path):
    return read(path.read_text(), name(path))


def runnable(path: Path) -> list[tuple[Block, list[str]]]:
    """Blocks to run, each with the lines that must appear."""
    found = []
    for before, block in zip([None, *document(path)[0]], document(path)[0]):
        if block.info == "sh run":
            found.append((block, []))
        elif block.info == "text expect":
            assert before and before.info == "sh run", f"{block}: `text expect` does not follow a block `sh run`"
            found[-1][1].extend(line.rstrip() for line in block.text.splitlines() if line.strip())
    return found


# ---------------------------------------------------------------------------------------------------------------------------- blocks

TO_RUN = [path for path in RUNNABLE if runnable(path)]


def test_the_quick_start_is_run():
    assert [name(path) for path in TO_RUN if path.name == "quick-start.md"] == ["docs/quick-start.md"]


@pytest.fixture
def ground(tmp_path):
    """Looks like a checkout, so that nothing the documents write ends up in the real one."""
    checkout = tmp_path / "serin"
    checkout.mkdir()
    for entry in stack.ROOT.iterdir():
        if entry.name not in (".local", ".git"):
            (checkout / entry.name).symlink_to(entry)
    with playground.InAnotherTerminal(checkout / ".local") as running:
        yield running


@pytest.mark.parametrize("path", TO_RUN, ids=name)
def test_every_runnable_block_runs(path, ground, tmp_path):
    problem = run(runnable(path), ground.place.parent, tmp_path)
    if problem:
        pytest.fail(f"{problem}\n\nthe playground said\n{ground.said()}", pytrace=False)


def run(blocks: list[tuple[Block, list[str]]], checkout: Path, scratch: Path) -> str | None:
    """What went wrong, by the block it went wrong in."""
    driver = ["set -eu"]
    for number, (block, _) in enumerate(blocks):
        # Sourced from a file of its own: the shell's complaints name it, and an unclosed quote does not eat the next one.
        source = scratch / "blocks" / f"{number}"
        source.parent.mkdir(exist_ok=True)
        source.write_text(block.text + "\n")
        driver += [f"echo {mark(number)}", f". {shlex.quote(str(source))}", "echo"]
    driver.append(f"echo {mark(len(blocks))}")
    (scratch / "session").write_text("\n".join(driver) + "\n")
    (scratch / "home").mkdir()
    env = stack.clean_environment(NO_COLOR="1") | {"HOME": str(scratch / "home"), "USER": "reader"}
    with open(scratch / "output", "w") as output:
        session = subprocess.Popen(
            ["bash", scratch / "session"], cwd=checkout, env=env, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True
        )
        try:
            ended = f"ended with exit code {session.wait(timeout=PATIENCE)}"
        except subprocess.TimeoutExpired:
            ended = f"was still running when the document's {PATIENCE} s were over"
        finally:
            try:
                os.killpg(session.pid, signal.SIGKILL)  # whatever a block left in the background
            except ProcessLookupError:
                pass
            session.wait()
    # One output per block that was begun, and an empty one if all ended well.
    outputs = re.split(rf"{mark('')}\d+\n", (scratch / "output").read_text(errors="replace"))[1:]
    for number, ((block, expected), output) in enumerate(zip(blocks, outputs), 1):
        problem = ended if number == len(outputs) else None
        if problem is None and (missing := first_missing(expected, output)) is not None:
            problem = f"this line is not in the output, or not after the ones before it: {missing}"
        if problem:
            return f"{block}: {problem}\n{indented(block.text)}\n{output}"
    return None


def mark(number) -> str:
    return f"----------block-{number}"


def indented(text: str) -> str:
    return "\n".join(f"  $ {line}" for line in text.splitlines())


def first_missing(expected: list[str], output: str) -> str | None:
    lines = iter(output.splitlines())
    for wanted in expected:
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.strip().split("…")))
        if not any(pattern.search(line) for line in lines):
            return wanted
    return None


# ---------------------------------------------------------------------------------------------------------------------- command lines

# After these words a command follows.
BEFORE_COMMAND = {"if", "then", "else", "elif", "while", "until", "do", "!", "{", "time", "exec", "command", "sudo", "env"}
OPERATOR = re.compile(r"[();<>|&]+")


def commands(script: str) -> list[list[str]]:
    """The words of every `serin …` in a script."""
    script = script.replace("\\\n", " ")
    found = []
    for line in script.splitlines():
        line = re.sub(r"^\s*[$>] ", "", line)
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.wordchars += "$%@{}[]…:,!^+"
        try:
            words = list(lexer)
        except ValueError:  # a quote that goes on in the next line, as in JSON
            continue
        current, at_start = None, True
        for word in [*words, ";"]:
            found += [inner for nested in re.findall(r"\$\(([^()]*)\)", word) for inner in commands(nested)]
            if OPERATOR.fullmatch(word):
                current, at_start = None, not re.fullmatch(r"[<>]+&?", word)
            elif current is not None:
                current.append(word)
            elif at_start and word == "serin":
                current = []
                found.append(current)
            else:
                at_start = at_start and (word in BEFORE_COMMAND or bool(re.match(r"^\w+=", word)))
    return found


@dataclass(frozen=True)
class Help:
    """What a (sub)command says of itself."""

    subcommands: frozenset[str]
    options: dict[str, bool]  # by `--name` and `-n`: whether a value follows
    required: frozenset[str]
    least: int
    most: float


@functools.cache
def help_of(*path: str) -> Help:
    command = [stack.binary("serin"), *path, "--help"]
    told = subprocess.run(command, env=stack.clean_environment(NO_COLOR="1"), capture_output=True, text=True, timeout=20)
    assert told.returncode == 0, f"{command}: {told.stderr}"
    return understood(told.stdout)


def understood(text: str) -> Help:
    listed = re.search(r"(?m)^Commands:\n((?: .*\n|\n)+)", text)
    subcommands = frozenset(re.findall(r"(?m)^  ([a-z][\w-]*)", listed[1])) if listed else frozenset()
    options = {}
    for short, long, value in re.findall(r"(?m)^ {2,6}(?:(-\w)(?:, )?)?(--[\w-]+)?((?:[ =]?\[?=?<[^>]+>)?)", text):
        options.update({option: bool(value) and not value.startswith("[") for option in (short, long) if option})
    usage = re.search(r"(?m)^Usage: (.*)$", text)[1]
    usage = re.sub(r"\[(OPTIONS|COMMAND)\]|<COMMAND>", "", usage)
    # `<--a <A>|--b <B>>`: one of them; that is not worth a grammar.
    usage = re.sub(r"<[^<>]*(?:<[^<>]*>[^<>]*)+>", "", usage)
    required = frozenset(re.findall(r"(?<!\[)(--[\w-]+)", usage))
    arguments = re.sub(r"--[\w-]+(?: <[^>]+>)?", "", usage)
    least = len(re.findall(r"<[^>]+>", arguments))
    most = float("inf") if "..." in arguments else least + len(re.findall(r"\[[^\]]+\]", arguments))
    return Help(subcommands, options, required, least, most)


def complaint(words: list[str], strict: bool = True, help_of=help_of) -> str | None:
    """Why `serin` would not take these words; not strict: they may be part of a command line."""
    path, arguments, given, rest = (), 0, set(), list(words)
    known = help_of()
    while rest:
        word = rest.pop(0)
        option, _, value = word.partition("=")
        if word == "--":
            arguments, rest = arguments + len(rest), []
        elif re.match(r"--?[a-zA-Z]", word):
            if option in ("--help", "-h", "--version", "-V"):
                return None
            if option not in known.options:
                return f"`serin{''.join(f' {part}' for part in path)}` has no option {option}"
            given.add(option)
            if known.options[option] and not value:
                if not rest and strict:
                    return f"a value is missing after {option}"
                del rest[:1]
        elif known.subcommands and word != "…":
            if word not in known.subcommands:
                return f"`serin{''.join(f' {part}' for part in path)}` has no command {word}"
            path += (word,)
            # Global options stay known; what is required is the last one's.
            known = help_of(*path)
        else:
            arguments += 1
    if not strict:
        return None
    if known.subcommands and known.least == 0 and not given:
        return f"`serin{''.join(f' {part}' for part in path)}` needs a command"
    if missing := known.required - given:
        return f"{', '.join(sorted(missing))} must be given"
    if not known.least <= arguments <= known.most:
        return f"{arguments} arguments, where from {known.least} to {known.most} are taken"
    return None


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_serin_knows_every_command_line(path):
    blocks, prose = document(path)
    wrong = []
    for block in blocks:
        if block.language in SHELLS:
            for words in commands(block.text):
                if problem := complaint(words):
                    wrong.append(f"{block}: serin {' '.join(words)}: {problem}")
    if path.name != "CHANGELOG.md" and "decisions" not in path.parts:  # they tell what was
        for number, line in prose:
            for words in mentioned(line):
                if problem := complaint(words, strict=False):
                    wrong.append(f"{name(path)}:{number}: `serin {' '.join(words)}`: {problem}")
    assert not wrong, "\n".join(wrong)


def mentioned(line: str) -> list[list[str]]:
    """Command lines in running text; `pause\\|resume` and `pause | resume` are several."""
    found = []
    for span in re.findall(r"`serin ([^`]+)`", line):
        first, *rest = re.split(r"\s*\\?\|\s*", span)
        try:
            words = shlex.split(first)
        except ValueError:
            continue
        found.append(words)
        if rest:
            # What stands before the first bar and behind the last belongs to all of them.
            head = words[:-1] if words and not words[-1].startswith("-") else words
            for alternative in rest:
                alternative = alternative.split()
                if alternative and re.fullmatch(r"[a-z][a-z-]*", alternative[0]) and len(head) < 2 and not is_value(words):
                    found.append([*head, *alternative])
    return found


def is_value(words: list[str]) -> bool:
    """`--to canary|stable`: what follows the bar is the value of an option."""
    return len(words) > 1 and words[-2].startswith("--")


# ------------------------------------------------------------------------------------------------------------------------------ links


@functools.cache
def anchors(path: Path) -> set[str]:
    """As the usual places render headings; a second one of the same name gets a number."""
    found, seen = set(), {}
    for _, line in document(path)[1]:
        found |= set(re.findall(r"<a (?:id|name)=\"([^\"]+)\"", line))
        if heading := re.match(r"#{1,6}\s+(.+?)\s*#*$", line):
            text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading[1]).replace("`", "")
            slug = re.sub(r"[^\w\- ]", "", text.lower()).replace(" ", "-")
            count = seen[slug] = seen.get(slug, -1) + 1
            found.add(f"{slug}-{count}" if count else slug)
    return found


def links(line: str) -> list[str]:
    line = re.sub(r"`[^`]*`", "", line)
    inline = re.findall(r"\]\(\s*<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\s*\)", line)
    return inline + re.findall(r"^\s*\[[^\]]+\]:\s*<?(\S+?)>?\s*$", line)


@pytest.mark.parametrize("path", DOCUMENTS, ids=name)
def test_every_relative_link_leads_somewhere(path):
    wrong = []
    for number, line in document(path)[1]:
        for link in links(line):
            if re.match(r"[a-z][a-z0-9+.-]*:", link):
                continue
            target, _, anchor = unquote(link).partition("#")
            there = (path.parent / target).resolve() if target else path
            if not there.exists() or not there.is_relative_to(stack.ROOT):
                wrong.append(f"{name(path)}:{number}: {link}: there is no such file")
            elif anchor and there.suffix == ".md" and anchor not in anchors(there):
                wrong.append(f"{name(path)}:{number}: {link}: {name(there)} has no such heading")
    assert not wrong, "\n".join(wrong)


# ------------------------------------------------------------------------------------------------------ the reader of documents itself

SAMPLE = """\
# One `two` [three](x.md)
```sh run
echo one
false || true
```
```text expect
on…
```
- in a list
  ```sh
  serin pause main_ivr --reason "a | b" && FOO=1 serin gate "$(serin status -o json)" # serin nonsense
  until serin gate \\
    main_ivr; do sleep 5; done
  ```
## One
## One
"""


def test_blocks_commands_and_anchors_are_found(tmp_path):
    blocks, prose = read(SAMPLE, "sample")
    assert [(block.line, block.info) for block in blocks] == [(3, "sh run"), (7, "text expect"), (11, "sh")]
    assert commands(blocks[2].text) == [
        ["pause", "main_ivr", "--reason", "a | b"],
        ["gate", "$(serin status -o json)"],
        ["status", "-o", "json"],
        ["gate", "main_ivr"],
    ]
    assert mentioned("| `serin pause\\|resume FLOW` and `serin gate`") == [["pause"], ["resume", "FLOW"], ["gate"]]


def test_a_block_that_fails_is_named_with_its_output(tmp_path):
    blocks = [(Block("a.md", 3, "sh run", "x=1\necho one"), ["one"]), (Block("a.md", 9, "sh run", "echo two $x\nfalse\necho three"), [])]
    problem = run(blocks, tmp_path, tmp_path)
    assert problem.startswith("a.md:9: ended with exit code 1") and "two 1" in problem and "\nthree" not in problem


def test_a_line_that_does_not_come_is_named(tmp_path):
    blocks = [(Block("a.md", 3, "sh run", "echo one; echo two"), ["two", "one"])]
    assert run(blocks, tmp_path, tmp_path).startswith("a.md:3: this line is not in the output, or not after the ones before it: one")


HELP = {
    (): "Usage: serin [OPTIONS] <COMMAND>\n\nCommands:\n  pause  Hold\n  ledger  Look\n\nOptions:\n  -o, --output <OUTPUT>\n          How\n",
    ("pause",): "Usage: serin pause [OPTIONS] --reason <REASON> <FLOW>\n\nOptions:\n      --reason <REASON>  Why\n      --dry-run\n  -o, --output <OUTPUT>  How\n",
    ("ledger",): "Usage: serin ledger [OPTIONS] <COMMAND>\n\nCommands:\n  show  Show\n\nOptions:\n  -o, --output <OUTPUT>\n",
    ("ledger", "show"): "Usage: serin ledger show [OPTIONS] [FLOW]\n\nOptions:\n  -o, --output <OUTPUT>\n",
}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("pause main_ivr --reason why --dry-run", None),
        ("-o json pause main_ivr --reason=why", None),
        ("ledger show", None),
        ("pause main_ivr", "--reason must be given"),
        ("pause --reason why", "0 arguments"),
        ("pause a b --reason why", "2 arguments"),
        ("pause a --reason", "a value is missing"),
        ("pause a --because why", "no option --because"),
        ("stop main_ivr", "no command stop"),
        ("ledger main_ivr", "no command main_ivr"),
        ("ledger", "needs a command"),
    ],
)
def test_a_wrong_command_line_is_noticed(line, problem):
    answered = complaint(line.split(), help_of=lambda *path: understood(HELP[path]))
    assert (answered is None) if problem is None else problem in answered


def test_links_and_anchors_are_found():
    assert links('[a](b.md#c) `[no](x)` ![i](i.png "t") <https://x>') == ["b.md#c", "i.png"]
    assert links("[ref]: ../README.md") == ["../README.md"]
