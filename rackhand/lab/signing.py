"""A throwaway OpenPGP key, made once per cache, that signs the emulated repositories with the real gpg."""

from dataclasses import dataclass
from pathlib import Path

from rackhand.lab import shell

OWNER = "practice fleet driver repository <lab@rackhand.invalid>"
ALGORITHM = "rsa3072"


@dataclass(frozen=True, kw_only=True)
class Key:
    """A signing key: its gpg home, its 40-digit fingerprint, its armored public half."""

    home: Path
    fingerprint: str
    public: str


def key(home: Path) -> Key:
    """Return the key in the gpg home `home`, making it at the first call."""
    home.mkdir(parents=True, exist_ok=True, mode=0o700)
    if not _fingerprint(home):
        _gpg(
            home,
            "--passphrase",
            "",
            "--pinentry-mode",
            "loopback",
            "--quick-gen-key",
            OWNER,
            ALGORITHM,
            "sign",
            "never",
        )
    fingerprint = _fingerprint(home)
    public = _gpg(home, "--armor", "--export", fingerprint)
    _stop_agent(home)
    return Key(home=home, fingerprint=fingerprint, public=public)


def sign(key: Key, file: Path, *, inline: Path, detached: Path) -> None:
    """Sign `file` twice, as apt wants it: the text inside its signature, and a signature beside it."""
    who = ("--local-user", key.fingerprint, "--digest-algo", "SHA512")
    _gpg(key.home, *who, "--output", str(inline), "--clear-sign", str(file))
    _gpg(key.home, *who, "--armor", "--output", str(detached), "--detach-sign", str(file))
    _stop_agent(key.home)


def _fingerprint(home: Path) -> str:
    listing = _gpg(home, "--with-colons", "--list-keys")
    return next((line.split(":")[9] for line in listing.splitlines() if line.startswith("fpr:")), "")


def _gpg(home: Path, *words: str) -> str:
    return shell.run(["gpg", "--homedir", str(home), "--batch", "--quiet", "--yes", *words])


def _stop_agent(home: Path) -> None:
    """End the agent that gpg started for this home; it would outlive us."""
    shell.attempt(["gpgconf", "--homedir", str(home), "--kill", "gpg-agent"])
