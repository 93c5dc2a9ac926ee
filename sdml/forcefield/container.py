"""Named tensors with a description, as a safetensors file under a checksum; no pickle."""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import safetensors.torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from sdml import files


def write_tensors(
    path: str | os.PathLike[str], description: str, tensors: dict[str, Tensor]
) -> None:
    """Write tensors and a JSON text, which holds their ``format``, atomically.

    The SHA-256 covers the text and the tensors with their names.
    """
    packed = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    metadata = {"description": description, "sha256": digest(description, packed)}
    with files.replacing(Path(path)) as partial:
        safetensors.torch.save_file(packed, partial, metadata)


def read_tensors(
    path: str | os.PathLike[str], expected_format: str, what: str
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Description and tensors of a file of :func:`write_tensors`.

    ValueError if it is missing, truncated, altered or of another format; ``what`` should be in it.
    """
    name = Path(path).name
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {key: file.get_tensor(key) for key in file.keys()}
        description, checksum = json.loads(metadata["description"]), metadata["sha256"]
        found = description["format"]
    except (SafetensorError, LookupError, TypeError, OSError, ValueError) as error:
        raise ValueError(f"path: {name!r} is not a readable {what} ({error})") from error
    if found != expected_format:
        raise ValueError(f"path: {name!r} has format {found!r}, need {expected_format!r}")
    if checksum != digest(metadata["description"], tensors):
        raise ValueError(f"path: {name!r} does not match its checksum")
    return description, tensors


def digest(description: str, tensors: dict[str, Tensor]) -> str:
    """SHA-256 of a text and of tensors with their names."""
    sha = hashlib.sha256(description.encode())
    for name in sorted(tensors):
        sha.update(name.encode())
        sha.update(tensors[name].detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
