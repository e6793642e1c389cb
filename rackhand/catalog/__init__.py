"""Facts about the world that change with time, as YAML files beside this module; checked when they are first read."""

from rackhand.catalog.driver_sets import (
    DriverHost,
    DriverSet,
    branches,
    driver_packages,
    kernel_headers,
    pinned_patterns,
    ready_built,
)
from rackhand.catalog.drivers import Branch, Kind, Origin, Platform, branch, branch_of, default_branches, space_mib
from rackhand.catalog.failures import Failure, Phase, failures, phases
from rackhand.catalog.gpus import CardRow, GpuBook, gpu_book
from rackhand.catalog.option_checks import check_options, check_variables, deprecations
from rackhand.catalog.retired import check_text
from rackhand.catalog.vllm import Engine, engine, quantizations

__all__ = [
    "Branch",
    "CardRow",
    "DriverHost",
    "DriverSet",
    "Engine",
    "Failure",
    "GpuBook",
    "Kind",
    "Origin",
    "Phase",
    "Platform",
    "branch",
    "branch_of",
    "branches",
    "check_options",
    "check_text",
    "check_variables",
    "default_branches",
    "deprecations",
    "driver_packages",
    "engine",
    "failures",
    "gpu_book",
    "kernel_headers",
    "phases",
    "pinned_patterns",
    "quantizations",
    "ready_built",
    "space_mib",
]
