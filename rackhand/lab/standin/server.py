"""The HTTP side: vLLM's endpoints, its authentication and its error forms."""

import json
import os
import socket
import socketserver
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from . import completion, metrics
from .arguments import Arguments
from .faults import Engine
from .journal import log, log_engine

DEAD_ENGINE = (
    "vllm.v1.engine.exceptions.EngineDeadError: EngineCore encountered an issue. "
    "See stack trace (above) for the root cause."
)


class Server(ThreadingHTTPServer):
    """Serve one model; carries what the handlers need."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, arguments: Arguments, engine: Engine) -> None:
        self.address_family = socket.AF_INET6 if ":" in arguments.host else socket.AF_INET
        self.arguments = arguments
        self.engine = engine
        self.counters = completion.Counters()
        super().__init__((arguments.host, arguments.port), Handler)

    def drain(self, timeout_s: float) -> None:
        """Refuse new connections, then wait at most `timeout_s` for running requests."""
        self.shutdown()
        self.server_close()
        deadline = time.monotonic() + timeout_s
        while self.counters.running and time.monotonic() < deadline:
            time.sleep(0.02)

    # typing.override is newer than the oldest Python that this runs on, hence the ignores.
    def server_bind(self) -> None:  # type: ignore[explicit-override]
        """Bind without asking the resolver for the host's name, which may take seconds."""
        socketserver.TCPServer.server_bind(self)
        self.server_name, self.server_port = self.arguments.host, self.arguments.port

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # type: ignore[explicit-override]
        """Keep a client that left from filling the journal with tracebacks."""
        try:
            super().process_request_thread(request, client_address)
        except (BrokenPipeError, ConnectionResetError):
            return


class Handler(BaseHTTPRequestHandler):
    """Answer one connection."""

    protocol_version = "HTTP/1.1"
    server: Server

    def do_GET(self) -> None:
        """Answer the questions about the engine."""
        if not self._admitted():
            return
        answers = {
            "/health": self._health,
            "/ping": self._health,
            "/version": self._version,
            "/v1/models": self._models,
            "/metrics": self._metrics,
        }
        answers.get(self.path.split("?")[0], self._unknown)()

    def do_POST(self) -> None:
        """Answer completions."""
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if not self._admitted():
            return
        kinds = {"/v1/completions": False, "/v1/chat/completions": True}
        if self.path not in kinds:
            self._unknown()
            return
        try:
            fingerprint = self.server.engine.fingerprint
            request = completion.read(json.loads(body), chat=kinds[self.path], fingerprint=fingerprint)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._fail(HTTPStatus.BAD_REQUEST, f"malformed request: {error!r}", "BadRequestError")
            return
        self._complete(request)

    def log_message(self, format: str, *args: Any) -> None:  # type: ignore[explicit-override]
        """Write the access line, except for the paths that --disable-access-log-for-endpoints names."""
        quiet = self.server.arguments.given.get("disable-access-log-for-endpoints", [""])[0].split(",")
        if getattr(self, "path", "") not in quiet:
            print(f"INFO:     {self.client_address[0]}:{self.client_address[1]} - {format % args}", flush=True)

    def _admitted(self) -> bool:
        keys = self.server.arguments.api_keys
        if not keys or not self.path.startswith("/v1"):
            return True
        scheme, _, key = self.headers.get("Authorization", "").partition(" ")
        if scheme.lower() == "bearer" and key in keys:
            return True
        self._send_json(HTTPStatus.UNAUTHORIZED, {"error": "Unauthorized"})
        return False

    def _health(self) -> None:
        sick = self.server.engine.fault("unhealthy") is not None
        self._send(HTTPStatus.SERVICE_UNAVAILABLE if sick else HTTPStatus.OK, b"", "text/plain")

    def _version(self) -> None:
        wrong = self.server.engine.fault("wrong-version") is not None
        self._send_json(HTTPStatus.OK, {"version": "0.0.1" if wrong else self.server.engine.version})

    def _models(self) -> None:
        arguments, engine = self.server.arguments, self.server.engine
        context = arguments.max_model_len // (2 if engine.fault("wrong-context") is not None else 1)
        entry = {
            "id": self._served(),
            "object": "model",
            "owned_by": "vllm",
            "root": arguments.model,
            "max_model_len": context,
        }
        self._send_json(HTTPStatus.OK, {"object": "list", "data": [entry]})

    def _metrics(self) -> None:
        page = metrics.render(self._served(), self.server.counters)
        self._send(HTTPStatus.OK, page.encode(), "text/plain; version=1.0.0; charset=utf-8")

    def _unknown(self) -> None:
        self._send_json(HTTPStatus.NOT_FOUND, {"detail": "Not Found"})

    def _served(self) -> str:
        wrong = self.server.engine.fault("wrong-model-name") is not None
        return "another-model" if wrong else self.server.arguments.served_model_name

    def _complete(self, request: completion.Request) -> None:
        counters, context = self.server.counters, self.server.arguments.max_model_len
        if request.model != self._served():
            self._fail(HTTPStatus.NOT_FOUND, f"The model `{request.model}` does not exist.", "NotFoundError")
            return
        if request.prompt_tokens + request.max_tokens > context:
            self._fail(
                HTTPStatus.BAD_REQUEST, f"This model's maximum context length is {context} tokens.", "BadRequestError"
            )
            return
        counters.add(running=1, prompt_tokens=request.prompt_tokens)
        try:
            self._answer(request)
        finally:
            counters.add(running=-1, successes=1)

    def _answer(self, request: completion.Request) -> None:
        engine = self.server.engine
        if engine.fault("hangs-at-completion") is not None:
            time.sleep(10**9)
        if engine.fault("dies-at-completion") is not None:
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, "EngineCore encountered an issue.", "InternalServerError")
            die()
        elif engine.fault("completion-500") is not None:
            self._fail(HTTPStatus.INTERNAL_SERVER_ERROR, "Internal server error", "InternalServerError")
        elif engine.fault("garbage-completion") is not None:
            self._send(HTTPStatus.OK, b"\x00\xff not JSON", "application/json")
        elif request.stream:
            self._stream(request)
        else:
            words = list(completion.tokens(request, engine, self.server.counters))
            self._send_json(HTTPStatus.OK, completion.whole(request, "".join(words), len(words)))

    def _stream(self, request: completion.Request) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "text/event-stream; charset=utf-8")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        count = 0
        for word in completion.tokens(request, self.server.engine, self.server.counters):
            count += 1
            self._event(json.dumps(completion.chunk(request, word, "length" if count == request.max_tokens else None)))
        if request.include_usage:
            self._event(
                json.dumps(
                    {**completion.chunk(request, "", None), "choices": [], "usage": completion.usage(request, count)}
                )
            )
        self._event("[DONE]")
        self.wfile.write(b"0\r\n\r\n")

    def _event(self, data: str) -> None:
        event = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        self.wfile.flush()

    def _fail(self, status: HTTPStatus, message: str, kind: str) -> None:
        self._send_json(status, {"error": {"message": message, "type": kind, "param": None, "code": int(status)}})

    def _send_json(self, status: HTTPStatus, document: dict[str, Any]) -> None:
        self._send(status, json.dumps(document).encode(), "application/json")

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def die() -> None:
    """End as vLLM does when its engine dies after readiness: a traceback, a clean shutdown, status 0."""
    log_engine("EngineCore encountered a fatal error.", level="ERROR", source="core.py:1120")
    log(DEAD_ENGINE, level="ERROR", source="async_llm.py:701")
    threading.Timer(0.05, os._exit, (0,)).start()
