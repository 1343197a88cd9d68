"""The graph in whole numbers of 8 bits, and whether it still decides as the exact one."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from medloop.bundle.decide import FloatArray, IntArray
from medloop.bundle.export_onnx import HEAD, OUTPUTS
from medloop.bundle.export_stem import fold_stem
from medloop.bundle.inputs import model_input
from medloop.metrics import METRICS
from medloop.metrics.view import positive_view
from medloop.prepare.rule import Pixels

BATCH = 8
LEAST_AGREEMENT = 0.99
MOST_AUC_LOSS = 0.002
# Beside these, a transformer's other steps lose more in 8 bits than they save.
PRODUCTS = ["Conv", "MatMul", "Gemm"]
TRANSFORMER_STEPS = frozenset({"LayerNormalization", "Softmax"})
EXACT = frozenset({*HEAD, *OUTPUTS})


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """How the decisions in 8 bits compare with the exact ones on the same cases."""

    decisions: float
    auc_loss: float
    n: int

    @property
    def against(self) -> str | None:
        """Why 8 bits must not serve; None where they may."""
        if not self.decisions >= LEAST_AGREEMENT:
            return f"int8 decides {self.decisions:.1%} of {self.n} cases as fp32 does, fewer than {LEAST_AGREEMENT:.0%}"
        if not self.auc_loss <= MOST_AUC_LOSS:
            return f"int8 loses {self.auc_loss:.4f} of AUC on {self.n} cases, more than {MOST_AUC_LOSS}"
        return None


def quantise(graph: bytes, pictures: Pixels) -> bytes:
    """The graph with the backbone in 8 bits, its ranges taken from training pictures; the head stays as it is."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        exact, inferred, small = (Path(scratch) / f"{name}.onnx" for name in ("exact", "inferred", "small"))
        exact.write_bytes(graph)
        quant_pre_process(str(exact), str(inferred), skip_symbolic_shape=True)
        model = onnx.load(inferred)
        fold_stem(model)
        onnx.save(model, inferred)
        nodes = model.graph.node
        is_transformer = bool(TRANSFORMER_STEPS & {node.op_type for node in nodes})
        quantize_static(
            str(inferred),
            str(small),
            _Batches(pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=PRODUCTS if is_transformer else None,
            nodes_to_exclude=[node.name for node in nodes if {*node.input, *node.output} & EXACT],
            calibrate_method=CalibrationMethod.MinMax,
            # Averaged over batches, the ranges do not follow the one strangest picture.
            extra_options={"CalibMovingAverage": True},
        )
        return small.read_bytes()


class _Batches:
    """The pictures as onnxruntime asks for them."""

    def __init__(self, pictures: Pixels) -> None:
        self._batches: Iterator[dict[str, Any]] = (
            model_input(np.asarray(pictures[start : start + BATCH])) for start in range(0, len(pictures), BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        """One batch, and None after the last."""
        return next(self._batches, None)


def compare(
    y: IntArray,
    exact: tuple[FloatArray, IntArray],
    small: tuple[FloatArray, IntArray],
    *,
    classes: tuple[str, ...],
    positive: tuple[str, ...],
) -> Agreement:
    """Probabilities and choices of both, on the same cases."""
    (exact_shares, exact_choices), (small_shares, small_choices) = exact, small
    return Agreement(
        decisions=float(np.mean(exact_choices == small_choices)),
        auc_loss=_auc(y, exact_shares, classes, positive) - _auc(y, small_shares, classes, positive),
        n=len(y),
    )


def _auc(y: IntArray, shares: FloatArray, classes: tuple[str, ...], positive: tuple[str, ...]) -> float:
    return float(METRICS["roc_auc"](*positive_view(y, shares, classes, positive)))
