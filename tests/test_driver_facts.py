"""What a driver would be put onto is read from the host's files: kernels, the next boot, dpkg, apt's files, keys."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from rackhand.driver.ground import Ground
from rackhand.remote import apt_files, driver_facts, driver_files, kernels

RUNNING, NEWER = "6.8.0-45-generic", "6.8.0-100-generic"
STATUS = """Package: {name}
Status: {status}
Version: {version}
Architecture: amd64
Maintainer: nobody
Description: of a test
{depends}
"""


def dpkg(root: Path, *packages: tuple[str, str], depends: Mapping[str, str] | None = None, **status: str) -> None:
    """Let dpkg's database hold packages; `status` maps names with underscores to dpkg's three words."""
    folder = root / "var/lib/dpkg"
    (folder / "updates").mkdir(parents=True, exist_ok=True)
    blocks = []
    for name, version in packages:
        needs = (depends or {}).get(name)
        words = status.get(name.replace("-", "_"), "install ok installed")
        blocks.append(
            STATUS.format(name=name, version=version, status=words, depends=f"Depends: {needs}\n" if needs else "")
        )
    (folder / "status").write_text("\n".join(blocks))


def put(root: Path, path: str, text: str = "") -> Path:
    target = root / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_text(text)
    return target


def ground(root: Path, secure_boot: bool = False) -> Ground:
    return Ground.model_validate(driver_facts.facts(secure_boot, str(root), RUNNING))


def bootable(root: Path, *releases: str) -> None:
    for release in releases:
        put(root, f"boot/vmlinuz-{release}")


def test_a_host_whose_boot_directory_tells_nothing_boots_what_runs(tmp_path: Path) -> None:
    (only,) = kernels.kernels(str(tmp_path), RUNNING)
    assert (only["release"], only["running"], only["next"]) == (RUNNING, True, True)


def test_the_newest_kernel_boots_next_compared_by_numbers_and_not_as_text(tmp_path: Path) -> None:
    bootable(tmp_path, RUNNING, NEWER)
    found = [(each["release"], each["running"], each["next"]) for each in kernels.kernels(str(tmp_path), RUNNING)]
    assert found == [(RUNNING, True, False), (NEWER, False, True)]


MENU = f"""
if [ "${{next_entry}}" ] ; then
   set default="${{next_entry}}"
else
   set default="DEFAULT"
