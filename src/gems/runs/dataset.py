"""Datasets on disk: Parquet files with images, in the layouts that trainers read, and their cards.

    README.md                 the card: what the dataset holds and how it was made
    data/<split>.parquet
    images/<id>.png           only in the layout of verl-omni

`datasets.load_dataset(FOLDER)` reads all layouts.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

import yaml

from gems._version import __version__
from gems.errors import InvalidImageError, MissingExtraError, OptionError
from gems.memory.sqlite import storage_error
from gems.runs.output import PNG_END, replace_metadata
from gems.runs.training_rows import ExportKind, ExportOptions

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

Layout = Literal["datasets", "diffusers", "verl-omni"]
_LAYOUTS: Mapping[ExportKind, tuple[Layout, ...]] = {
    "pairs": ("datasets", "diffusers", "verl-omni"),
    "rewards": ("datasets",),
    "trajectories": ("datasets",),
}
_GROUP_BYTES, _GROUP_ROWS = 32 * 2**20, 2_000
"""A row group is written when it has this size: all that an export holds in memory."""


class DatasetWriter:
    """Writes a dataset next to `folder`, and puts it in place when it is complete.

    After an error or an interruption nothing is left of it.

    Args:
        folder: Where the dataset will be; it may exist if it is empty.
        kind: What the rows are.
        layout: `datasets` for all columns, with images as Hugging Face's library declares them; `diffusers` for the
            columns of Diffusers' DPO example (Pick-a-Pic: `caption`, `jpg_0`, `jpg_1`, `label_0`); `verl-omni` for
            the columns of its offline DPO without the tensors that depend on the model that is trained.
        options: Those of the export, which the card repeats.

    Raises:
        MissingExtraError: pyarrow is not installed.
        OptionError: The layout does not exist for this kind, or the folder is not empty.
        StorageError: The folder cannot be written.
    """

    def __init__(self, folder: Path, kind: ExportKind, layout: Layout, options: ExportOptions) -> None:
        _parquet()
        if layout not in _LAYOUTS[kind]:
            raise OptionError(f"{kind} have no layout {layout}.", hint=f"Use one of: {', '.join(_LAYOUTS[kind])}.")
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise OptionError(f"{folder} exists and is not empty.", hint="Choose a new folder for the dataset.")
        self.folder, self.kind, self.layout, self.options = folder, kind, layout, options
        self.rows: Counter[str] = Counter(dict.fromkeys(options.splits, 0))
        self._models: dict[str, str | None] = {}
        self._schema = _schema_of(kind, layout)
        self._writers: dict[str, pq.ParquetWriter] = {}
        self._pending: dict[str, list[dict[str, Any]]] = {}
        self._bytes = 0

    def __enter__(self) -> Self:
        try:
            self.folder.parent.mkdir(parents=True, exist_ok=True)
            self._partial = Path(tempfile.mkdtemp(prefix=f".{self.folder.name}.", dir=self.folder.parent))
            (self._partial / "data").mkdir()
            for split in self.rows:
                path = self._partial / "data" / f"{split}.parquet"
                self._writers[split] = _parquet().ParquetWriter(path, self._schema, compression="zstd")
        except OSError as error:
            raise storage_error(error, self.folder) from error
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for writer in self._writers.values():
            writer.close()
        if kind is not None:
            shutil.rmtree(self._partial, ignore_errors=True)

    def add(self, split: str, row: Mapping[str, Any], images: Mapping[str, bytes]) -> None:
        """Add a row; `images` holds PNG bytes by the ids that stand in it. Blocking.

        Raises:
            InvalidImageError: One of them is not a whole PNG; nothing was added.
        """
        plain = {image: _strip_metadata(data) for image, data in images.items()}
        self._models |= {row[name]: row[f"{name[:-5]}licence"] for name in row if name.endswith("model")}
        self._pending.setdefault(split, []).append(self._lay_out(row, plain))
        self.rows[split] += 1
        self._bytes += sum(map(len, plain.values()))
        if self._bytes >= _GROUP_BYTES or sum(map(len, self._pending.values())) >= _GROUP_ROWS:
            self._flush()

    def finish(self, left_out: Mapping[str, int]) -> None:
        """Write the card, and put the dataset in place; nothing if it has no rows. Blocking."""
        try:
            self._flush()
            for split, writer in self._writers.items():
                writer.close()
                if not self.rows[split]:
                    # Hugging Face's library reads no split without rows.
                    (self._partial / "data" / f"{split}.parquet").unlink()
            if not self.rows.total():
                shutil.rmtree(self._partial)
                return
            (self._partial / "README.md").write_text(self._card(left_out), encoding="utf-8")
            self._partial.chmod(0o777 & ~_umask())
            if self.folder.exists():
                self.folder.rmdir()
            self._partial.rename(self.folder)
        except OSError as error:
            raise storage_error(error, self.folder) from error

    def _flush(self) -> None:
        import pyarrow as pa  # noqa: PLC0415 - in an extra

        for split, rows in self._pending.items():
            self._writers[split].write_table(pa.Table.from_pylist(rows, schema=self._schema))
        self._pending, self._bytes = {}, 0

    def _lay_out(self, row: Mapping[str, Any], images: Mapping[str, bytes]) -> dict[str, Any]:
        if self.layout == "diffusers":
            # Which one stands first is no hint.
            sides = ("chosen", "rejected") if row["chosen"] < row["rejected"] else ("rejected", "chosen")
            first, second = (images[row[side]] for side in sides)
            label = 1.0 if sides[0] == "chosen" else 0.0
            return {"caption": row["prompt"], "jpg_0": first, "jpg_1": second, "label_0": label, "label_1": 1 - label}
        if self.layout == "verl-omni":
            return self._as_win_and_lose(row, images)
        named = ("chosen", "rejected", "image")
        whole = {name: value for name, value in row.items() if name not in (*named, "images")}
        whole |= {f"{name}_id": row[name] for name in named if name in row}
        whole |= {name: _image(row[name], images) for name in named if name in row}
        if "images" in row:
            whole |= {"images": [_image(image, images) for image in row["images"]]}
        return whole

    def _as_win_and_lose(self, row: Mapping[str, Any], images: Mapping[str, bytes]) -> dict[str, Any]:
        folder = self._partial / "images"
        folder.mkdir(exist_ok=True)
        for image, data in images.items():
            (folder / f"{image}.png").write_bytes(data)
        # Its reader refuses a winner with the lower score, which the shares of all requirements can give.
        answers = [{side: each[f"{side}_answer"] for side in ("chosen", "rejected")} for each in row["requirements"]]
        known = [each for each in answers if "unknown" not in each.values()]
        win, lose = (sum(each[side] == "yes" for each in known) / len(known) for side in ("chosen", "rejected"))
        return {
            "uid": f"{row['chosen'][:16]}-{row['rejected'][:16]}",
            "data_source": "gems",
            "prompt": [{"role": "user", "content": row["prompt"]}],
            "negative_prompt": [{"role": "user", "content": ""}],
            # Its reader takes them from the folder of the file.
            "img_win": f"../images/{row['chosen']}.png",
            "img_lose": f"../images/{row['rejected']}.png",
            "win_score": win,
            "lose_score": lose,
            "reward_model": {"style": "model", "ground_truth": row["prompt"]},
            "extra_info": {
                "raw_prompt": row["prompt"],
                "raw_negative_prompt": "",
                "win_seed": row["chosen_seed"],
                "lose_seed": row["rejected_seed"],
                "confirmed": row["confirmed"],
            },
        }

    def _card(self, left_out: Mapping[str, int]) -> str:
        about = {
            "configs": [
                {
                    "config_name": "default",
                    "data_files": [{"split": split, "path": f"data/{split}.parquet"} for split in +self.rows],
                }
            ],
            "tags": ["gems", self.kind],
        }
        models = [f"- {model}: {licence or 'licence not known'}" for model, licence in sorted(self._models.items())]
        skipped = [f"- {reason}: {number:,}" for reason, number in sorted(left_out.items())]
        return _CARD.format(
            about=yaml.safe_dump(about, sort_keys=False).strip(),
            kind=self.kind,
            version=__version__,
            what=_ABOUT[self.kind],
            rows="\n".join(f"- {split}: {number:,} rows" for split, number in self.rows.items()),
            models="\n".join(models) or "- none",
            skipped="\n".join(skipped) or "- nothing",
            options=json.dumps(self.options.model_dump(mode="json"), indent=2),
            layout=self.layout,
        )


def _strip_metadata(png: bytes) -> bytes:
    plain = replace_metadata(png)
    if not plain.endswith(PNG_END):
        raise InvalidImageError("A stored image is not a PNG, or cut off.")
    return plain


def _image(image: str, images: Mapping[str, bytes]) -> dict[str, Any]:
    return {"bytes": images[image], "path": f"{image}.png"}


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


@cache
def _parquet() -> Any:
    try:
        import pyarrow.parquet as pq  # noqa: PLC0415 - in an extra
    except ImportError as error:
        raise MissingExtraError("Exporting training data", "export") from error
    return pq


def _schema_of(kind: ExportKind, layout: Layout) -> pa.Schema:
    """Return the columns, with the features that Hugging Face's library reads."""
    import pyarrow as pa  # noqa: PLC0415 - in an extra

    text, real, whole, flag = pa.string(), pa.float64(), pa.int64(), pa.bool_()
    image = pa.struct([("bytes", pa.binary()), ("path", text)])
    answer = {"answer": text, "evidence": text, "probability": real, "source": text}
    origin = {"score": real, "seed": whole, "model": text, "licence": text, "round": whole, "action": text}
    asked = {"question": text, "kind": text}
    message = pa.struct([("role", text), ("content", pa.list_(pa.struct([("type", text), ("text", text)])))])
    columns: dict[str, Any]
    if layout == "diffusers":
        columns = {"caption": text, "jpg_0": pa.binary(), "jpg_1": pa.binary(), "label_0": real, "label_1": real}
    elif layout == "verl-omni":
        said = pa.list_(pa.struct([("role", text), ("content", text)]))
        more = {"raw_prompt": text, "raw_negative_prompt": text, "win_seed": whole, "lose_seed": whole}
        columns = {"uid": text, "data_source": text, "prompt": said, "negative_prompt": said}
        columns |= {"img_win": text, "img_lose": text, "win_score": real, "lose_score": real}
        columns |= {"reward_model": pa.struct({"style": text, "ground_truth": text}.items())}
        columns |= {"extra_info": pa.struct((more | {"confirmed": flag}).items())}
    elif kind == "pairs":
        sides = ("chosen", "rejected")
        columns = {"prompt": text, "chosen": image, "rejected": image}
        columns |= {"margin": real, "confirmed": flag, "relation": text}
        columns |= {f"{side}_{name}": value for side in sides for name, value in origin.items()}
        both = {f"{side}_{name}": value for side in sides for name, value in answer.items()}
        columns |= {"requirements": pa.list_(pa.struct((asked | both).items()))}
        columns |= {"run": text, "chosen_id": text, "rejected_id": text}
    elif kind == "rewards":
        columns = {"prompt": text, "image": image, "confirmed": flag} | origin
        columns |= {"labels": pa.list_(pa.struct((asked | answer).items())), "run": text, "image_id": text}
    else:
        columns = {"prompt": pa.list_(message), "completion": pa.list_(message), "images": pa.list_(image)}
        columns |= {"reward": real, "harmful": flag, "role": text, "task": text, "round": whole}
        columns |= {"score": real, "passed": flag, "prompt_text": text, "run": text}
    features = {name: _feature(value, image) for name, value in columns.items()}
    about = json.dumps({"info": {"features": features}})
    return pa.schema(columns.items(), metadata={"huggingface": about})


