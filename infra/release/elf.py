"""What a program asks of the machine it will run on: refused here rather than by Lambda, in the middle of a call."""

from pathlib import Path

from elftools.common.exceptions import ELFError
from elftools.elf.dynamic import DynamicSection
from elftools.elf.elffile import ELFFile
from elftools.elf.gnuversions import GNUVerNeedSection

# Amazon Linux 2023, of which `provided.al2023` is made, has glibc 2.34 for good: https://docs.aws.amazon.com/linux/al2023/ug/core-glibc.html
GLIBC = (2, 34)
MACHINES = {"arm64": "EM_AARCH64", "x86_64": "EM_X86_64"}
# The libraries that the runtime's image brings: glibc's, and the unwinder's.
LIBRARIES = ("libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1", "libgcc_s.so.1", "ld-linux-")


class Unfit(Exception):
    """The program would not start on Lambda; the message says what to do."""


def check(program: Path, architecture: str) -> None:
    """Raises `Unfit` when the program was built for another machine, or needs what the runtime does not have."""
    with program.open("rb") as file:
        try:
            elf = ELFFile(file)
        except ELFError:
            raise Unfit(f"{program} is no Linux program: build it with `make package`") from None
        machine = elf.header.e_machine
        if machine != MACHINES[architecture]:
            built_for = next((name for name, known in MACHINES.items() if known == machine), machine)
            raise Unfit(
                f"{program} was built for {built_for}, not for {architecture}: run `make package ARCH={architecture}`, "
                "which builds it for that machine"
            )
        newest = max(((version, f"{name}@{needs}") for name, needs, version in _glibc_versions(elf)), default=(GLIBC, ""))
        if newest[0] > GLIBC:
            raise Unfit(
                f"{program} needs {newest[1]}, and Amazon Linux 2023 has GLIBC_{_dotted(GLIBC)}: build it with `make package`, "
                f"which links against {_dotted(GLIBC)}, and not with cargo on a newer system"
            )
        strange = [name for name in _libraries(elf) if not name.startswith(LIBRARIES)]
        if strange:
            raise Unfit(f"{program} needs {', '.join(strange)}, which the runtime does not have: link statically what brings it in")


def needed_glibc(program: Path) -> str:
    """The newest glibc that the program asks for, e.g. `2.34`."""
    with program.open("rb") as file:
        return _dotted(max((version for _, _, version in _glibc_versions(ELFFile(file))), default=(0,)))


def _glibc_versions(elf: ELFFile):
    """(library, `GLIBC_2.34`, (2, 34)) for each version of glibc's symbols that is asked for."""
    for section in elf.iter_sections():
        if isinstance(section, GNUVerNeedSection):
            for library, versions in section.iter_versions():
                for version in versions:
                    kind, _, number = version.name.partition("_")
                    # GLIBC_PRIVATE and GLIBC_ABI_DT_RELR carry no number: the second came with 2.36.
                    if kind == "GLIBC" and number != "PRIVATE":
                        known = (2, 36) if number.startswith("ABI_DT_RELR") else tuple(int(part) for part in number.split("."))
                        yield library.name, version.name, known


def _libraries(elf: ELFFile) -> list[str]:
    return [
        tag.needed
        for section in elf.iter_sections()
        if isinstance(section, DynamicSection)
        for tag in section.iter_tags()
        if tag.entry.d_tag == "DT_NEEDED"
    ]


def _dotted(version: tuple) -> str:
    return ".".join(map(str, version))
