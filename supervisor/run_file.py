"""`<data dir>/run.json`: where a running installation is reached, for people and programs."""

import json
from pathlib import Path

from pydantic import BaseModel, ValidationError

from supervisor.errors import Refused
from supervisor.secret_files import write_private


class Addresses(BaseModel):
    """Where each part is reached. `temporal` and `smtp` are host:port, the others URLs."""

    api: str
    docs: str
    inbox: str
    temporal: str
    temporal_ui: str
    smtp: str
    console: str = ""  # a file of an older version has none


class RunFile(BaseModel):
    """Written when everything is healthy, renewed when a process gets another pid, removed at a
    clean stop. Holds the database's password, so mode 0600."""

    addresses: Addresses
    pids: dict[str, int]
    data_dir: Path
    api_key_file: Path
    database_url: str
    temporal_namespace: str

    @property
    def api_key(self) -> str:
        return self.api_key_file.read_text().strip()


def run_file_path(data_dir: Path) -> Path:
    return data_dir / "run.json"


def write_run_file(run: RunFile) -> None:
    text = json.dumps(run.model_dump(mode="json"), indent=2)
    write_private(run_file_path(run.data_dir), text + "\n")


def read_run_file(data_dir: Path) -> RunFile | None:
    """What the last start wrote, or None. It may be stale: see `supervisor.lock.holder_pid`."""
    path = run_file_path(data_dir)
    try:
        return RunFile.model_validate_json(path.read_text())
    except FileNotFoundError:
        return None
    except ValidationError:
        raise Refused(f"{path} is not readable as an address file: remove it") from None


def running_instance(data_dir: Path) -> RunFile:
    """The addresses of the instance on this data directory, for commands that talk to it."""
    run = read_run_file(data_dir)
    if run is None:
        raise Refused(
            f"no running instance on {data_dir}: start one with `make up`, or set CRM_DATA_DIR"
        )
    return run
