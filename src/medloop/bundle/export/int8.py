"""Quantises a graph to int8, and checks that its decisions agree with fp32."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from medloop.bundle.decide import FloatArray, IntArray
from medloop.bundle.export.network_onnx import HEAD, OUTPUTS
from medloop.bundle.inputs import model_input
from medloop.decode.rule import Pixels
from medloop.metrics import METRICS
from medloop.metrics.view import positive_view

BATCH = 8
MIN_AGREEMENT = 0.99
MAX_AUC_LOSS = 0.002
# Of a transformer only these are quantised: the other operations lose more accuracy than they save time.
MATRIX_PRODUCTS = ["Conv", "MatMul", "Gemm"]
TRANSFORMER_OPERATIONS = frozenset({"LayerNormalization", "Softmax"})
KEPT_IN_FP32 = frozenset({*HEAD, *OUTPUTS})


@dataclass(frozen=True, kw_only=True)
class Agreement:
    """The agreement of int8 and fp32 on the same cases."""

    decisions: float
    auc_loss: float
    n: int

    @property
    def against(self) -> str | None:
        """Why int8 is not used; None where it is."""
        if not self.decisions >= MIN_AGREEMENT:
            return f"int8 agrees with fp32 on {self.decisions:.1%} of {self.n} cases, less than {MIN_AGREEMENT:.0%}"
        if not self.auc_loss <= MAX_AUC_LOSS:
            return f"int8 loses {self.auc_loss:.4f} of AUC on {self.n} cases, more than {MAX_AUC_LOSS}"
        return None


def quantise(graph: bytes, pictures: Pixels) -> bytes:
    """Return the graph with the backbone in int8, its ranges taken from training images, and the head in fp32."""
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory() as scratch:
        exact, inferred, small = (Path(scratch) / f"{name}.onnx" for name in ("exact", "inferred", "small"))
        exact.write_bytes(graph)
        quant_pre_process(str(exact), str(inferred), skip_symbolic_shape=True)
        nodes = onnx.load(inferred).graph.node
        is_transformer = bool(TRANSFORMER_OPERATIONS & {node.op_type for node in nodes})
        quantize_static(
            str(inferred),
            str(small),
            _Batches(pictures),
            quant_format=QuantFormat.QDQ,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            op_types_to_quantize=MATRIX_PRODUCTS if is_transformer else None,
            nodes_to_exclude=[node.name for node in nodes if {*node.input, *node.output} & KEPT_IN_FP32],
            calibrate_method=CalibrationMethod.MinMax,
            # Averaged over batches, the ranges do not depend on a single outlier.
            extra_options={"CalibMovingAverage": True},
        )
        return small.read_bytes()


class _Batches:
    """Batches of images in the form that ONNX Runtime reads."""

    def __init__(self, pictures: Pixels) -> None:
        self._batches: Iterator[dict[str, Any]] = (
            model_input(np.asarray(pictures[start : start + BATCH])) for start in range(0, len(pictures), BATCH)
        )

    def get_next(self) -> dict[str, Any] | None:
        """Return the next batch, and None after the last."""
        return next(self._batches, None)


def compare(
    y: IntArray,
    exact: tuple[FloatArray, IntArray],
    small: tuple[FloatArray, IntArray],
    *,
    classes: tuple[str, ...],
    positive: tuple[str, ...],
) -> Agreement:
    """Return the agreement of the probabilities and decisions of both on the same cases."""
    (exact_shares, exact_choices), (small_shares, small_choices) = exact, small
    return Agreement(
        decisions=float(np.mean(exact_choices == small_choices)),
        auc_loss=_auc(y, exact_shares, classes, positive) - _auc(y, small_shares, classes, positive),
        n=len(y),
    )


def _auc(y: IntArray, shares: FloatArray, classes: tuple[str, ...], positive: tuple[str, ...]) -> float:
    return float(METRICS["roc_auc"](*positive_view(y, shares, classes, positive)))
