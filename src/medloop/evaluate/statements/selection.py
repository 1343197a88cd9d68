"""How the final model was selected, calibrated and given a threshold, and on which cases."""

from __future__ import annotations

from medloop.evaluate.statements.provenance import (
    PART_NAMES,
    UNKNOWN,
    Facts,
    Report,
    count_text,
    facts_of,
    tuned_values,
    value_text,
)
from medloop.evaluate.statements.sentences import joined, listed

# What may have been chosen on the same cases, by its name in bundle.json.
CHOICES = {"epoch": "the epoch", "head_C": "the regularisation of the head"}


def selection(report: Report) -> str:
    """Return how the final model was selected, and on which cases."""
    return joined(tuning(report), chosen_epoch(report), calibration(report), threshold_choice(report))


def tuning(report: Report) -> str:
    """Return the number of trials, the cases on which they were compared and the chosen values."""
    tune = facts_of(report, "tune")
    if not tune:
        return f"whether hyperparameters were tuned is {UNKNOWN}"
    if not tune["trials"]:
        return "no tuning: the hyperparameters are those of the recipe and its defaults"
    ended = f"{tune['trials']} trials ({tune['complete']} complete, {tune['pruned']} pruned)"
    best = tuned_values(report) or "none of the tuned values was used"
    compared = f"compared by {tune['metric']} on {_tuning_cases(tune['judged_on'])} (best {tune['figure']:.3f})"
    return f"{ended}, {compared}; {best}"


def _tuning_cases(facts: Facts) -> str:
    if facts["part"] == "folds":
        return f"{facts['folds']} folds of the training part ({facts['cases']} cases)"
    return _selection_cases(facts)


def _selection_cases(facts: Facts) -> str:
    name = PART_NAMES["val"] if facts["part"] == "val" else "first fold of the training part"
    return f"the {name} ({count_text(facts)})"


def chosen_epoch(report: Report) -> str:
    """Return on which cases the epoch of a network or the regularisation of a head was chosen; empty for a table."""
    train = facts_of(report, "train")
    if report["task"] != "images":
        return ""
    if not train:
        return f"on which cases the epoch or the regularisation of the head was chosen is {UNKNOWN}"
    where = _selection_cases(train["chosen_on"])
    if train["mode"] == "finetune":
        epochs = train["epochs"]
        return f"epoch {epochs['chosen']} of {epochs['run']}, with the lowest loss on {where}{_also_compared(report)}"
    strength = f"regularisation of the head C {value_text(report['model']['head_C'])}"
    if train["strength"] == "given":
        return f"{strength}, {'chosen by tuning' if 'head_c' in train['tuned'] else 'set in the recipe'}"
    return f"{strength}, with the lowest loss on {where}{_also_compared(report)}"


def _also_compared(report: Report) -> str:
    on = facts_of(report, "tune").get("judged_on", {}).get("part")
    same = on is not None and on == facts_of(report, "train")["chosen_on"]["part"]
    return ", the same cases on which the trials were compared" if same else ""


def held_out(report: Report) -> str:
    """Return which cases the second column of figures is from, if no folds were run."""
    train = facts_of(report, "train")
    where = f" ({_selection_cases(train['chosen_on'])})" if train.get("chosen_on") else ""
    chose = [CHOICES[name] for name in _chosen_on_held_out(train)]
    return f"cases held out from training{where}" + (f", on which {listed(chose)} was chosen as well" if chose else "")


def _chosen_on_held_out(train: Facts) -> list[str]:
    """Return what was chosen on the cases that the training held out."""
    if train.get("task") != "images":
        return []
    if train["mode"] == "finetune":
        return ["epoch"]
    return ["head_C"] if train["strength"] == "chosen" else []


def calibration(report: Report) -> str:
    """Return how the probabilities were calibrated, and what else was chosen on the same cases."""
    found = report["calibration"]
    where = f"{found['fitted_on']} ({count_text({'cases': found['n'], 'patients': found.get('patients')})})"
    if facts_of(report, "export").get("temperature_fitted", True):
        method = f"temperature {found['temperature']:.3f}, fitted on {where}"
    else:
        method = f"probabilities without calibration; sets of possible classes fitted on {where}"
    chose = also_chose(report)
    reused = f"{listed(chose)} had been chosen on the same cases" if chose else ""
    return joined(method, reused, conformal_guarantee(report))


def also_chose(report: Report) -> list[str]:
    """Return what was chosen on the cases of the calibration before."""
    train = facts_of(report, "train")
    known = report["calibration"].get("also_chose")
    if known is None:
        apart = "calib" in facts_of(report, "split").get("parts", {}) or train.get("folds")
        known = [] if apart else _chosen_on_held_out(train)
    judged = report["task"] != "images" or _fitted_on_selection_cases(report, train)
    return [CHOICES.get(name, name) for name in known] + (["the tuned values"] if train.get("tuned") and judged else [])


def _fitted_on_selection_cases(report: Report, train: Facts) -> bool:
    """Return whether the trials were compared on the cases of the calibration."""
    part = train.get("chosen_on", {}).get("part")
    return bool(train) and not train["folds"] and (part == "fold" or "val" in str(report["calibration"]["fitted_on"]))


def conformal_guarantee(report: Report) -> str:
    """Return whether the guarantee of the conformal sets is exact; empty if not recorded."""
    found = report["calibration"]
    if found.get("refitted"):
        return (
            "the final model was fitted on these cases as well (their scores are from models that were not), "
            "so the guarantee of the conformal sets is approximate"
        )
    if found.get("exact"):
        return "scored by the final model itself, so the guarantee of the conformal sets is exact for such cases"
    return "the guarantee of the conformal sets is approximate" if "exact" in found else ""


def threshold_choice(report: Report) -> str:
    """Return the threshold with its rule and the cases on which it was chosen."""
    found = report["threshold"]
    if found["value"] is None:
        return f"no threshold: {found['rule']}"
    if str(found["rule"]).startswith("probability"):
        return f"threshold {found['value']:.4f}, set in the recipe, not chosen on cases"
    on = _calibration_cases(found) or str(report["calibration"]["fitted_on"])
    return joined(f"threshold {found['value']:.4f}, chosen by `{found['rule']}` on {on}", _risk_of_missing(found))


def _calibration_cases(found: Facts) -> str:
    """Return the numbers of positive and negative cases; empty if not recorded."""
    if "positives" not in found:
        return ""
    kinds = {kind: found[f"{kind}s"] for kind in ("positive", "negative")}
    return listed(
        f"{counts['cases']} {kind} cases"
        + (f" ({counts['patients']} patients)" if counts["patients"] != counts["cases"] else "")
        for kind, counts in kinds.items()
    )


def _risk_of_missing(found: Facts) -> str:
    below = found.get("chance_below")
    if not below:
        return ""
    return f"the true {found['figure']} is below {below['limit']:.2f} with a probability of {below['chance']:.0%}"
