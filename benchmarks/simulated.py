"""Hosts that are not there: a process that answers for all of them.

It runs beside the deploy, so that the deploy's CPU time is its own. A connection speaks for one host: lines of JSON
{"host", "payload"} in, lines of JSON with what the code on a host prints out. What it waits for takes real time.
"""

import argparse
import asyncio
import base64
import copy
import json
import sys
import zlib
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.simulated_host import Pace, SimulatedHost
from tests.hosts_at_work import HOSTS

LINE = 1 << 26


async def serve(socket: Path, kind: str, pace: Pace) -> None:
    """Answer for hosts of one kind, each made when it is first spoken to, until standard input ends."""
    hosts: dict[str, SimulatedHost] = {}
    asked: Counter[str] = Counter()
    facts = HOSTS[kind].model_dump(mode="json")

    async def speak(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            call = json.loads(line)
            name = call["host"]
            if name not in hosts:
                hosts[name] = SimulatedHost(name=name, facts=copy.deepcopy(facts), pace=pace, asked=asked)
            payload = json.loads(zlib.decompress(base64.b64decode(call["payload"])))
            function = payload["call"].removeprefix("rackhand.remote.")
            result = await hosts[name].answer(function, payload["args"])
            writer.write(json.dumps({"result": result}).encode() + b"\n")
            await writer.drain()

    server = await asyncio.start_unix_server(speak, path=socket, limit=LINE)
    print("ready", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()
    print(json.dumps(dict(asked.most_common())), flush=True)


def main() -> None:
    """Answer until told to end."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("socket", type=Path)
    parser.add_argument("--kind", choices=sorted(HOSTS), default="2xRTX4090")
    for name, seconds in vars(Pace()).items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=float, default=seconds)
    given = parser.parse_args()
    pace = Pace(stop_s=given.stop_s, start_s=given.start_s, gate_s=given.gate_s)
    asyncio.run(serve(given.socket, given.kind, pace))


if __name__ == "__main__":
    main()
