"""What starting costs: `python -m tests.bench_imports` prints CPU-seconds and memory of the imports of each process.

The median of three fresh interpreters each. A flow is what a run imports before it is running; a stage is what its task
imports then.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Iterator

from tasks.core.config.installation import ROOT

RUNS = 3
PROGRAM = """
import json, resource, time
import {module}
print(json.dumps([time.process_time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024]))
"""


def modules() -> Iterator[tuple[str, str]]:
    """Names and modules: Prefect alone, flows, stages, services, commands."""
    yield "prefect alone", "prefect.flow_engine"
    for path in sorted((ROOT / "flows").glob("[a-z]*.py")):
        yield f"flow {path.stem}", f"flows.{path.stem}"
    yield "stage of a training", "tasks.core.training.run"
    yield "stage of an evaluation", "tasks.core.evaluation.run, tasks.core.models.encoder"
    yield "stage of a check with new prompts", "tasks.core.models.encoder, tasks.core.reporting.drift_page"
    yield "storefront", "deployments.storefront.app"
    yield "gateway", "deployments.gateway.app"
    yield "dyeworks, every command", "deployments.cli.app"
    yield "dyeworks up", "deployments.stack"
    yield "dyeworks bootstrap", "deployments.bootstrap"
    yield "dyeworks train", "tasks.core.training.local"


def measure(module: str) -> dict[str, float]:
    """Medians over fresh interpreters."""
    command = [sys.executable, "-W", "ignore", "-c", PROGRAM.format(module=module)]
    runs = [subprocess.run(command, capture_output=True, check=True, text=True, cwd=ROOT).stdout for _ in range(RUNS)]
    found = [json.loads(out.splitlines()[-1]) for out in runs]
    return {
        "cpu_seconds": round(statistics.median(seconds for seconds, _ in found), 2),
        "mib": round(statistics.median(mib for _, mib in found)),
    }


def main() -> None:
    """Print a line each."""
    for name, module in modules():
        print(f"{name:34s} {json.dumps(measure(module))}", flush=True)


if __name__ == "__main__":
    main()