fi
menuentry 'Ubuntu' {{
        linux   /vmlinuz-{NEWER} root=UUID=1 ro
}}
submenu 'Advanced options for Ubuntu' {{
        menuentry 'Ubuntu, with Linux {RUNNING}' {{
                linux   /boot/vmlinuz-{RUNNING} root=UUID=1 ro
        }}
}}
menuentry 'Memory test' {{
        linux16 /boot/memtest86+.bin
}}
"""
TITLE = f"Advanced options for Ubuntu>Ubuntu, with Linux {RUNNING}"


@pytest.mark.parametrize(
    ("default", "saved", "boots"),
    [
        ("0", "", NEWER),
        ("1>0", "", RUNNING),
        ("${saved_entry}", "saved_entry=1>0\n", RUNNING),
        ("1>7", "", NEWER),
        ("2", "", NEWER),
        (TITLE, "", RUNNING),
        (f"gnulinux-advanced-1>gnulinux-{RUNNING}-advanced-1", "", RUNNING),
        ("${saved_entry}", f"saved_entry={TITLE}\n", RUNNING),
        ("0", f"next_entry={TITLE}\n", RUNNING),
        ("${saved_entry}", "", NEWER),
    ],
)
def test_grubs_default_decides_which_kernel_boots_next(tmp_path: Path, default: str, saved: str, boots: str) -> None:
    bootable(tmp_path, RUNNING, NEWER)
    put(tmp_path, "boot/grub/grub.cfg", MENU.replace("DEFAULT", default))
    put(tmp_path, "boot/grub/grubenv", f"# GRUB Environment Block\n{saved}")
    assert kernels.following(str(tmp_path), RUNNING) == boots


def test_without_grub_the_link_of_the_kernel_decides(tmp_path: Path) -> None:
    bootable(tmp_path, RUNNING, NEWER)
    (tmp_path / "vmlinuz").symlink_to(f"boot/vmlinuz-{RUNNING}")
    assert kernels.following(str(tmp_path), RUNNING) == RUNNING


@pytest.mark.parametrize(
    ("meta", "depends"),
    [
        ("linux-image-generic-hwe-24.04", f"linux-image-{NEWER}, linux-firmware"),
        ("linux-image-cloud-amd64", f"linux-image-{NEWER} (= 6.8.0-100.1)"),
        ("linux-image-generic", f"linux-image-unsigned-{NEWER} | linux-image-{NEWER}"),
    ],
)
def test_a_kernels_meta_package_is_the_one_that_depends_on_it(tmp_path: Path, meta: str, depends: str) -> None:
    bootable(tmp_path, RUNNING, NEWER)
    dpkg(
        tmp_path,
        (f"linux-image-{RUNNING}", "6.8.0-45.45"),
        (f"linux-image-{NEWER}", "6.8.0-100.1"),
        ("linux-image-virtual", "1"),
        (meta, "1"),
        depends={meta: depends, "linux-image-virtual": f"linux-image-{NEWER}-lowlatency"},
    )
    old, new = ground(tmp_path).kernels
    assert (old.package, old.meta) == (True, "")
    assert (new.package, new.meta, new.next) == (True, meta, True)


def test_headers_are_there_when_a_module_can_be_built_against_them(tmp_path: Path) -> None:
    put(tmp_path, f"lib/modules/{RUNNING}/build/Makefile")
    (kernel,) = ground(tmp_path).kernels
    assert kernel.headers
    (tmp_path / f"lib/modules/{RUNNING}/build/Makefile").unlink()
    assert not ground(tmp_path).kernels[0].headers


def test_ready_built_modules_on_offer_are_those_of_the_kernels_that_are_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bootable(tmp_path, RUNNING, NEWER)
    images = [(f"linux-image-{RUNNING}", "6.8.0-45.45"), (f"linux-image-{NEWER}", "6.8.0-100.1")]
    dpkg(tmp_path, *images, ("linux-image-virtual", "6"), depends={"linux-image-virtual": f"linux-image-{NEWER}"})
    kinds = (RUNNING, NEWER, "6.8.0-46-generic", "generic", "generic-hwe-24.04", "aws")
    names = [f"linux-modules-nvidia-580-server-open-{tail}" for tail in kinds]
    tool = put(tmp_path, "bin/apt-cache", f"#!/bin/sh\necho '{' '.join(names)}' | tr ' ' '\\n'\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    assert set(ground(tmp_path).modules_offered) == {*names[:4]} - {names[2]}
    assert [kernel.image for kernel in ground(tmp_path).kernels] == [True, True]


def test_a_kernel_without_the_module_has_no_version_of_it(tmp_path: Path) -> None:
    (tmp_path / "lib/modules" / RUNNING).mkdir(parents=True)
    assert ground(tmp_path).kernels[0].module == ""


def test_packages_of_the_driver_are_told_from_what_nvidia_numbers_apart(tmp_path: Path) -> None:
    driver = {"libcuda1": "580.126.20-1", "nvidia-alternative": "535.1-1~deb12u1", "linux-modules-nvidia-580-x": "6.8"}
    others = {"libnvidia-container1": "1.17", "nvidia-container-toolkit": "1.17", "libcublas-13-0": "13", "gcc": "12"}
    dpkg(tmp_path, *driver.items(), *others.items())
    assert ground(tmp_path).packages == driver


@pytest.mark.parametrize(
    "name",
    [
        *("libnvidia-ml-dev", "nvidia-opencl-dev", "nvidia-profiler", "nvidia-visual-profiler"),
        *("nvidia-cudnn", "nvidia-cg-dev", "nvidia-openjdk-8-jre", "nvidia-texture-tools"),
    ],
)
def test_tools_that_a_distribution_names_after_nvidia_are_no_packages_of_the_driver(tmp_path: Path, name: str) -> None:
    dpkg(tmp_path, (name, "11.8.89~11.8.0-5~deb12u1"))
    assert ground(tmp_path).packages == {}


def test_a_package_that_only_left_its_settings_behind_is_not_here(tmp_path: Path) -> None:
    dpkg(tmp_path, ("libcuda1", "580.95.05-1"), libcuda1="deinstall ok config-files")
    assert ground(tmp_path).packages == {}


def test_a_host_without_dpkg_has_no_packages_of_a_driver(tmp_path: Path) -> None:
    assert ground(tmp_path).packages == {}


def test_a_module_can_be_unloaded_where_the_kernel_counts_its_users(tmp_path: Path) -> None:
    assert not ground(tmp_path).unloadable
    put(tmp_path, "sys/module/nvidia/refcnt", "0\n")
    assert ground(tmp_path).unloadable


def test_every_place_has_free_space_and_places_of_one_disk_say_so(tmp_path: Path) -> None:
    places = ground(tmp_path).places
    assert [place.path for place in places] == ["/", "/boot", "/usr", "/var"]
    assert {place.device for place in places} == {tmp_path.stat().st_dev}
    assert all(place.free_mib > 0 for place in places)


@pytest.mark.parametrize(
    ("said", "expected"),
    [("is already enrolled", True), ("is not enrolled", False), ("EFI variables are not supported", None)],
)
def test_an_enrolled_key_is_what_mokutil_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, expected: bool | None
) -> None:
    key = put(tmp_path, "var/lib/dkms/mok.pub")
    tool = put(tmp_path, "bin/mokutil", f'#!/bin/sh\n[ "$1" = --test-key ] && echo "$2 {said}"\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    assert ground(tmp_path, secure_boot=True).key_enrolled is expected
    assert ground(tmp_path, secure_boot=False).key_enrolled is None
    key.unlink()
    assert ground(tmp_path, secure_boot=True).key_enrolled is None


def test_sources_of_both_forms_are_read_with_their_keys_and_ours_are_left_out(tmp_path: Path) -> None:
    put(tmp_path, "etc/apt/sources.list", "deb http://a.example/debian trixie main # own\n#deb http://b.example/ x y\n")
    put(tmp_path, "etc/apt/sources.list.d/cuda.list", "deb [arch=amd64 signed-by=/k.gpg] https://n.example/cuda/ /\n")
    block = "Types: deb deb-src\nURIs: https://c.example/one/\n https://c.example/two\nSuites: s\nSigned-By:\n"
    put(tmp_path, "etc/apt/sources.list.d/c.sources", f"{block} -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n")
    put(tmp_path, "etc/apt/sources.list.d/off.sources", "Enabled: no\nTypes: deb\nURIs: http://d.example\nSuites: s\n")
    put(tmp_path, "etc/apt/sources.list.d/rackhand-nvidia.sources", "Types: deb\nURIs: http://e.example\nSuites: /\n")
    put(tmp_path, "etc/apt/sources.list.d/cuda.list.save", "deb http://f.example /\n")
    found = [tuple(each.values()) for each in apt_files.sources(str(tmp_path))]
    assert found == [
        ("/etc/apt/sources.list", "http://a.example/debian", "trixie", ""),
        ("/etc/apt/sources.list.d/c.sources", "https://c.example/one", "s", apt_files.EMBEDDED),
        ("/etc/apt/sources.list.d/c.sources", "https://c.example/two", "s", apt_files.EMBEDDED),
        ("/etc/apt/sources.list.d/cuda.list", "https://n.example/cuda", "/", "/k.gpg"),
    ]


def test_pins_of_others_are_read_and_ours_are_left_out(tmp_path: Path) -> None:
    pin = "# why\nPackage: nvidia-*\nPin: version 580.95.05-*\nPin-Priority: 1000\n\n"
    put(tmp_path, "etc/apt/preferences.d/nvidia-driver-pin", pin + "Package: *\nPin: origin x\nPin-Priority: -1\n")
    put(tmp_path, "etc/apt/preferences.d/rackhand-nvidia", pin)
    put(tmp_path, "etc/apt/preferences.d/old.bak", pin)
    found: list[dict[str, Any]] = apt_files.preferences(str(tmp_path))
    assert [(each["packages"], each["pin"], each["priority"]) for each in found] == [
        ("nvidia-*", "version 580.95.05-*", 1000),
        ("*", "origin x", -1),
    ]


def test_beside_ready_built_modules_whatever_brings_a_newer_kernel_is_held() -> None:
    kernels_here = ["linux-image-6.8.0-90-generic", "linux-image-unsigned-6.8.0-90-generic"]
    metas = ["linux-generic", "linux-image-generic", "linux-headers-generic", "linux-virtual", "linux-image-virtual"]
    built = ["linux-modules-nvidia-580-server-open-generic", "nvidia-utils-580-server"]
    assert driver_files.holds(built, [*kernels_here, *metas, "gcc"]) == sorted([*built, *metas])
    assert driver_files.holds(["nvidia-dkms-580-open"], metas) == ["nvidia-dkms-580-open"]
