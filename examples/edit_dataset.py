"""Edit the pictures of a dataset of Hugging Face with `datasets.map`, many at once.

pip install datasets
python examples/edit_dataset.py beans "a photograph of a leaf" "a photograph of a red leaf" --split "train[:100]"
"""

import argparse
from collections.abc import Callable
from typing import Any

from diffedit import Client, EditResult

Columns = dict[str, list[Any]]


def editor(client: Client, **options: Any) -> Callable[[Columns], Columns]:
    """Return a function for `dataset.map(..., batched=True)`, which adds the columns `edited` and `error`."""

    def edit(batch: Columns) -> Columns:
        images = batch["image"]
        edited: list[Any] = [None] * len(images)
        errors: list[str | None] = [None] * len(images)
        # Rows come back as they end, so each has its number.
        asked = ({**options, "image": image, "tags": {"row": str(number)}} for number, image in enumerate(images))
        for row, outcome in client.map(asked, lane="batch"):
            number = int(row["tags"]["row"])
            if isinstance(outcome, EditResult):
                edited[number] = outcome.image
            else:
                errors[number] = f"{outcome.code}: {outcome}"
        return {**batch, "edited": edited, "error": errors}

    return edit


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dataset")
    parser.add_argument("source")
    parser.add_argument("target")
    parser.add_argument("--split", default="train")
    parser.add_argument("--out", default="edited")
    asked = parser.parse_args()

    from datasets import Features, Image, Value, load_dataset

    with Client.from_env() as client:
        edit = editor(client, source_prompt=asked.source, target_prompt=asked.target)
        dataset = load_dataset(asked.dataset, split=asked.split)
        features = {**dataset.features, "edited": Image(), "error": Value("string")}
        dataset.map(edit, batched=True, batch_size=200, features=Features(features)).save_to_disk(asked.out)


if __name__ == "__main__":
    main()
