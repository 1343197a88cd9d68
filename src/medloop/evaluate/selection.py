"""How the final model was chosen, calibrated and given a threshold, and on which cases."""

from __future__ import annotations

from medloop.evaluate.provenance import (
    PART_NAMES,
    UNKNOWN,
    Facts,
    Report,
    count_text,
    facts_of,
    tuned_values,
    value_text,
)
from medloop.evaluate.sentences import joined, listed

# What cases may have chosen, by its name in bundle.json.
CHOICES = {"epoch": "the epoch", "head_C": "the strength of the head"}


def selection(report: Report) -> str:
    """How the final model was chosen, and on which cases."""
    return joined(tuning(report), chosen_epoch(report), calibration(report), threshold_choice(report))


def tuning(report: Report) -> str:
    """How many trials ran on which cases, and what they chose."""
    tune = facts_of(report, "tune")
    if not tune:
        return f"whether values were tuned is {UNKNOWN}"
    if not tune["trials"]:
        return "no tuning: values are those of the recipe and its defaults"
    ended = f"{tune['trials']} trials ({tune['complete']} complete, {tune['pruned']} pruned)"
    best = tuned_values(report) or "none of their values was used"
    judged = f"judged by {tune['metric']} on {_judges(tune['judged_on'])} (best {tune['figure']:.3f})"
    return f"{ended}, {judged}; {best}"


def _judges(facts: Facts) -> str:
    if facts["part"] == "folds":
        return f"{facts['folds']} folds of the training part ({facts['cases']} cases)"
    return _choosers(facts)


def _choosers(facts: Facts) -> str:
    name = PART_NAMES["val"] if facts["part"] == "val" else "first fold of the training part"
    return f"the {name} ({count_text(facts)})"


def chosen_epoch(report: Report) -> str:
    """Which cases chose the epoch of a network, or the strength of a head; empty for a table."""
    train = facts_of(report, "train")
    if report["task"] != "images":
        return ""
    if not train:
        return f"which cases chose the epoch or the strength of the head is {UNKNOWN}"
    where = _choosers(train["chosen_on"])
    if train["mode"] == "finetune":
        epochs = train["epochs"]
        return (
            f"epoch {epochs['chosen']} of {epochs['run']}, the one of the least loss on {where}{_also_judged(report)}"
        )
    strength = f"strength of the head C {value_text(report['model']['head_C'])}"
    if train["strength"] == "given":
        return f"{strength}, {'chosen by tuning' if 'head_c' in train['tuned'] else 'as the recipe says'}"
    return f"{strength}, the one of the least loss on {where}{_also_judged(report)}"


def _also_judged(report: Report) -> str:
    on = facts_of(report, "tune").get("judged_on", {}).get("part")
    same = on is not None and on == facts_of(report, "train")["chosen_on"]["part"]
    return ", the same cases that judged the trials" if same else ""


def held_out(report: Report) -> str:
    """What stands beside the test figures where no folds were run."""
    train = facts_of(report, "train")
    where = f" ({_choosers(train['chosen_on'])})" if train.get("chosen_on") else ""
    chose = [CHOICES[name] for name in _chose(train)]
    return f"cases that training held out{where}" + (f", which also chose {listed(chose)}" if chose else "")


def _chose(train: Facts) -> list[str]:
    """What the cases had chosen that one training holds out."""
    if train.get("task") != "images":
        return []
    if train["mode"] == "finetune":
        return ["epoch"]
    return ["head_C"] if train["strength"] == "chosen" else []


def calibration(report: Report) -> str:
    """How probabilities were calibrated, and what else the cases chose that they were calibrated on."""
    found = report["calibration"]
    where = f"{found['fitted_on']} ({count_text({'cases': found['n'], 'patients': found.get('patients')})})"
    if facts_of(report, "export").get("temperature_fitted", True):
        told = f"temperature {found['temperature']:.3f}, fitted on {where}"
    else:
        told = f"probabilities as the model gives them, without calibration; sets of possible classes from {where}"
    chose = also_chose(report)
    return joined(told, f"the same cases chose {listed(chose)}" if chose else "", conformal_promise(report))


def also_chose(report: Report) -> list[str]:
    """What the cases of the calibration had chosen before."""
    train = facts_of(report, "train")
    known = report["calibration"].get("also_chose")
    if known is None:
        apart = "calib" in facts_of(report, "split").get("parts", {}) or train.get("folds")
        known = [] if apart else _chose(train)
    judged = report["task"] != "images" or _fitted_on_choosers(report, train)
    return [CHOICES.get(name, name) for name in known] + (["the tuned values"] if train.get("tuned") and judged else [])


def _fitted_on_choosers(report: Report, train: Facts) -> bool:
    """Whether the cases of the calibration are those that judged the trials: one part, and not that of the test."""
    part = train.get("chosen_on", {}).get("part")
    return bool(train) and not train["folds"] and (part == "fold" or "val" in str(report["calibration"]["fitted_on"]))


def conformal_promise(report: Report) -> str:
    """How far the guarantee of the sets of possible classes holds; empty where nobody recorded it."""
    found = report["calibration"]
    if found.get("refitted"):
        return (
            "the model that serves learned from these cases as well (their scores are of models that did not), "
            "so the guarantee of the conformal sets is approximate"
        )
    if found.get("exact"):
        return "scored by the very model that serves, so the guarantee of the conformal sets is exact for such cases"
    return "the guarantee of the conformal sets is approximate" if "exact" in found else ""


def threshold_choice(report: Report) -> str:
    """Where the threshold comes from: a rule's number, or cases and how many positives were among them."""
    found = report["threshold"]
    if found["value"] is None:
        return f"no threshold: {found['rule']}"
    if str(found["rule"]).startswith("probability"):
        return f"threshold {found['value']:.4f}, set by the recipe and not chosen on cases"
    on = _kinds(found) or str(report["calibration"]["fitted_on"])
    return joined(f"threshold {found['value']:.4f}, chosen by `{found['rule']}` on {on}", _doubt(found))


def _kinds(found: Facts) -> str:
    """12 positive and 40 negative cases; empty where they were not counted."""
    if "positives" not in found:
        return ""
    kinds = {kind: found[f"{kind}s"] for kind in ("positive", "negative")}
    return listed(
        f"{counts['cases']} {kind} cases"
        + (f" ({counts['patients']} patients)" if counts["patients"] != counts["cases"] else "")
        for kind, counts in kinds.items()
    )


def _doubt(found: Facts) -> str:
    below = found.get("chance_below")
    if not below:
        return ""
    return f"the true {found['figure']} is below {below['limit']:.2f} with a chance of {below['chance']:.0%}"
