"""Which weights and which preset go together: the checkpoint that the package carries, and the preset that suits a checkpoint."""

import math
import textwrap
import tomllib
from collections.abc import Iterator
from dataclasses import asdict, dataclass, replace
from importlib import resources
from itertools import count
from pathlib import Path

from hrm_submit.arc.canvas import check_model
from hrm_submit.config.preset_files import load_preset, preset_names, preset_path, read_presets
from hrm_submit.config.schema import Preset, TTTConfig
from hrm_submit.core.errors import ConfigError, ModelConflictError
from hrm_submit.core.files import sha256_of
from hrm_submit.model.checkpoint_header import model_shapes, read_header

DEFAULT_PRESET = "nano"
CHECKPOINTS = Path(str(resources.files("hrm_submit") / "checkpoints"))


def packaged_checkpoint(presets: str) -> Path | None:
    """Of the checkpoints that the package carries the first whose model suits every named preset: those that the presets' `[device]
    weights` prefers, those of a preset's own name, that of the default preset. None where none does. Raises ConfigError."""
    named = read_presets(presets)
    preferred = [str(tables.get("device", {}).get("weights", "")).split() for _, tables in reversed(named)]
    own = [name for name, _ in named if name in preset_names()]
    for name in [*(n for names in preferred for n in names), *own, DEFAULT_PRESET]:
        path = CHECKPOINTS / f"{name}.safetensors"
        try:
            if path.is_file():
                resolve_preset(presets, path)
                return path
        except ModelConflictError:
            continue
    return None


def resolve_preset(names: str, checkpoint: Path | None) -> Preset:
    """The preset to run with: what `names` layers, and the checkpoint's `[model]`. Where no name describes a model (the preset of
    a device, a tuned budget), they are laid over the checkpoint's own preset, or over the default one, whose sides then do not count.

    Raises ConfigError where a named preset asks for another model than the checkpoint has.
    """
    if checkpoint is None:
        preset = load_preset(_whole(names, DEFAULT_PRESET))
        check_model(preset.model, f"preset {names}")
        return preset
    trained, meta = read_header(checkpoint)
    check_model(trained, str(checkpoint))
    if names:
        asked = {key: (name, value) for name, tables in read_presets(names) for key, value in tables.get("model", {}).items()}
        for key, was in asdict(trained).items():
            name, value = asked.get(key, ("", was))
            if was != (tuple(value) if isinstance(value, list) else value):
                raise ModelConflictError(f"preset {name}: [model] {key} = {value!r}, but {checkpoint} was trained with {was!r}")
    known = bool(meta.preset) and all(n in preset_names() for n in meta.preset.split(","))
    preset = replace(load_preset(_whole(names, meta.preset if known else DEFAULT_PRESET)), model=trained)
    if not known and not any({"min_side", "max_side"} & set(tables.get("ttt", {})) for _, tables in read_presets(names)):
        # The sides that the default preset leaves to others say nothing of this model.
        preset = replace(preset, ttt=replace(preset.ttt, min_side=TTTConfig().min_side, max_side=TTTConfig().max_side))
    return preset


@dataclass(frozen=True)
class EnsembleMember:
    """One of the models that train a task: `checkpoint` is what each training starts from (None: random weights)."""

    name: str
    preset: Preset
    checkpoint: Path | None


def members(names: str, checkpoint: Path | None) -> tuple[EnsembleMember, ...]:
    """Return the model of `resolve_preset`, then those that its `[solve] members` names, none where it has random weights. They share its
    tables `[solve]`, `[budget]` and `[device]`, and what `names` layers without a `[model]`. A file is looked for in the current folder,
    then beside the TOML files of `names`. Raises ConfigError."""
    first = EnsembleMember(checkpoint.stem if checkpoint else "random", resolve_preset(names, checkpoint), checkpoint)
    if checkpoint is None:
        return (first,)
    layers, found = ",".join(name for name, tables in read_presets(names) if "model" not in tables), [first]
    contents = {sha256_of(checkpoint)}
    for name in first.preset.solve.members:
        places = [Path(), *(Path(n).parent for n in names.split(",") if n.endswith(".toml"))]
        paths = [place / name for place in places] if name.endswith(".safetensors") else [CHECKPOINTS / f"{name}.safetensors"]
        path = next((path for path in paths if path.is_file()), None)
        if path is None:
            raise ConfigError(f"[solve] members: no weights {name!r}")
        if (content := sha256_of(path)) not in contents:
            contents.add(content)
            own, shared = resolve_preset(layers, path), first.preset
            own = replace(own, solve=shared.solve, budget=shared.budget, device=shared.device)
            numbered = (f"{path.stem}-{n}" if n > 1 else path.stem for n in count(1))
            free = next(name for name in numbered if name not in {m.name for m in found})
            found.append(EnsembleMember(free, own, path))
    return tuple(found)


def describe_presets() -> Iterator[str]:
    """Describe each preset of the package: its name, the parameters of its model where it has a whole one, and its TOML."""
    for name in preset_names():
        text = preset_path(name).read_text(encoding="utf-8")
        about = "a layer over another preset"
        if "hidden_size" in tomllib.loads(text).get("model", {}):
            about = f"{sum(math.prod(shape) for _, shape in model_shapes(load_preset(name).model)) / 1e6:.2f}M parameters"
        yield f"{name}: {about}\n{textwrap.indent(text, '    ')}"


def _whole(names: str, own: str) -> str:
    """`names`, over `own` where none of them describes a whole model."""
    if not names:
        return own
    whole = any("hidden_size" in tables.get("model", {}) for _, tables in read_presets(names))
    return names if whole else f"{own},{names}"
