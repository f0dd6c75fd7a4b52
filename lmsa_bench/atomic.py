"""Files that are whole or not there, whatever is killed meanwhile."""

import os
import uuid
from pathlib import Path


def write_whole(path: Path, data: bytes, *, durable: bool = False) -> None:
    """Replaces a file in one step; ``durable`` waits for the disk, so that it also outlives a loss of power."""
    # A process id would not do: two nodes, or two containers, have the same ones.
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        with open(part, "wb") as file:
            file.write(data)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.replace(part, path)
    except OSError:
        part.unlink(missing_ok=True)  # on a full disk a part takes the room that the next try needs
        raise