def _feature(kind: Any, image: Any) -> Any:
    """Return a column's type as Hugging Face's library writes it."""
    from pyarrow import types  # noqa: PLC0415 - in an extra

    if kind == image:
        return {"_type": "Image"}
    if types.is_list(kind):
        return {"feature": _feature(kind.value_type, image), "_type": "List"}
    if types.is_struct(kind):
        return {field.name: _feature(field.type, image) for field in kind}
    names = {"double": "float64"}
    return {"dtype": names.get(str(kind), str(kind)), "_type": "Value"}


_ABOUT: Mapping[ExportKind, str] = {
    "pairs": (
        "Each row holds two images for one prompt. `chosen` meets more of the prompt's requirements than `rejected`:\n"
        "`margin` is the difference in shares. `requirements` holds the answers for both, with their evidence and\n"
        "source. `confirmed` says whether a second look or an instrument stands behind each decisive answer."
    ),
    "rewards": (
        "Each row holds an image for a prompt with its score, the share of requirements that it meets, and the answer\n"
        "to each requirement in `labels`."
    ),
    "trajectories": (
        "Each row holds one answer of an agent: what it was asked (`prompt`, `images`), what it answered\n"
        "(`completion`), and what came of it (`reward`; empty where nothing is known)."
    ),
}
_CARD = """---
{about}
---

# {kind} from GEMS

{what}

{rows}

The layout is `{layout}`. Verdicts are those of the judge that the runs had, not of people.

## Models that drew the images

{models}

## Left out

{skipped}

## How it was made

GEMS {version} wrote it with these options; with the same runs they give the same bytes. Metadata of the images was
removed.

```json
{options}
```
"""
