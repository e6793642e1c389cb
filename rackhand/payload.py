"""Pack a call of rackhand.remote code so that `python3` on a host can run it from standard input.

Nothing is installed on the host and nothing of the arguments appears in its process list.
"""

import base64
import json
import zlib
from collections.abc import Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import pynvml

# Runs with the host's own python3; stays short because it is the one part that ps shows.
LOADER = (
    "import sys,json,zlib,base64,types\n"
    "p=json.loads(zlib.decompress(base64.b64decode(sys.stdin.buffer.read())))\n"
    "for n,s in p['modules']:\n"
    " m=sys.modules[n]=types.ModuleType(n);m.__path__=[]\n"
    " q,_,k=n.rpartition('.')\n"
    " if q:setattr(sys.modules[q],k,m)\n"
    " exec(compile(s,n,'exec'),m.__dict__)\n"
    "m,_,f=p['call'].rpartition('.')\n"
    "try:\n"
    " r={'result':getattr(sys.modules[m],f)(**p['args'])}\n"
    "except Exception as e:\n"
    " if not hasattr(e,'to_json'):raise\n"
    " r={'problem':e.to_json()}\n"
    "print(json.dumps(r))\n"
)
ORDER = ("problem", "host", "gpu", "state", "survey", "files", "openpgp", "command", "apt", "driver", "account", "venv", "weights", "release", "units", "gate")
PACKAGE = "rackhand.remote"


def pack(call: str, args: dict[str, Any]) -> str:
    """Return the text for standard input that calls `module.function` of rackhand.remote with `args`."""
    return _encode(_own_modules(), f"{PACKAGE}.{call}", args)


@cache
def nvml_probe() -> str:
    """Return the text for standard input that runs the NVML probe together with pynvml itself."""
    modules = [*_packages(), ("pynvml", Path(pynvml.__file__).read_text()), (f"{PACKAGE}.nvml", _source("nvml"))]
    return _encode(modules, f"{PACKAGE}.nvml.probe", {})


@cache
def _own_modules() -> tuple[tuple[str, str], ...]:
    return (*_packages(), *((f"{PACKAGE}.{name}", _source(name)) for name in ORDER))


def _packages() -> tuple[tuple[str, str], ...]:
    return (("rackhand", ""), (PACKAGE, ""))


def _source(name: str) -> str:
    return files(PACKAGE).joinpath(f"{name}.py").read_text()


def _encode(modules: Sequence[tuple[str, str]], call: str, args: dict[str, Any]) -> str:
    text = json.dumps({"modules": list(modules), "call": call, "args": args})
    return base64.encodebytes(zlib.compress(text.encode(), 6)).decode()
