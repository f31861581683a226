"""What an interpreter that has AutoGluon runs, with the folder of rows and models as its argument. It imports nothing
of kurabe, which need not be installed there."""

import json
import sys
from pathlib import Path
from typing import Any


def main(folder: Path) -> None:
    import pandas as pd
    from autogluon.tabular import TabularPredictor  # of the other environment

    settings: dict[str, Any] = json.loads((folder / "settings.json").read_text("utf-8"))
    rows = pd.read_csv(folder / "rows.csv")
    if settings["what"] == "predict":
        said = TabularPredictor.load(str(folder / "models")).predict(rows)
        (folder / "answers.json").write_text(json.dumps(said.tolist()), "utf-8")
        return
    number = settings["kind"] == "number"
    target = settings["target"]
    # Told of the problem type, it does not take whole-number prices for classes.
    TabularPredictor(
        target,
        problem_type="regression" if number else "binary" if rows[target].nunique() == 2 else "multiclass",
        eval_metric=settings["metric"],
        path=str(folder / "models"),
        verbosity=0,
    ).fit(
        rows,
        presets=settings["preset"],
        time_limit=settings["seconds"],
        ag_args_ensemble={"fold_fitting_strategy": "sequential_local"},
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
