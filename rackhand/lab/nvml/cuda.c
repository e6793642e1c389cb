/* libcuda.so.1 of a practice host: enough to say whether CUDA would start. */
#include "fleet.h"

#include <string.h>

enum { NO_DEVICE = 100, SYSTEM_NOT_READY = 802, SYSTEM_DRIVER_MISMATCH = 803, NOT_INITIALIZED = 3 };

static int started;

int cuInit(unsigned flags)
{
    (void)flags;
    fleet_read();
    if (fleet.loaded_version[0] && strcmp(fleet.loaded_version, DRIVER_VERSION))
        return SYSTEM_DRIVER_MISMATCH;
    if (!fleet.loaded_version[0] || !fleet.count)
        return NO_DEVICE;
    if (fleet.needs_fabric && !fabric_is_ready())
        return SYSTEM_NOT_READY;
    started = 1;
    return 0;
}

int cuDeviceGetCount(int *count)
{
    *count = 0;
    for (unsigned i = 0; started && i < fleet.count; i++)
        *count += !fleet.gpus[i].lost;
    return started ? 0 : NOT_INITIALIZED;
}

int cuDriverGetVersion(int *version)
{
    *version = CUDA_VERSION;
    return 0;
}
