"""Deploys the local stack, sends one event to one function, shows the answer and its log, and takes everything down again.

    python3 tests/local/invoke.py random-percentage
    python3 tests/local/invoke.py rollback-executor events/rollback-executor-sqs.json
"""

import argparse
import json
import sys
from pathlib import Path

import bootstrap

bootstrap.enter()

import demo  # noqa: E402  they need the tools
import stack  # noqa: E402


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("function", choices=stack.FUNCTIONS)
    parser.add_argument("event", nargs="?", type=Path, help="a JSON file; default: the function's first sample in events/")
    chosen = parser.parse_args()
    path = chosen.event or stack.EVENTS / f"{chosen.function}.json"
    try:
        event = json.loads(path.read_text())
        with stack.Simulator() as genesys, stack.Stack() as aws:
            demo.deploy(aws, genesys)  # the samples carry a fixed time, which only the event clock accepts
            answer = aws.invoke(chosen.function, event)
            print("\n".join(aws.logs(chosen.function)), file=sys.stderr)
            print(json.dumps(answer, indent=2))
    except (OSError, ValueError, stack.LocalError, stack.FunctionFailed) as failed:
        print(failed, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
