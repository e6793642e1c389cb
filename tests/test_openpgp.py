"""The fingerprint check agrees with real gpg and refuses everything that is not a public key."""

import subprocess
from collections.abc import Callable, Iterator

import pytest

from rackhand.remote.openpgp import fingerprints
from rackhand.remote.problem import Problem

Gpg = Callable[..., bytes]


@pytest.fixture(scope="module")
def gpg(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Gpg]:
    home = tmp_path_factory.mktemp("gpg")
    home.chmod(0o700)

    def run(*arguments: str) -> bytes:
        command = ["gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "", *arguments]
        return subprocess.run(command, check=True, capture_output=True).stdout

    run("--quick-generate-key", "Rsa <rsa@example.test>", "rsa2048", "sign", "never")
    run("--quick-generate-key", "Ed <ed@example.test>", "ed25519", "sign", "never")
    run("--quick-add-key", _names(run, "rsa")[0], "rsa2048", "encr", "never")
    yield run
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], check=True)


def _names(gpg: Gpg, who: str) -> list[str]:
    listing = gpg("--with-colons", "--list-keys", who).decode().splitlines()
    primary = [index for index, line in enumerate(listing) if line.startswith("pub:")]
    return [next(line for line in listing[index:] if line.startswith("fpr:")).split(":")[9] for index in primary]


@pytest.mark.parametrize("who", ["rsa", "ed"])
def test_an_armored_key_has_the_fingerprint_that_gpg_says(gpg: Gpg, who: str) -> None:
    assert fingerprints(gpg("--armor", "--export", who)) == _names(gpg, who)


@pytest.mark.parametrize("who", ["rsa", "ed"])
def test_a_binary_key_has_the_fingerprint_that_gpg_says(gpg: Gpg, who: str) -> None:
    assert fingerprints(gpg("--export", who)) == _names(gpg, who)


def test_several_keys_in_one_block_are_all_named_without_their_subkeys(gpg: Gpg) -> None:
    assert sorted(fingerprints(gpg("--armor", "--export"))) == sorted(_names(gpg, "rsa") + _names(gpg, "ed"))


def test_several_armored_blocks_in_one_file_are_all_named(gpg: Gpg) -> None:
    data = gpg("--armor", "--export", "ed") + b"\n" + gpg("--armor", "--export", "rsa")
    assert fingerprints(data) == _names(gpg, "ed") + _names(gpg, "rsa")


def test_windows_line_ends_and_headers_in_the_armor_do_not_matter(gpg: Gpg) -> None:
    armored = gpg("--armor", "--comment", "signing key", "--export", "ed").replace(b"\n", b"\r\n")
    assert fingerprints(armored) == _names(gpg, "ed")


def test_a_second_key_behind_the_first_cannot_hide(gpg: Gpg) -> None:
    assert len(fingerprints(gpg("--export", "ed") + gpg("--export", "rsa"))) == 2


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"<html><title>404</title></html>",
        b"\x00" * 64,
        b"\xff" * 64,
        b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n\nhello\n",
    ],
    ids=["empty", "a web page", "zeros", "ones", "a block without an end"],
)
def test_garbage_is_refused_in_words(data: bytes) -> None:
    with pytest.raises(Problem) as caught:
        fingerprints(data)
    assert caught.value.code == "repository-key"


def test_a_truncated_key_is_refused(gpg: Gpg) -> None:
    with pytest.raises(Problem):
        fingerprints(gpg("--export", "rsa")[:-10])


def test_a_flipped_letter_in_the_armor_is_refused(gpg: Gpg) -> None:
    lines = gpg("--armor", "--export", "rsa").splitlines(keepends=True)
    middle = len(lines) // 2
    lines[middle] = lines[middle][:5] + (b"A" if lines[middle][5:6] != b"A" else b"B") + lines[middle][6:]
    with pytest.raises(Problem):
        fingerprints(b"".join(lines))


def test_a_private_key_is_refused_because_a_repository_must_not_serve_one(gpg: Gpg) -> None:
    with pytest.raises(Problem):
        fingerprints(gpg("--armor", "--export-secret-keys", "ed"))
    with pytest.raises(Problem):
        fingerprints(gpg("--export-secret-keys", "ed"))


def test_a_key_cut_anywhere_never_yields_a_wrong_name(gpg: Gpg) -> None:
    key, (name,) = gpg("--export", "ed"), _names(gpg, "ed")
    for length in range(len(key)):
        try:
            found = fingerprints(key[:length])
        except Problem:
            continue
        assert found == [name]
