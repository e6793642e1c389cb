"""Put back what worked on every host of the inventory, from what lies there: pyinfra INVENTORY rollback.py -y"""

from rackhand.operations import EVERY, ROUTER, make_true, prepare
from rackhand.turns import in_turns
from tasks import activation, driver, gate, lease, program, record, rollback, router, switch

prepare(rollback.choose, "rollback", rollback.spare)

make_true(rollback.verdict, "Preflight | every host has a release to go back to")
make_true(lease.take, "Lease | one run at a time", EVERY)
make_true(program.install, "Host | its own program")
make_true(router.ready, "Router | knows all that may serve", ROUTER)

in_turns(
    (driver.restore, "Driver | put back, pin, hold"),
    (activation.activate, "Driver | load"),
    (switch.over, "Switch | drain, stop, start, gate"),
    (gate.passed, "Gate | five tokens"),
)

make_true(router.settle, "Router | knows what serves, tokens get through", ROUTER)
make_true(record.finish, "Record | done", EVERY)
