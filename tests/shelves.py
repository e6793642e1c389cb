"""Build what lies below /opt/rackhand on a host: releases, environments, weights, and processes that use them."""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

MADE = 1_700_000_000.0
VLLM = ("0.31.0", "0.32.0", "0.33.0")


def digest(letter: str, number: int) -> str:
    """Return a name as our digests look, told apart by a letter from a to f and a number."""
    return f"{letter}{number:011d}"


@dataclass(frozen=True, kw_only=True)
class Laid:
    """One release as it is to be laid down; `at` is when its gate gave the verdict, in seconds after MADE."""

    number: int
    venv: int = 0
    model: int = 0
    verdict: str = "passed"
    at: int = 0
    config: int | None = None
    schema: int = 2
    readable: bool = True
    links: bool = True
    driver: str = "580.126.20"
    gpus: Sequence[str] = ("GPU-00000000-0000-0000-0000-000000000000",)

    @property
    def id(self) -> str:
        return digest("a", self.number)

    @property
    def venv_name(self) -> str:
        return digest("e", self.venv)

    @property
    def model_name(self) -> str:
        return f"tiny@{digest('d', self.model)}"

    @property
    def config_digest(self) -> str:
        return digest("c", self.number if self.config is None else self.config)

    def manifest(self) -> dict[str, Any]:
        """Return the manifest; schema 1 knows neither revision nor addresses."""
        instance = {"name": "tiny-0", "port": 8000, "gpus": list(self.gpus), "config": self.config_digest}
        newer = {"host": "0.0.0.0", "model_revision": "a" * 40, "start_timeout_s": 700, "request_timeout_s": 30}
        return {
            "schema": f"rackhand.release/{self.schema}",
            "id": self.id,
            "engine_version": VLLM[self.venv % len(VLLM)],
            "venv": self.venv_name,
            "model": self.model_name,
            "driver": self.driver,
            "served_name": "tiny",
            "unit_sha256": "0" * 64,
            "instances": [{**instance, "max_model_len": 256, "starts_after": None} if self.schema > 1 else instance],
            **(newer if self.schema > 1 else {}),
        }


@dataclass
class Shelf:
    """A root with what was laid into it, beside a /proc of files."""

    root: Path
    proc: Path
    laid: dict[str, Laid] = field(default_factory=dict)

    def lay(self, *releases: Laid) -> None:
        for each in releases:
            self.laid[each.id] = each
            self._venv(each.venv_name)
            self._model(each.model_name)
            place = self.root / "releases" / each.id
            write(place / "manifest.json", json.dumps(each.manifest()) if each.readable else "{")
            write(place / "vllm@.service", "[Unit]\n")
            write(place / "instances/tiny-0.yaml", "port: 8000\n")
            if each.links:
                (place / "venv").symlink_to(f"../../venvs/{each.venv_name}")
                (place / "model").symlink_to(f"../../models/{each.model_name}")
            if each.verdict:
                verdict = {"verdict": each.verdict, "at": MADE + each.at, "instances": {"tiny-0": {"start_s": 9.5}}}
                write(place / "verdict.json", json.dumps(verdict))
            os.utime(place / "manifest.json", (MADE, MADE + each.number))

    def _venv(self, name: str) -> None:
        write(self.root / "venvs" / name / "rackhand.json", json.dumps({"digest": name}))
        write(self.root / "venvs" / name / "lib/torch.so", name * 100)
        write(self.root / "venvs" / f"{name}.txt", "vllm\n")
        write(self.root / "cache" / name / "vllm/graph", "compiled")

    def _model(self, name: str) -> None:
        files = [{"path": "model.safetensors", "size": 4, "sha256": ""}]
        write(self.root / "models" / name / "model.safetensors", "1234")
        write(self.root / "models" / name / "rackhand.json", json.dumps({"files": files}))

    def link(self, name: str, release: str) -> None:
        (self.root / name).unlink(missing_ok=True)
        (self.root / name).symlink_to(f"releases/{release}")

    def order(self, **fields: str) -> None:
        write(self.root / "turn/order.json", json.dumps({"run": "r1", "kind": "switch", **fields}))

    def runs(self, pid: int, config: str, venv: str = "", maps: Sequence[str] = ()) -> None:
        """Let a process run that was started with a configuration, from an environment, with files mapped."""
        variables: Mapping[str, str] = {"PATH": f"{self.root}/venvs/{venv}/bin:/bin", "RACKHAND_CONFIG": config}
        write(self.proc / str(pid) / "environ", "\0".join(f"{name}={value}" for name, value in variables.items()))
        write(self.proc / str(pid) / "cmdline", f"python3\0{self.root}/current/venv/bin/vllm\0serve")
        write(self.proc / str(pid) / "maps", "".join(f"7f00-7f01 r--p 0 08:01 1  {path}\n" for path in maps))

    def there(self, kind: str) -> set[str]:
        """Name what lies in a folder, half-made and dying things left out."""
        return {path.name for path in (self.root / kind).glob("[!.]*")}

    def everything(self) -> set[str]:
        return {str(path.relative_to(self.root)) for path in self.root.rglob("*")}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
