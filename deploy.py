"""Turn every host of the inventory into a healthy vLLM server: pyinfra INVENTORY deploy.py -y"""

from rackhand.operations import make_true, survey_and_plan
from tasks import account, driver, engine, gate, gpus, preflight, record, release, service, weights

survey_and_plan()

make_true(preflight.verdict, "Preflight | every host has a plan")
make_true(account.prepare, "Host | user, directories, packages")
make_true(driver.install, "Driver | install, pin, hold")
make_true(driver.activate, "Driver | load")
make_true(gpus.facts, "GPUs | NVML facts")
make_true(engine.environment, "Engine | environment")
make_true(weights.present, "Weights | present and checked")
make_true(release.stage, "Release | stage")
make_true(release.switch, "Release | switch")
make_true(service.retire, "Service | retire")
make_true(service.running, "Service | running")
make_true(gate.passed, "Gate | five tokens")
make_true(record.finish, "Record | done")
