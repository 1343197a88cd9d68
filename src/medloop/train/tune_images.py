"""What a trial is for images: one training, judged on the cases that validate."""

from __future__ import annotations

from pathlib import Path

from medloop.recipe import ModelSection, TrainSection
from medloop.train.image_learning import ImageLearning
from medloop.train.learn_images import learn_turns
from medloop.train.loop import Diverged
from medloop.train.space import with_tuned
from medloop.train.tune import Hopeless, Judge, Report, Values


def image_judge(
    learning: ImageLearning, model: ModelSection, section: TrainSection, metric: str, *, cache: Path, root: Path
) -> Judge:
    """The metric of the epoch, or of the head, that would be exported; heads share the features in the cache."""
    turn = learning.final_turn()

    def judge(values: Values, report: Report) -> float:
        params, changed = with_tuned(model, section, values, where="tune.space")
        try:
            trained = learn_turns(
                learning, model.name, params, changed, [turn], cache=cache, root=root, on_epoch=report
            )
        except Diverged as error:
            raise Hopeless(error.found) from error
        return float(trained.history.sort_values("val_loss")[metric].iloc[0])

    return judge
