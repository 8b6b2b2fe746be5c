"""How long does the command line take before it does anything?

    python -m benchmarks.startup [--rounds N] [--json FILE]

Each command starts a new Python, the commands take turns; medians of wall time. `python -c pass` is the floor that no
Python program can go below. The last column asks the same interpreter which modules it loaded: torch, whose import
alone takes seconds, must not be among them until a network is needed.
"""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial

from benchmarks.timing import Answer, Report, interleave, parser, seconds

# Runs the command line inside an interpreter that afterwards says what was loaded.
_LOADED = """
import json, sys
sys.argv = ["groundglass", *{arguments}]
from groundglass.cli.main import main
try:
    main()
except SystemExit:
    pass
print(json.dumps(["torch" in sys.modules, len(sys.modules)]), file=sys.stderr)
"""
COMMANDS = {
    "python -c pass": ["-c", "pass"],
    "groundglass --version": ["-m", "groundglass", "--version"],
    "groundglass --help": ["-m", "groundglass", "--help"],
    "groundglass list": ["-m", "groundglass", "list"],
    "groundglass recipe demo": ["-m", "groundglass", "recipe", "demo"],
    "python -c 'import groundglass'": ["-c", "import groundglass"],
    "python -c 'import torch'": ["-c", "import torch"],
}


def run(arguments: list[str]) -> Answer:
    """One start, from nothing to the end of the process."""
    command = [sys.executable, *arguments]
    return {"ms": 1000 * seconds(lambda: subprocess.run(command, check=True, stdout=subprocess.DEVNULL))}


def loaded(arguments: list[str]) -> tuple[bool, int]:
    """(whether torch is loaded, number of modules) at the end of a command."""
    if arguments[:2] == ["-m", "groundglass"]:
        script = _LOADED.format(arguments=arguments[2:])
    else:
        script = f"{arguments[1]}\nimport json, sys\n"
        script += "print(json.dumps(['torch' in sys.modules, len(sys.modules)]), file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    torch_loaded, modules = json.loads(done.stderr.splitlines()[-1])
    return torch_loaded, modules


def main() -> None:
    options = parser(__doc__, rounds=7).parse_args()
    report = Report("How long does the command line take before it does anything?")
    answers = interleave({name: partial(run, arguments) for name, arguments in COMMANDS.items()}, options.rounds)
    floor = answers["python -c pass"]["ms"]
    rows = []
    for name, arguments in COMMANDS.items():
        torch_loaded, modules = loaded(arguments)
        ms = answers[name]["ms"]
        rows.append((name, round(ms), f"{ms / floor:.1f}x", modules, torch_loaded))
    report.table(
        f"Start to end, median of {options.rounds}", ["command", "ms", "of the floor", "modules", "torch loaded"], rows
    )
    report.write(options.json)


if __name__ == "__main__":
    main()
