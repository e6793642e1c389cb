"""Turn every host of the inventory into a healthy vLLM server: pyinfra INVENTORY deploy.py -y"""

from rackhand.operations import EVERY, ROUTER, make_true, survey_and_plan
from rackhand.turns import in_turns
from tasks import (
    account,
    activation,
    driver,
    engine,
    gate,
    gpu_setup,
    gpus,
    health,
    lease,
    preflight,
    program,
    record,
    release,
    router,
    switch,
    weights,
)

survey_and_plan()

make_true(preflight.verdict, "Preflight | every host has a plan")
make_true(lease.take, "Lease | one run at a time", EVERY)
make_true(account.prepare, "Host | user, directories, packages")
make_true(program.install, "Host | its own program")
make_true(driver.stage, "Driver | packages fetched, transaction simulated")
make_true(engine.environment, "Engine | environment")
make_true(weights.present, "Weights | present and checked")
make_true(release.stage, "Release | stage")
make_true(router.ready, "Router | knows all that may serve", ROUTER)

in_turns(
    (driver.install, "Driver | install, pin, hold"),
    (activation.activate, "Driver | load"),
    (gpu_setup.configured, "GPUs | persistence, fabric, nodes"),
    (gpus.facts, "GPUs | NVML facts"),
    (health.proven, "GPUs | healthy"),
    (release.stage, "Release | stage with its GPUs"),
    (switch.over, "Switch | drain, stop, start, gate"),
    (gate.passed, "Gate | five tokens"),
)

make_true(router.settle, "Router | knows what serves, tokens get through", ROUTER)
make_true(record.finish, "Record | done", EVERY)
