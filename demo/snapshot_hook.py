#!/usr/bin/env python3
"""A snapshot hook for the simulated SQL Server: its storage is a folder, and a snapshot of it a copy.

It is written down beside itself (`hook.json`) where the server's volumes are and below which folder snapshots come to
lie. `installed` puts it somewhere; the worker then runs it as it runs any site's own. Standard library only.
"""

import json
import os
import shutil
import sys
from pathlib import Path


def installed(folder: Path, volumes: dict[str, Path], root: Path) -> Path:
    """Put the hook into a folder; return what SNAPSHOT_HOOK is then."""
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o700)
    hook = folder / "snapshot-hook"
    hook.write_text(f"#!{sys.executable}\n" + Path(__file__).read_text().partition("\n")[2])
    hook.chmod(0o700)
    said = {"volumes": {name: str(path) for name, path in volumes.items()}, "root": str(root)}
    (folder / "hook.json").write_text(json.dumps(said))
    return hook


def main() -> None:
    known = json.loads((Path(sys.argv[0]).parent / "hook.json").read_text())
    asked = json.load(sys.stdin)
    place = Path(known["root"]) / asked["id"].replace("/", "_")
    if asked["action"] == "take":
        print(json.dumps({"files": [copied(one, known["volumes"], place) for one in asked["files"]]}))
    elif asked["action"] == "release":
        shutil.rmtree(place, ignore_errors=True)
        print("{}")
    else:
        sys.exit(f"no such action: {asked['action']}")


def copied(file: dict, volumes: dict, place: Path) -> dict:
    place.mkdir(parents=True, exist_ok=True)
    for begins, folder in volumes.items():
        if file["path"].startswith(begins):
            name = file["path"][len(begins) :].lstrip("\\/")
            frozen = place / f"{file['file_id']}-{os.path.basename(name)}"
            shutil.copyfile(Path(folder) / name, frozen)
            return {"file_id": file["file_id"], "path": str(frozen)}
    sys.exit(f"no volume of this storage holds {file['path']}")


if __name__ == "__main__":
    main()
