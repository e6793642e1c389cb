"""The program that dnf's own Python runs: a line with + for what comes, with - for what goes, with = for an offer.

It knows nothing of ours, because the Python with dnf in it need not be the one that runs us.
"""

from __future__ import annotations

SCRIPT = """
import json, os, platform, shutil, sys
import dnf, dnf.callback, dnf.exceptions, dnf.subject, dnf.transaction

wish = json.loads(sys.argv[1])
own = [platform.machine(), "noarch"]


class Display(dnf.callback.TransactionProgress):
    last = None

    def progress(self, package, action, ti_done, ti_total, ts_done, ts_total):
        if package and self.last != (str(package), action):
            self.last = (str(package), action)
            print(dnf.transaction.ACTIONS.get(action, "at work on"), package, f"({ts_done} of {ts_total})", flush=True)

    def error(self, message):
        print("Error:", message, flush=True)


def say(sign, package):
    epoch = "" if str(package.epoch) == "0" else f"{package.epoch}:"
    print(sign, package.name, f"{epoch}{package.version}-{package.release}", package.arch, flush=True)


def begin():
    base = dnf.Base()
    base.conf.read()
    base.conf.assumeyes = True
    base.conf.install_weak_deps = False
    base.conf.clean_requirements_on_remove = False
    base.conf.installonly_limit = 0
    base.conf.best = True
    base.conf.disable_excludes = ["all"]
    base.conf.substitutions.update_from_etc("/")
    if wish.get("online"):
        base.read_all_repos()
        for repo in base.repos.get_matching(wish["repository"]):
            repo.enable()
    base.fill_sack(load_system_repo=True, load_available_repos=bool(wish.get("online")))
    return base


def signed(base, package):
    result, message = base.package_signature_check(package)
    if result == 1:
        base.package_import_key(package, fullaskcb=lambda data: True)
        result, message = base.package_signature_check(package)
    if result:
        raise dnf.exceptions.Error(f"GPG check FAILED: {message}")


def download(base):
    packages = {}
    for spec, file in wish["download"].items():
        found = dnf.subject.Subject(spec).get_best_query(base.sack, with_provides=False, with_filenames=False)
        found = found.available().filter(arch=own).run()
        if not found:
            raise dnf.exceptions.Error(f"Unable to find a match: {spec}")
        packages[file] = found[0]
    base.download_packages(list(packages.values()))
    for file, package in packages.items():
        signed(base, package)
        shutil.copyfile(package.localPkg(), os.path.join(wish["folder"], file))


def resolve(base):
    for package in base.add_remote_rpms(wish["files"]) if wish["files"] else []:
        base.package_install(package)
    for spec in wish["install"]:
        try:
            base.install(spec)
        except dnf.exceptions.MarkingError:
            raise dnf.exceptions.Error(f"Unable to find a match: {spec}")
    for name in wish["remove"]:
        base.remove(name)
    base.resolve(allow_erasing=True)
    for package in base.transaction.install_set:
        say("+", package)
    for package in base.transaction.remove_set:
        say("-", package)


def main():
    base = begin()
    if wish["action"] == "offers":
        for package in base.sack.query().available().filter(arch=own):
            full = f"{package.name}-{package.version}-{package.release}.{package.arch}"
            if package.name in wish["names"] or full in wish["names"]:
                say("=", package)
    if wish["action"] == "download":
        download(base)
    if wish["action"] in ("simulate", "run"):
        resolve(base)
    if wish["action"] == "run":
        base.do_transaction(Display())


try:
    main()
except dnf.exceptions.Error as error:
    print("Error:", error)
    sys.exit(1)
"""
