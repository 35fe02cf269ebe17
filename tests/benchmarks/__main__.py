"""`python -m tests.benchmarks` runs all benchmarks, `python -m tests.benchmarks ingest` one.

`--quick` has those that can take fewer runs; its figures are for development.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import sys

from tests import benchmarks


def main(wanted: list[str]) -> int:
    known = sorted(
        module.name for module in pkgutil.iter_modules(benchmarks.__path__) if not module.ispkg and not module.name.startswith("_")
    )
    if "--quick" in wanted:
        os.environ["BENCH_QUICK"] = "1"
        wanted = [what for what in wanted if what != "--quick"]
    unknown = [what for what in wanted if what not in known]
    if unknown:
        print(f"unknown benchmark {', '.join(unknown)}; there are: {', '.join(known)}", file=sys.stderr)
        return 2
    for what in wanted or known:
        report = importlib.import_module(f"tests.benchmarks.{what}").run()
        print(benchmarks.table(report))
        print(f"written to {benchmarks.save(what, report)}\n", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
