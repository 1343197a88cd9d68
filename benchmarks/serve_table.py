"""A table's model behind the service, with journal and without, against FastAPI and joblib as tutorials write it."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from benchmarks.row import Row
from benchmarks.serve import in_turns, told
from medloop.bench import service as bench
from medloop.bench.load import Target, request_of
from medloop.settings import FeedbackSettings, Settings

ROUNDS, SECONDS = 5, 2.0
AT_ONCE = (8, 32)
SETTINGS = {
    "service": Settings(),
    "service without journal and inputs": Settings(feedback=FeedbackSettings(journal=False, keep_inputs=False)),
}


def measure() -> list[Row]:
    """Keys and rates are checked by the service in either case, and every answer is stored before it leaves."""
    with tempfile.TemporaryDirectory() as temporary, ExitStack() as stack:
        root = Path(temporary)
        words = [sys.executable, "-m", "medloop", "demo", "--no-serve", "--only", "breast-cancer"]
        subprocess.run(words, cwd=root, check=True, capture_output=True)
        bundle, features = root / "medloop-demo" / "breast-cancer" / "work" / "bundle", estimator(root / "model.joblib")
        targets = {"FastAPI and joblib": stack.enter_context(tutorial(features, root))}
        for number, (name, settings) in enumerate(SETTINGS.items()):
            home = root / f"{number}"
            home.mkdir()
            started = stack.enter_context(bench.service(bundle, settings, root=home))
            targets[name] = Target(port=started.port, request=_request(features, key=started.key))
        return [row for at_once in AT_ONCE for row in compare(targets, at_once)]


def compare(targets: Mapping[str, Target], at_once: int) -> list[Row]:
    """With journal and without, each beside the tutorial's."""
    plain, full, bare = in_turns(targets, at_once=at_once, rounds=ROUNDS, seconds=SECONDS).values()
    return [
        Row(
            what=f"table, {at_once} at once: {name} {told(one)}; FastAPI and joblib {told(plain)}",
            found=f"{one.rate / plain.rate:.2f} x",
            wanted=">= 1 x",
            holds=one.rate >= plain.rate,
        )
        for name, one in zip(SETTINGS, (full, bare), strict=True)
    ]


def estimator(path: Path) -> list[float]:
    """Writes what the tutorials fit on the same table, and gives one case to ask about."""
    import joblib
    from sklearn.datasets import load_breast_cancer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    values, labels = load_breast_cancer(return_X_y=True)
    joblib.dump(make_pipeline(StandardScaler(), LogisticRegression()).fit(values, labels), path)
    return [float(value) for value in values[0]]


@contextmanager
def tutorial(features: list[float], root: Path) -> Iterator[Target]:
    """No keys, no journal, no word on what it does not know."""
    command = [sys.executable, "-m", "benchmarks.tutorial_table", str(root / "model.joblib")]
    with bench.child(command, root, path=Path(__file__).parent.parent) as process:
        yield Target(port=int(bench.read_line(process)), request=_request(features))


def _request(features: list[float], *, key: str = "") -> bytes:
    body = json.dumps({"features": features}).encode()
    return request_of("/predict", body, content_type="application/json", key=key)
