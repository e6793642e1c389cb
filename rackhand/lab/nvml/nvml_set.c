/* libnvidia-ml.so.1 of a practice host: what root may set. Power limits are forgotten when the driver is unloaded, ECC
 * becomes what was set when it is loaded the next time. */
#include "nvml.h"

#include <stdlib.h>
#include <unistd.h>

int may_set(nvmlDevice_t handle, struct gpu **gpu)
{
    int refused = find_gpu(handle, gpu);
    if (refused)
        return refused;
    if (geteuid() && !getenv("RACKHAND_LAB_NVML_SET"))
        return NO_PERMISSION;
    fleet_read();
    return SUCCESS;
}

int nvmlDeviceSetPowerManagementLimit(nvmlDevice_t handle, unsigned milliwatts)
{
    struct gpu *gpu;
    int refused = may_set(handle, &gpu);
    if (refused)
        return refused;
    if (milliwatts < gpu->power_min_mw || milliwatts > gpu->power_max_mw)
        return INVALID_ARGUMENT;
    gpu->power_limit_mw = milliwatts;
    return fleet_save() ? SUCCESS : UNKNOWN;
}

int nvmlDeviceSetEccMode(nvmlDevice_t handle, unsigned on)
{
    struct gpu *gpu;
    int refused = may_set(handle, &gpu);
    if (refused || !gpu->ecc)
        return refused ? refused : NOT_SUPPORTED;
    gpu->ecc_off_pending = !on;
    return fleet_save_lasting() ? SUCCESS : UNKNOWN;
}
