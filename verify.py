"""Say how healthy the GPUs of every host of the inventory are, and change nothing: pyinfra INVENTORY verify.py -y"""

from rackhand.verifying import verify

verify()
