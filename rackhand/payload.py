"""Pack a call of rackhand.remote code so that `python3` on a host can run it from standard input.

Nothing is installed on the host and nothing of the arguments appears in its process list.
"""

import ast
import base64
import json
import zlib
from collections.abc import Mapping, Sequence
from functools import cache, lru_cache
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
PACKAGE = "rackhand.remote"
LEVEL = 6
# Calls that are large, hold no secret, and go to many hosts in the same words.
ALIKE = ("survey.survey", "health.look")


def pack(call: str, args: dict[str, Any]) -> str:
    """Return the text for standard input that calls `module.function` of rackhand.remote with `args`."""
    pack_text = _packed_once if call in ALIKE else _packed
    return pack_text(call, json.dumps(args))


def _packed(call: str, args: str) -> str:
    begun, compressor = _compressed(call.partition(".")[0])
    rest = compressor.copy()
    text = f', "call": {json.dumps(f"{PACKAGE}.{call}")}, "args": {args}}}'
    return base64.encodebytes(begun + rest.compress(text.encode()) + rest.flush()).decode()


_packed_once = lru_cache(maxsize=16)(_packed)


@cache
def _compressed(module: str) -> tuple[bytes, "zlib._Compress"]:
    """Compress the code once for all calls; each goes on from a copy of the compressor."""
    modules = [*_packages(), *((f"{PACKAGE}.{name}", _source(name)) for name in _closure(module))]
    compressor = zlib.compressobj(LEVEL)
    return compressor.compress(f'{{"modules": {json.dumps(modules)}'.encode()), compressor


@cache
def nvml_probe() -> str:
    """Return the text for standard input that runs the NVML probe together with pynvml itself."""
    return _with_pynvml("nvml", "probe", {})


def gpu_modes(modes: Mapping[str, Any]) -> str:
    """Return the text for standard input that sets GPUs to `modes` by their PCI addresses, together with pynvml."""
    return _with_pynvml("gpu_modes", "apply", {"wishes": dict(modes)})


def gpu_load(seconds: int) -> str:
    """Return the text for standard input that samples the GPUs' utilisation for so long, together with pynvml."""
    return _with_pynvml("gpu_load", "sample", {"seconds": seconds})


@cache
def health_nvml(fabric_s: int) -> str:
    """Return the text that reads every GPU's health and waits so many seconds for a fabric, together with pynvml."""
    return _with_pynvml("health_nvml", "probe", {"fabric_s": fabric_s})


@cache
def health_cuda() -> str:
    """Return the text for standard input that starts CUDA."""
    return pack("health_cuda.init", {})


def _with_pynvml(module: str, function: str, args: dict[str, Any]) -> str:
    needed = [(f"{PACKAGE}.{name}", _source(name)) for name in _closure(module)]
    modules = [*_packages(), ("pynvml", Path(pynvml.__file__).read_text()), *needed]
    return _encode(modules, f"{PACKAGE}.{module}.{function}", args)


def sources(modules: Sequence[str]) -> dict[str, str]:
    """Return the texts of these modules of rackhand.remote and of all that they need, by their paths in an archive."""
    needed = dict.fromkeys(name for module in modules for name in _closure(module))
    packages = {f"{name.replace('.', '/')}/__init__.py": text for name, text in _packages()}
    own = {f"{PACKAGE.replace('.', '/')}/{name}.py": _source(name) for name in needed}
    return {**packages, **own, "pynvml.py": Path(pynvml.__file__).read_text()}


@cache
def _closure(module: str) -> tuple[str, ...]:
    """Return the modules of rackhand.remote that `module` needs, itself last."""
    tree = ast.parse(_source(module))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    direct = [alias.name for node in imports if node.module == PACKAGE for alias in node.names]
    direct += [
        node.module.rpartition(".")[2] for node in imports if node.module and node.module.startswith(f"{PACKAGE}.")
    ]
    needed = [name for dependency in direct for name in _closure(dependency)]
    return (*dict.fromkeys(needed), module)


def _packages() -> tuple[tuple[str, str], ...]:
    return (("rackhand", ""), (PACKAGE, ""))


@cache
def _source(name: str) -> str:
    return files(PACKAGE).joinpath(f"{name}.py").read_text()


def _encode(modules: Sequence[tuple[str, str]], call: str, args: dict[str, Any]) -> str:
    text = json.dumps({"modules": list(modules), "call": call, "args": args})
    return base64.encodebytes(zlib.compress(text.encode(), LEVEL)).decode()
